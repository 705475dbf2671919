"""Whether libavcodec complains while decord reads: it hands out concealed frames without a word."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import av.logging

if TYPE_CHECKING:
    from collections.abc import Iterator

# A line of libavcodec's log; and one that is a complaint: by a codec, none of the harmless ones.
_LOG_LINE = re.compile(rb"\[\w+ @ 0x[0-9a-f]+\]")
_COMPLAINT = re.compile(
    rb"\[(?!in |out |swscaler |Parsed_|auto_)\w+ @ 0x[0-9a-f]+\] "
    rb"(?!Reinit context|Increasing reorder buffer|Video uses a non-standard)"
)


@contextmanager
def complaints() -> Iterator[Complaints]:
    """Tells, when called, whether there has been a complaint since.

    The only trace of damage is the log line that decord's own libavcodec writes to file
    descriptor 2. Where decord was loaded before PyAV, the two share libavcodec's symbols, and
    PyAV catches the line instead.
    """
    saved = os.dup(2)
    with tempfile.TemporaryFile() as log, av.logging.Capture(local=False) as caught:
        os.dup2(log.fileno(), 2)
        check = Complaints(log.fileno(), caught)
        try:
            yield check
        finally:
            os.dup2(saved, 2)
            check.pass_on(saved)
            os.close(saved)


class Complaints:
    """See `complaints`."""

    def __init__(self, log: int, caught: list[Any]) -> None:
        self._log, self._caught = log, caught

    def __call__(self) -> bool:
        return bool(self._caught) or bool(_COMPLAINT.search(self._text()))

    def pass_on(self, to: int) -> None:
        """What others of this process wrote meanwhile goes where they meant it to go."""
        lines = self._text().splitlines(keepends=True)
        if others := b"".join(line for line in lines if not _LOG_LINE.search(line)):
            os.write(to, others)

    def _text(self) -> bytes:
        size = os.fstat(self._log).st_size
        return os.pread(self._log, min(size, 1 << 20), 0) if size else b""
