"""How files are cut into parts: the boxes of ISO media (ISO/IEC 14496-12 §4.2), and the segment of
Matroska (RFC 9559).
"""

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


def segment_end(file: IO[bytes]) -> int:
    """Where the segment of a Matroska file ends, in bytes; 0 for other files, and where the writer
    could not know.
    """
    file.seek(0)
    head = file.read(1024)
    if head[:4] != b"\x1a\x45\xdf\xa3":
        return 0
    length, at = _variable(head, 4)
    at += length
    if head[at : at + 4] != b"\x18\x53\x80\x67":
        return 0
    length, begin = _variable(head, at + 4)
    unknown = (1 << 7 * (begin - at - 4)) - 1
    return 0 if length == unknown else begin + length


def _variable(data: bytes, at: int) -> tuple[int, int]:
    """A number of variable length (RFC 8794 §4), and where it ends."""
    first = data[at] if at < len(data) else 0
    width = 9 - first.bit_length() if first else 1
    value = int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1)
    return value, at + width
