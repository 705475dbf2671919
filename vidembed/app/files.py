"""A row's video, opened for reading: here or elsewhere, and only where its run may open it."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from vidembed import addresses
from vidembed.access import check_regular
from vidembed.app.containers import HEAD, Container, container
from vidembed.errors import ClipError
from vidembed.ranged import NoRangesError, open_ranged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidembed.access import Access

_MAX_BYTES = 64 << 30


@dataclass(slots=True)
class Video:
    """An open file of `size` bytes. etag: the state of the file, for the browser's cache."""

    stream: IO[bytes]
    size: int
    etag: str
    container: Container

    def chunks(self, start: int, end: int, size: int = 256 << 10) -> Iterator[bytes]:
        """Bytes [start, end); closes the file when they are through, or not wanted any more."""
        try:
            self.stream.seek(start)
            while start < end:
                data = self.stream.read(min(size, end - start))
                if not data:
                    return
                start += len(data)
                yield data
        finally:
            self.stream.close()

    def close(self) -> None:
        self.stream.close()


def open_video(uri: str, access: Access) -> Video:
    """The file of a row. Raises ClipError: NotFound, Forbidden, ReadFailed, or Unsupported where it
    is no container of video, whatever its name: a stranger's row may name any file.
    """
    access.check(uri)
    with _told(uri):
        stream, size, state = _opened(uri, access)
    try:
        with _told(uri):
            found = container(stream.read(HEAD))
        if found is None:
            text = f"{addresses.shown(uri)}: it does not begin as a video does, and is not served"
            raise ClipError("Unsupported", text)
    except BaseException:
        stream.close()
        raise
    return Video(stream, size, f'"{hashlib.sha256(state.encode()).hexdigest()[:32]}"', found)


def _opened(uri: str, access: Access) -> tuple[IO[bytes], int, str]:
    """The stream, its size, and what tells its state from another; empty where nothing does."""
    if addresses.is_local(uri):
        path = addresses.local_path(uri)
        check_regular(path)
        local = open(path, "rb")  # noqa: SIM115 - the caller's
        facts = os.fstat(local.fileno())
        return local, facts.st_size, f"{uri} {facts.st_size} {facts.st_mtime_ns}"
    remote = open_ranged(uri, max_bytes=_MAX_BYTES, access=access)
    return remote, remote.size, f"{uri} {remote.size} {remote.version}"  # type: ignore[return-value]


@contextmanager
def _told(uri: str) -> Iterator[None]:
    shown = addresses.shown(uri)
    try:
        yield
    except FileNotFoundError as error:
        raise ClipError("NotFound", f"{shown}: nothing is there") from error
    except PermissionError as error:
        raise ClipError("Forbidden", f"{shown}: {error.strerror}") from error
    except NoRangesError as error:
        text = f"{shown}: its server sends no ranges, so that it cannot be played from a place"
        raise ClipError("Unsupported", text) from error
    except OSError as error:
        raise ClipError("ReadFailed", f"{shown}: {error}") from error
