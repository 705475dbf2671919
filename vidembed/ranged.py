"""A remote file that is read in place: only the ranges that are asked for are fetched."""

from __future__ import annotations

import io
import os
import time
from collections import OrderedDict
from typing import IO, TYPE_CHECKING, Any, TypeVar

from vidembed import addresses
from vidembed.remote.failures import NoRangesError, changed, clip_error
from vidembed.remote.retry import patiently
from vidembed.remote.transport import transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidembed.access import Access
    from vidembed.remote.transport import Part, Transport

__all__ = ["NoRangesError", "RangedFile", "open_ranged"]

_Result = TypeVar("_Result")

_PAGE = 128 << 10
_MOST_PAGES = 32
# Ends of a file are kept: containers have their index there, and it is read more than once.
_KEPT_HEAD = 1 << 20
_KEPT_TAIL = 4 << 20
_CACHED_PAGES = (11 << 20) // _PAGE
# Audio and video that are not interleaved are read at two places in turn.
_STREAMS = 8
_COPIED = 16 << 20


def open_ranged(uri: str, *, max_bytes: int, access: Access | None = None) -> RangedFile:
    """`uri` opened for reading in place. access: whose address it is; None where the user named it.

    Raises ClipError NotFound, Forbidden, TooLarge (before any of it is fetched) or ReadFailed; and
    NoRangesError where the server has no ranges or tells no size: copy it with `sources.fetch`.
    Reading raises the same, NoRangesError too: of several servers behind one name, one may differ.
    """
    try:
        if access is not None:
            access.check(uri)
        return RangedFile(transport(uri, max_bytes, access))
    except Exception as error:
        raise clip_error(uri, error) from error


class RangedFile(io.RawIOBase):
    """A seekable binary file, for one thread. `read` returns all that is asked for, less only at
    the end.

    Memory: 16 MiB of the file, and an answer of up to 4 MiB. Reading on from where an answer ended
    doubles the next one, from 128 KiB; any other place begins small again.

    size: bytes of the file. name: its address, without credentials and query. version: its ETag or
    what the back end has in its place; empty where it has none. waited: seconds for the network,
    pauses between attempts included.
    """

    name: str

    def __init__(self, remote: Transport) -> None:
        self._remote = remote
        self.waited = 0.0
        self._position = 0
        self._ends: dict[int, bytes] = {}
        self._recent: OrderedDict[int, bytes] = OrderedDict()
        # Where an answer ended -> how many pages it had.
        self._streams: OrderedDict[int, int] = OrderedDict()
        self.name = addresses.shown(remote.uri)
        first: Part = self._patiently(lambda: remote.part(0, _PAGE))
        self.size = first.size
        self.version = first.version
        self._store(0, self._completed(first.data, 0, min(_PAGE, first.size)))
        self._streams[1] = 1

    @property
    def fetched(self) -> int:
        """Bytes that came over the network, those of broken answers included."""
        return self._remote.fetched

    @property
    def requests(self) -> int:
        """Requests that were sent, those that failed included."""
        return self._remote.requests

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        starts = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}
        if whence not in starts:
            raise ValueError(f"whence is {whence}; expected 0, 1 or 2")
        position = starts[whence] + offset
        if position < 0:
            raise ValueError(f"position {position} lies before the beginning")
        self._position = position
        return position

    def read(self, size: int | None = -1, /) -> bytes:
        if self.closed:
            raise ValueError("the file is closed")
        start = self._position
        end = self.size if size is None or size < 0 else min(start + size, self.size)
        if start >= end:
            return b""
        pieces = []
        at = start
        while at < end:
            page, skip = divmod(at, _PAGE)
            data = self._page(page, _pages(end))
            pieces.append(data[skip : skip + end - at])
            at += len(pieces[-1])
        self._position = end
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def copy_to(self, target: IO[bytes]) -> int:
        """Write the whole file to `target`; returns its size. Raises ClipError."""
        at = 0
        while at < self.size:
            data = self._cached(at // _PAGE)
            if data is None:
                data = self._fetch(at, min(at + _COPIED, self.size))
            target.write(data)
            at += len(data)
        self.confirm()
        return at

    def confirm(self) -> None:
        """Raise ClipError ReadFailed where the file is no longer the one that was opened.

        Web and S3 are compared at every answer; for other back ends call this at the end. Leaving
        a `with` block without an error does.
        """
        try:
            self._patiently(lambda: self._remote.confirm(self.version))
        except Exception as error:
            raise clip_error(self._remote.uri, error) from error

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:  # noqa: PYI036
        super().__exit__(kind, *rest)
        if kind is None:
            self.confirm()

    def _page(self, page: int, wanted: int) -> bytes:
        """A page, fetched with what lies before page `wanted`, or further where reading goes on."""
        data = self._cached(page)
        if data is not None:
            return data
        ahead = min(2 * self._streams.pop(page, 0) or 1, _MOST_PAGES)
        last = page + min(max(ahead, wanted - page), _MOST_PAGES)
        last = min(last, _pages(self.size))
        known = (p for p in range(page + 1, last) if self._cached(p) is not None)
        last = next(known, last)
        self._store(page, self._fetch(page * _PAGE, min(last * _PAGE, self.size)))
        self._streams[last] = ahead
        if len(self._streams) > _STREAMS:
            self._streams.popitem(last=False)
        fetched = self._cached(page)
        assert fetched is not None
        return fetched

    def _cached(self, page: int) -> bytes | None:
        if page in self._recent:
            self._recent.move_to_end(page)
            return self._recent[page]
        return self._ends.get(page)

    def _store(self, page: int, data: bytes) -> None:
        for at in range(0, len(data), _PAGE):
            place = page * _PAGE
            is_end = place < _KEPT_HEAD or place + _PAGE > self.size - _KEPT_TAIL
            pages = self._ends if is_end else self._recent
            pages[page] = data[at : at + _PAGE]
            page += 1
        while len(self._recent) > _CACHED_PAGES:
            self._recent.popitem(last=False)

    def _fetch(self, start: int, end: int) -> bytes:
        try:
            return self._completed(b"", start, end)
        except Exception as error:
            raise clip_error(self._remote.uri, error) from error

    def _patiently(self, request: Callable[[], _Result]) -> _Result:
        began = time.monotonic()
        try:
            return patiently(request)
        finally:
            self.waited += time.monotonic() - began

    def _completed(self, data: bytes, start: int, end: int) -> bytes:
        """`data` and what is missing of `start` to `end`: a server may answer with less."""
        while len(data) < end - start:
            at = start + len(data)
            part = self._patiently(lambda at=at: self._remote.part(at, end))  # type: ignore[misc]
            if (part.size, part.version) != (self.size, self.version) or not part.data:
                raise changed(self._remote.uri)
            data = data + part.data if data else part.data
        return data


def _pages(size: int) -> int:
    return -(-size // _PAGE)
