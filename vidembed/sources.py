"""Where files are: local paths and fsspec URLs, resolved, opened, listed and fetched in one way."""

from __future__ import annotations

import os
import posixpath
import shutil
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from vidembed.errors import ClipError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 4 << 20
_S3_REMEDY = (
    "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and, for a server other than AWS, "
    "AWS_ENDPOINT_URL"
)


def scheme(uri: str) -> str:
    """The URL scheme of `uri`, `file` for a plain path.

    >>> scheme("s3://bucket/a.mp4"), scheme("/data/a.mp4"), scheme("clips/a:b.mp4")
    ('s3', 'file', 'file')
    """
    head, found, _ = uri.partition("://")
    return head.lower() if found and head.isalnum() else "file"


def is_local(uri: str) -> bool:
    return scheme(uri) == "file"


def local_path(uri: str) -> str:
    """The path of a local `uri`, which may be spelled `file://`."""
    return uri[len("file://") :] if uri.lower().startswith("file://") else uri


def join(base: str, *parts: str) -> str:
    """`base/parts…` for a path or a URL."""
    if is_local(base):
        return os.path.join(local_path(base), *parts)
    return posixpath.join(base.rstrip("/"), *parts)


def resolve(uri: str, base: str) -> str:
    """`uri` as a manifest in the folder `base` means it: absolute as it is, relative below base.

    >>> resolve("a.mp4", "s3://bucket/set"), resolve("https://x.org/a.mp4", "/data")
    ('s3://bucket/set/a.mp4', 'https://x.org/a.mp4')
    """
    if not is_local(uri):
        return uri
    path = local_path(uri)
    return path if os.path.isabs(path) else join(base, path)


def absolute(uri: str) -> str:
    """`uri` so that it means the same from any working directory."""
    return os.path.abspath(os.path.expanduser(local_path(uri))) if is_local(uri) else uri


def parent(uri: str) -> str:
    """The folder of a file."""
    if is_local(uri):
        return os.path.dirname(local_path(uri))
    return uri.rsplit("/", 1)[0]


def filesystem(uri: str) -> Any:
    """The fsspec file system of `uri`.

    Raises ConfigError, with the remedy, where the scheme is unknown or its library is missing.
    """
    import fsspec

    kind = scheme(uri)
    options: dict[str, Any] = {}
    if kind in ("s3", "s3a"):
        # A listing that fsspec remembers would hide what another process has written since.
        options = {"use_listings_cache": False}
        if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
            options["endpoint_url"] = endpoint
    try:
        return fsspec.filesystem(kind, **options)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"cannot open {kind}:// addresses: {error}") from error


def open_binary(uri: str) -> IO[bytes]:
    """`uri` opened for reading. Raises OSError as the file system does."""
    if is_local(uri):
        return open(local_path(uri), "rb")
    stream: IO[bytes] = filesystem(uri).open(uri, "rb")
    return stream


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


def reached(uri: str, call: Any) -> Any:
    """What `call` returns; a refusal or a lost connection becomes one ConfigError that says where
    and what to look at.
    """
    try:
        return call()
    except FileNotFoundError:
        raise
    except PermissionError as error:
        raise ConfigError(f"{uri}: access refused ({error}); {_remedy(uri)}") from error
    except Exception as error:  # fsspec back ends raise whatever their client library has
        if type(error).__module__.partition(".")[0] in _CLIENTS or isinstance(error, OSError):
            raise ConfigError(f"{uri}: cannot be reached ({error}); {_remedy(uri)}") from error
        raise


_CLIENTS = frozenset({"botocore", "aiobotocore", "aiohttp", "s3fs", "gcsfs", "adlfs", "requests"})


def _remedy(uri: str) -> str:
    return _S3_REMEDY if scheme(uri) in ("s3", "s3a") else "check the address and the credentials"


def fetch(uri: str, to: str, max_bytes: int) -> int:
    """Copy `uri` into the local file `to`; returns the bytes copied.

    Raises ClipError: NotFound, Forbidden, TooLarge (beyond `max_bytes`) or ReadFailed.
    """
    try:
        with open_binary(uri) as source, open(to, "wb") as target:
            total = 0
            while chunk := source.read(_CHUNK):
                total += len(chunk)
                if total > max_bytes:
                    raise ClipError("TooLarge", f"{uri}: more than {max_bytes:,} bytes")
                target.write(chunk)
        return total
    except FileNotFoundError as error:
        # fsspec's HTTP calls a server that does not answer a missing file as well.
        if type(error.__cause__).__name__.startswith(("ClientConnect", "ServerDisconnected")):
            raise ClipError("ReadFailed", f"{uri}: {error.__cause__}") from error
        raise ClipError("NotFound", f"{uri}: nothing there") from error
    except PermissionError as error:
        raise ClipError("Forbidden", f"{uri}: access refused ({error}); {_remedy(uri)}") from error
    except ConfigError as error:
        raise ClipError("ReadFailed", str(error)) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] in _CLIENTS or isinstance(error, OSError):
            raise ClipError("ReadFailed", f"{uri}: {error}; {_remedy(uri)}") from error
        raise


def display_name(uri: str) -> str:
    """The last part of a path or URL, without query, for people to read."""
    path = uri if is_local(uri) else urlsplit(uri).path
    return posixpath.basename(path.rstrip("/")) or uri


def write_whole(uri: str, data: bytes) -> None:
    """Put `data` at `uri` so that a reader sees all of it or nothing, even if we are killed.

    On a file system by a rename, flushed to the disk first; on an object store by one PUT.
    Raises OSError or ConfigError.
    """
    if not is_local(uri):
        reached(uri, lambda: filesystem(uri).pipe_file(uri, data))
        return
    path = local_path(uri)
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
    if reached(uri, lambda: fs.exists(uri)):
        reached(uri, lambda: fs.rm(uri, recursive=True))
