"""Keeps what native code writes to standard error off the terminal, and in a file instead.

Ray's C++ core, gRPC and the decoders write to file descriptor 2 directly; no logging setting of
Python reaches them. What Python itself writes to `sys.stderr` still goes where it did.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def native_stderr_to(path: str) -> Iterator[None]:
    """Append to `path` what is written to file descriptor 2 meanwhile."""
    sys.stderr.flush()
    saved = os.dup(2)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 2)
    os.close(log)
    before = sys.stderr
    if _is_descriptor_2(before):
        sys.stderr = os.fdopen(os.dup(saved), "w", buffering=1, encoding="utf-8", errors="replace")
    try:
        yield
    finally:
        if sys.stderr is not before:
            sys.stderr.close()
            sys.stderr = before
        os.dup2(saved, 2)
        os.close(saved)


def _is_descriptor_2(stream: object) -> bool:
    # A notebook's or a test's stand-in is not, and must stay.
    try:
        return stream.fileno() == 2  # type: ignore[attr-defined,no-any-return]
    except (AttributeError, OSError, ValueError):
        return False
