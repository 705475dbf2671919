"""Requests to one remote object, each sent once: ranges of it, or all of it."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from vidembed import addresses
from vidembed.errors import ClipError
from vidembed.remote.failures import NoRangesError, changed
from vidembed.remote.filesystems import reader
from vidembed.remote.retry import ShortReadError, status_of

if TYPE_CHECKING:
    from vidembed.access import Access

_CHUNK = 1 << 20
# A server that says nothing for this long has lost us. Of the whole answer there is no limit.
_CONNECT_S, _SILENCE_S = 10.0, 15.0


class Part(NamedTuple):
    """An answer: the bytes of a range, and of the whole object its size and version."""

    data: bytes
    size: int
    version: str


class Transport(ABC):
    """One object. fetched: bytes of it that came over the network; requests: how many were sent.

    Errors are those of the back end, but for ClipError `TooLarge`, said before a body is read,
    NoRangesError, and ShortReadError.
    """

    def __init__(self, uri: str, fs: Any, path: str, max_bytes: int) -> None:
        self.uri = uri
        self.fetched = 0
        self.requests = 0
        self._fs = fs
        self._path = path
        self._max_bytes = max_bytes

    @abstractmethod
    def part(self, start: int, end: int) -> Part:
        """Bytes `start` to `end`, or less at the object's end."""

    @abstractmethod
    def whole(self, target: IO[bytes]) -> int:
        """All bytes into `target`, in one request; returns how many."""

    def confirm(self, version: str) -> None:  # noqa: B027 (to be overridden, not required)
        """Raise ClipError `ReadFailed` where the object is another now, and not told before."""

    def _admit(self, size: int) -> None:
        if size > self._max_bytes:
            shown = addresses.shown(self.uri)
            raise ClipError("TooLarge", f"{shown}: {size:,} bytes, more than {self._max_bytes:,}")

    def _refuse_more_than_admitted(self, received: int) -> None:
        if received > self._max_bytes:
            shown = addresses.shown(self.uri)
            raise ClipError("TooLarge", f"{shown}: more than {self._max_bytes:,} bytes")

    def _answer(self, content_range: str | None, asked: tuple[int, int]) -> tuple[int, int]:
        """(bytes that the answer will hold, size of the object)."""
        found = re.match(r"bytes (\d+)-(\d+)/(\d+)$", (content_range or "").strip())
        if not found:
            raise NoRangesError(f"{addresses.shown(self.uri)}: no range, or no size")
        first, last, size = map(int, found.groups())
        self._admit(size)
        if first != asked[0] or last >= asked[1]:
            raise NoRangesError(f"{addresses.shown(self.uri)}: another range than asked for")
        return last - first + 1, size


def transport(uri: str, max_bytes: int, access: Access | None = None) -> Transport:
    """How to reach `uri`. Raises ConfigError where its scheme or library is unknown."""
    fs, path = reader(uri, access)
    if addresses.is_web(uri):
        return _Web(uri, fs, path, max_bytes)
    if addresses.scheme(uri) in ("s3", "s3a"):
        return _S3(uri, fs, path, max_bytes)
    return _Any(uri, fs, path, max_bytes)


class _Async(Transport):
    """A back end whose client is asynchronous; its requests run on fsspec's own loop."""

    def part(self, start: int, end: int) -> Part:
        from fsspec.asyn import sync

        found: Part = sync(self._fs.loop, self._part, start, end)
        return found

    def whole(self, target: IO[bytes]) -> int:
        from fsspec.asyn import sync

        copied: int = sync(self._fs.loop, self._whole, target)
        return copied

    @abstractmethod
    async def _part(self, start: int, end: int) -> Part: ...

    @abstractmethod
    async def _whole(self, target: IO[bytes]) -> int: ...


class _Web(_Async):
    """HTTP. No HEAD: addresses that are signed for GET refuse it."""

    def __init__(self, *words: Any) -> None:
        super().__init__(*words)
        self._at: Any = self._fs.encode_url(self._path)
        self._named = self._at

    async def _part(self, start: int, end: int) -> Part:
        try:
            return await self._request(start, end)
        except Exception as error:
            # Where a redirect led may be signed, and the signature run out.
            if self._at == self._named or status_of(error) not in (401, 403, 404, 410):
                raise
        self._at = self._named
        return await self._request(start, end)

    async def _request(self, start: int, end: int) -> Part:
        async with await self._get({"Range": f"bytes={start}-{end - 1}"}) as response:
            if response.status == 416:
                if start == 0 and (response.headers.get("Content-Range") or "").endswith("/0"):
                    return Part(b"", 0, _version(response.headers))
                raise changed(self.uri)
            response.raise_for_status()
            if response.status != 206 or _is_encoded(response.headers):
                if length := response.headers.get("Content-Length"):
                    self._admit(int(length))
                raise NoRangesError(f"{addresses.shown(self.uri)}: ranges are ignored")
            length, size = self._answer(response.headers.get("Content-Range"), (start, end))
            data = bytearray()
            async for chunk in response.content.iter_chunked(_CHUNK):
                self.fetched += len(chunk)
                data += chunk
                if len(data) > length:
                    raise NoRangesError(f"{addresses.shown(self.uri)}: more than asked for")
            if len(data) < length:
                raise ShortReadError(f"{len(data):,} of {length:,} bytes came")
            if response.history:
                # One mirror for all parts: another may give the same file another version.
                self._at = response.url
            return Part(bytes(data), size, _version(response.headers))

    async def _whole(self, target: IO[bytes]) -> int:
        received = 0
        async with await self._get({}) as response:
            response.raise_for_status()
            length = response.headers.get("Content-Length")
            if length and not _is_encoded(response.headers):
                self._admit(int(length))
            async for chunk in response.content.iter_chunked(_CHUNK):
                self.fetched += len(chunk)
                received += len(chunk)
                self._refuse_more_than_admitted(received)
                target.write(chunk)
        return received

    async def _get(self, headers: dict[str, str]) -> Any:
        import aiohttp

        self.requests += 1
        session = await self._fs.set_session()
        options = dict(self._fs.kwargs)
        # Compressed, the bytes at a place would be others.
        headers = {**options.pop("headers", {}), "Accept-Encoding": "identity", **headers}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENCE_S)
        return await session.get(self._at, **{"timeout": timeout, **options, "headers": headers})


