"""The words of an address: its scheme, its folder, how it is joined, how it is shown."""

from __future__ import annotations

import os
import posixpath
import re
from urllib.parse import urlsplit

# `simplecache::s3://…` is a chain of fsspec's; `take::2.mp4` is a file.
_SCHEME = re.compile(r"([a-z][a-z0-9+.\-]*)(?:://|::(?=.*://))", re.IGNORECASE | re.DOTALL)
_WEB = re.compile(r"https?://[^\s'\"<>]+", re.IGNORECASE)


def scheme(uri: str) -> str:
    """The URL scheme of `uri`, `file` for a plain path.

    >>> scheme("s3://bucket/a.mp4"), scheme("/data/a.mp4"), scheme("clips/a:b.mp4")
    ('s3', 'file', 'file')
    """
    found = _SCHEME.match(uri)
    return found.group(1).lower() if found else "file"


def is_local(uri: str) -> bool:
    return scheme(uri) == "file"


def is_web(uri: str) -> bool:
    return scheme(uri) in ("http", "https")


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


def display_name(uri: str) -> str:
    """The last part of a path or URL, without query, for people to read."""
    path = uri if is_local(uri) else urlsplit(uri).path
    return posixpath.basename(path.rstrip("/")) or uri


def shown(uri: str) -> str:
    """`uri` as messages and logs may show it: without password, and on the web without query,
    which may be a signature.

    >>> shown("https://me:secret@x.org/a.mp4?sig=1"), shown("s3://bucket/a?b.mp4")
    ('https://x.org/a.mp4', 's3://bucket/a?b.mp4')
    """
    kind = scheme(uri)
    if kind == "file":
        return uri
    if "::" in uri.partition("://")[0]:
        return scrubbed(uri)
    head, _, rest = uri.partition("://")
    if is_web(uri):
        rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    authority, slash, path = rest.partition("/")
    user, _, host = authority.rpartition("@")
    # In abfs://container@account the first word is no secret.
    if is_web(uri) or ":" in user:
        authority = host
    return f"{head}://{authority}{slash}{path}"


def scrubbed(text: str) -> str:
    """A message of some library, with each web address in it as `shown` has it."""
    return _WEB.sub(lambda found: shown(found.group(0)), text)
