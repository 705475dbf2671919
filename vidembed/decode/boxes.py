"""The boxes of an ISO media file (ISO/IEC 14496-12 §4.2), as far as an index needs them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# A file of more boxes on one level is no video that anybody made.
_MOST = 1 << 16


@dataclass(frozen=True, slots=True)
class Box:
    """kind: its four letters; content and end: where its content begins and ends, in bytes."""

    kind: bytes
    content: int
    end: int


def boxes(file: IO[bytes]) -> Iterator[Box]:
    """The top-level boxes; `end` of the last one may lie beyond the end of a file that was cut."""
    size = file.seek(0, os.SEEK_END)
    at = 0
    for _ in range(_MOST):
        if at + 8 > size:
            return
        file.seek(at)
        box = _box(file.read(16), at, size)
        if box is None:
            return
        yield box
        at = box.end


def children(data: bytes, box: Box | None = None) -> Iterator[Box]:
    """The boxes within `box`, or within all of `data`."""
    at, end = (box.content, box.end) if box else (0, len(data))
    for _ in range(_MOST):
        if at + 8 > end:
            return
        found = _box(data[at : at + 16], at, end)
        if found is None or found.end > end:
            return
        yield found
        at = found.end


def _box(head: bytes, at: int, size: int) -> Box | None:
    length, content = int.from_bytes(head[:4], "big"), at + 8
    if length == 1:
        length, content = int.from_bytes(head[8:16], "big"), at + 16
    elif length == 0:
        length = size - at
    if length < content - at:
        return None
    return Box(head[4:8], content, at + length)