class _S3(_Async):
    """S3. No HEAD, and no VersionId, which takes a permission of its own."""

    async def _part(self, start: int, end: int) -> Part:
        try:
            response = await self._get(Range=f"bytes={start}-{end - 1}")
        except OSError as error:
            if status_of(error) != 416:
                raise
            if start > 0 or await self._size() > 0:
                raise changed(self.uri) from error
            return Part(b"", 0, "")
        body = response["Body"]
        try:
            length, size = self._answer(response.get("ContentRange"), (start, end))
            data = bytearray()
            while chunk := await body.read(_CHUNK):
                self.fetched += len(chunk)
                data += chunk
        finally:
            body.close()
        if len(data) != length:
            raise ShortReadError(f"{len(data):,} of {length:,} bytes came")
        return Part(bytes(data), size, response.get("ETag") or "")

    async def _whole(self, target: IO[bytes]) -> int:
        response = await self._get()
        received = 0
        body = response["Body"]
        try:
            self._admit(response.get("ContentLength") or 0)
            while chunk := await body.read(_CHUNK):
                self.fetched += len(chunk)
                received += len(chunk)
                target.write(chunk)
        finally:
            body.close()
        return received

    async def _get(self, **options: str) -> Any:
        return await self._call("get_object", **options)

    async def _size(self) -> int:
        return int((await self._call("head_object"))["ContentLength"])

    async def _call(self, operation: str, **options: str) -> Any:
        self.requests += 1
        bucket, key, version = self._fs.split_path(self._path)
        if version:
            options["VersionId"] = version
        return await self._fs._call_s3(operation, Bucket=bucket, Key=key, **options)


class _Any(Transport):
    """Any other file system of fsspec's: its size and version are asked for at both ends."""

    _VERSIONS = ("ETag", "etag", "generation", "md5Hash", "content_md5", "LastModified",
                 "last_modified", "updated", "mtime", "created")  # fmt: skip

    def __init__(self, *words: Any) -> None:
        super().__init__(*words)
        self._known: tuple[int, str] | None = None

    def part(self, start: int, end: int) -> Part:
        size, version = self._info()
        end = min(end, size)
        if start >= end:
            return Part(b"", size, version)
        self.requests += 1
        data: bytes = self._fs.cat_file(self._path, start=start, end=end)
        self.fetched += len(data)
        if len(data) != end - start:
            raise ShortReadError(f"{len(data):,} of {end - start:,} bytes came")
        return Part(data, size, version)

    def whole(self, target: IO[bytes]) -> int:
        received = 0
        self.requests += 1
        with self._fs.open(self._path, "rb") as source:
            while chunk := source.read(4 * _CHUNK):
                self.fetched += len(chunk)
                received += len(chunk)
                self._refuse_more_than_admitted(received)
                target.write(chunk)
        return received

    def confirm(self, version: str) -> None:
        self._known = None
        if self._info()[1] != version:
            raise changed(self.uri)

    def _info(self) -> tuple[int, str]:
        if self._known is None:
            self.requests += 1
            info = self._fs.info(self._path)
            shown = addresses.shown(self.uri)
            if info.get("type") != "file":
                raise ClipError("Unsupported", f"{shown}: a {info.get('type')}, not a file")
            if info.get("size") is None:
                raise NoRangesError(f"{shown}: its size is not known")
            self._admit(info["size"])
            told = [str(info[name]) for name in self._VERSIONS if info.get(name)]
            self._known = (info["size"], " ".join(told))
        return self._known


def _version(headers: Any) -> str:
    """What tells one state of a file from another: its ETag, else its date."""
    tag = headers.get("ETag") or headers.get("Last-Modified") or ""
    return str(tag).removeprefix("W/")


def _is_encoded(headers: Any) -> bool:
    return (headers.get("Content-Encoding") or "identity").lower() not in ("identity", "")
