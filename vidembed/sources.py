"""Where files are: local paths and fsspec URLs, resolved, opened, listed and fetched in one way."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

from vidembed.addresses import (
    absolute,
    display_name,
    is_local,
    join,
    local_path,
    parent,
    resolve,
    scheme,
    shown,
)
from vidembed.errors import ClipError, ConfigError, RunError
from vidembed.ranged import NoRangesError, RangedFile, open_ranged
from vidembed.remote.failures import clip_error
from vidembed.remote.filesystems import filesystem, reached
from vidembed.remote.retry import patiently
from vidembed.remote.transport import transport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidembed.access import Access

__all__ = [
    "absolute", "display_name", "exists", "fetch", "filesystem", "is_folder", "is_local", "join",
    "list_folder", "local_path", "open_binary", "parent", "read_whole", "remote_state", "remove",
    "resolve", "scheme", "shown", "state", "walk_files", "write_whole",
]  # fmt: skip

_CHUNK = 4 << 20
_ANY_SIZE = 1 << 62
_FULL = (errno.ENOSPC, errno.EDQUOT)


def open_binary(uri: str) -> IO[bytes]:
    """`uri` opened for reading. Raises OSError as the file system does; where it is elsewhere
    FileNotFoundError, and ConfigError for what else is wrong, also while it is read.
    """
    if is_local(uri):
        return open(local_path(uri), "rb")
    stream: Any
    try:
        with _plainly(uri):
            stream = _Remote(transport(uri, sys.maxsize))
    except NoRangesError:
        fs = filesystem(uri)
        stream = reached(uri, lambda: fs.open(uri, "rb"))
    found: IO[bytes] = stream
    return found


class _Remote(RangedFile):
    """A file that the user named: what is wrong with it is not a video's failure."""

    def _fetch(self, start: int, end: int) -> bytes:
        with _plainly(self.name):
            return super()._fetch(start, end)


