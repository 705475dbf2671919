"""Range requests of HTTP (RFC 9110, section 14): which bytes of a file are asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ONE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes [start, end) of a file of `size` bytes."""

    start: int
    end: int
    size: int

    @property
    def content_range(self) -> str:
        return f"bytes {self.start}-{self.end - 1}/{self.size}"


class UnsatisfiableError(Exception):
    """The range lies behind the end of the file: answer 416."""


def asked_for(header: str | None, size: int) -> Span | None:
    """The range of a `Range` header; None where all of the file is to be sent: without one, with
    one that is malformed, or of several ranges, which a server may ignore.

    >>> asked_for("bytes=2-5", 10), asked_for("bytes=-3", 10), asked_for("bytes=7-", 10)
    (Span(start=2, end=6, size=10), Span(start=7, end=10, size=10), Span(start=7, end=10, size=10))
    """
    found = _ONE.fullmatch((header or "").strip())
    if not found or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        length = min(int(last), size)
        if not length:
            raise UnsatisfiableError
        return Span(size - length, size, size)
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        raise UnsatisfiableError
    return Span(start, min(int(last) + 1, size) if last else size, size)