@contextmanager
def _plainly(uri: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        told = clip_error(uri, error)
        if told.kind == "NotFound":
            raise FileNotFoundError(told.message) from error
        raise ConfigError(told.message) from error


def state(uri: str, access: Access | None = None) -> str | None:
    """What tells one state of a file from another: its size, and its ETag or the time of its last
    change. None where nothing tells, or the file cannot be reached.
    """
    try:
        if access is not None:
            access.check(uri)
        if is_local(uri):
            found = os.stat(local_path(uri))
            return f"{found.st_size}-{found.st_mtime_ns}"
        remote = transport(uri, _ANY_SIZE, access)
        part = patiently(lambda: remote.part(0, 1))
    except Exception:  # noqa: BLE001 - fsspec back ends raise whatever their client library has
        return None
    return remote_state(part.size, part.version)


def remote_state(size: int, version: str) -> str | None:
    """As `state` has it, of an open remote file."""
    return f"{size}-{version}" if version else None


def exists(uri: str) -> bool:
    if is_local(uri):
        return os.path.exists(local_path(uri))
    return bool(reached(uri, lambda: filesystem(uri).exists(uri)))


def is_folder(uri: str) -> bool:
    if is_local(uri):
        return os.path.isdir(local_path(uri))
    return bool(reached(uri, lambda: filesystem(uri).isdir(uri)))


def walk_files(folder: str) -> Iterator[str]:
    """Every file below `folder`, sorted, as a path or URL; hidden files and folders left out."""
    if is_local(folder):
        root = local_path(folder)
        for top, folders, names in os.walk(root):
            folders[:] = sorted(f for f in folders if not f.startswith((".", "_")))
            yield from (os.path.join(top, n) for n in sorted(names) if not n.startswith((".", "_")))
        return
    fs = filesystem(folder)
    prefix = folder.rstrip("/") + "/"
    root = fs._strip_protocol(prefix).rstrip("/") + "/"
    for path in sorted(reached(folder, lambda: fs.find(root))):
        below = path[len(root) :]
        if not any(part.startswith((".", "_")) for part in below.split("/")):
            yield prefix + below


def fetch(uri: str, to: str, max_bytes: int, access: Access | None = None) -> int:
    """Copy `uri` into the local file `to`; returns the bytes copied. access: whose address it is;
    None where the user named it.

    Raises ClipError: NotFound, Forbidden, TooLarge (beyond `max_bytes`) or ReadFailed.
    """
    try:
        with open(to, "wb") as target:
            if is_local(uri):
                return _copy_local(uri, target, max_bytes, access)
            try:
                with open_ranged(uri, max_bytes=max_bytes, access=access) as source:
                    return source.copy_to(target)
            except NoRangesError:
                return _copy_whole(uri, target, max_bytes, access)
    except Exception as error:
        raise clip_error(uri, error) from error


def _copy_local(uri: str, target: IO[bytes], max_bytes: int, access: Access | None) -> int:
    if access is not None:
        access.check(uri)
    with open(local_path(uri), "rb") as source:
        if os.fstat(source.fileno()).st_size > max_bytes:
            raise ClipError("TooLarge", f"{uri}: more than {max_bytes:,} bytes")
        shutil.copyfileobj(source, target, _CHUNK)
    return target.tell()


def _copy_whole(uri: str, target: IO[bytes], max_bytes: int, access: Access | None) -> int:
    """In one request, begun anew where it breaks off."""
    remote = transport(uri, max_bytes, access)

    def copied() -> int:
        target.seek(0)
        target.truncate()
        return remote.whole(target)

    return patiently(copied)


def write_whole(uri: str, data: bytes) -> None:
    """Put `data` at `uri` so that a reader sees all of it or nothing, even if we are killed.

    On a file system by a rename, flushed to the disk first; on an object store by one PUT.
    Raises RunError where the disk is full, OSError or ConfigError for what else is wrong.
    """
    if not is_local(uri):
        reached(uri, lambda: filesystem(uri).pipe_file(uri, data))
        return
    path = local_path(uri)
    try:
        _replace(path, data)
    except OSError as error:
        if error.errno in _FULL:
            raise RunError(
                f"no room for {len(data):,} bytes at {path} ({error.strerror}): make room and run "
                f"the same command again; what is written is whole and stays"
            ) from error
        raise


def _replace(path: str, data: bytes) -> None:
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    part = os.path.join(folder, f".{name}.{os.getpid()}.tmp")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        if os.path.exists(part):
            os.unlink(part)
        raise
    _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_whole(uri: str) -> bytes:
    """All bytes of a small file. Raises FileNotFoundError where nothing is there."""
    if is_local(uri):
        with open(local_path(uri), "rb") as file:
            return file.read()
    data: bytes = reached(uri, lambda: filesystem(uri).cat_file(uri))
    return data


def list_folder(folder: str, suffix: str) -> list[str]:
    """The files of `folder` itself that end in `suffix`, sorted; empty where there is no folder."""
    if is_local(folder):
        root = local_path(folder)
        names = os.listdir(root) if os.path.isdir(root) else []
        return [
            os.path.join(root, n) for n in sorted(names) if n.endswith(suffix) and n[0] not in "._"
        ]
    fs = filesystem(folder)

    def listed() -> list[str]:
        try:
            return list(fs.ls(folder, detail=False, refresh=True))
        except FileNotFoundError:
            return []

    names = [path.rsplit("/", 1)[-1] for path in reached(folder, listed)]
    return [join(folder, n) for n in sorted(names) if n.endswith(suffix) and n[0] not in "._"]


def remove(uri: str) -> None:
    """Delete a file or a folder with all that is in it; nothing there is no error."""
    if is_local(uri):
        path = local_path(uri)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.unlink(path)
        return
    fs = filesystem(uri)

    def removed() -> None:
        # A try whose answer got lost may have removed it.
        with suppress(FileNotFoundError):
            if fs.exists(uri):
                fs.rm(uri, recursive=True)

    reached(uri, removed)
