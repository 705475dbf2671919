"""What a manifest may open: a stranger may have written it, and we lend it our disk and network.

| place              | without a root                          | with a root of that place      |
| ------------------ | --------------------------------------- | ------------------------------ |
| local files        | all; none where the manifest is remote  | below a root, or its folder    |
| object stores      | all that the credentials reach          | below a root, or its folder    |
| the web            | public addresses                        | and private ones below a root  |
| all other schemes  | none                                    | below a root                   |

Below a root means by whole components: `http://a.org` does not cover `http://a.org.evil.com`, nor
`/data` the folder `/data2`. The web's rule is held where connections are made, in `remote.guard`.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

from vidembed import addresses
from vidembed.errors import ClipError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

# Schemes of one service count as one place.
_STORES = {
    "s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az",
    "adl": "adl", "hf": "hf", "oss": "oss",
}  # fmt: skip
_WEB_PORTS = {"http": 80, "https": 443}
_CHAIN = re.compile(r"[a-z][a-z0-9+.\-]*::|.*::[a-z][a-z0-9+.\-]*://", re.IGNORECASE | re.DOTALL)
# Azure's host agent answers here, on an address that looks public.
_PLATFORM = frozenset({ipaddress.ip_address("168.63.129.16")})
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The addresses that the rows of one manifest may open. Use `Access.of` to make one.

    roots: absolute local folders, and prefixes of addresses.
    local: whether local files may be opened where no local root is given.
    base: the manifest's folder; what lies below it may be opened, as below a root.
    """

    roots: tuple[str, ...] = ()
    local: bool
    base: str

    @classmethod
    def of(cls, folder: str, roots: Iterable[str] = ()) -> Access:
        """Access for a manifest in `folder`, a path or URL that the user named.

        Raises ConfigError for a root that is empty, names no host, or carries a secret.
        """
        checked = tuple(_checked_root(root) for root in roots)
        base = addresses.absolute(folder)
        return cls(roots=checked, local=addresses.is_local(base), base=base)

    def check(self, uri: str) -> None:
        """Raise ClipError `Forbidden` where `uri` may not be opened.

        No name is looked up here: what a web address resolves to is checked on connecting.
        """
        if self.covers(uri):
            return
        place = _place(uri)
        if place == "file":
            self._check_local(uri)
        elif place == "web":
            _check_host(uri)
        elif place == "chain":
            raise forbidden(uri, "chained addresses are not opened")
        elif place not in _STORES.values():
            raise forbidden(uri, f"addresses of the scheme {place} are not opened")
        elif self._has_root(place):
            raise forbidden(uri, "it lies below no --allow-root of its kind")

    def covers(self, uri: str) -> bool:
        """Whether `uri` lies below a root or below the manifest's folder."""
        return any(_below(uri, root) for root in (*self.roots, self.base))

    def _check_local(self, uri: str) -> None:
        path = addresses.local_path(uri)
        if not self.local:
            raise forbidden(path, "a remote manifest may name no local file")
        if self._has_root("file"):
            real = os.path.realpath(path)
            leads = "" if real == os.path.abspath(path) else f" (it leads to {real})"
            reason = "it lies neither below an --allow-root nor in the manifest's folder"
            raise forbidden(path, reason + leads)

    def _has_root(self, place: str) -> bool:
        return any(_place(root) == place for root in self.roots)


def forbidden(uri: str, reason: str) -> ClipError:
    """The error for an address that may not be opened, with the root that would allow it."""
    text = f"{addresses.shown(uri)}: {reason}; --allow-root {_widest(uri)} allows it"
    return ClipError("Forbidden", text)


def not_public(uri: str, address: str) -> ClipError:
    """The error for a web address that leads to the IP `address`, which is not public."""
    return forbidden(
        uri, f"it leads to {address}, which is private, loopback or otherwise reserved"
    )


def check_regular(path: str) -> None:
    """Raise ClipError `Unsupported` where a local `path` is a device, a pipe or a socket.

    It is not opened: opening a pipe waits for a writer, for ever. Nothing there is no error here.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    kinds = {
        stat.S_ISFIFO: "a pipe",
        stat.S_ISSOCK: "a socket",
        stat.S_ISCHR: "a device",
        stat.S_ISBLK: "a device",
    }
    for is_it, name in kinds.items():
        if is_it(mode):
            raise ClipError("Unsupported", f"{path}: {name}, not a file; name a regular file")


def is_public(address: str) -> bool:
    """Whether an IP address is one that anybody on the internet reaches.

    An IPv6 address that carries an IPv4 one (mapped, 6to4, NAT64) is what it carries.
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        elif ip.sixtofour is not None:
            ip = ip.sixtofour
    refused = ip.is_multicast or ip.is_reserved or ip.is_unspecified or ip in _PLATFORM
    return ip.is_global and not refused


class _Located(NamedTuple):
    """An address in parts that can be compared. path: its components, `.` and `..` resolved."""

    scheme: str
    host: str
    port: int | None
    path: tuple[str, ...]

    @classmethod
    def of(cls, uri: str) -> _Located:
        kind = addresses.scheme(uri)
        if kind not in _WEB_PORTS:
            authority, _, path = uri.partition("://")[2].partition("/")
            host = authority if _STORES.get(kind) == "az" else authority.rpartition("@")[2]
            return cls(_STORES.get(kind, kind), host, None, _components(path))
        try:
            parts = urlsplit(uri)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            return cls(kind, "", None, ())
        return cls(kind, _ascii(host), port or _WEB_PORTS[kind], _components(unquote(parts.path)))


def _components(path: str) -> tuple[str, ...]:
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            kept = kept[:-1]
        elif part not in ("", "."):
            kept.append(part)
    return tuple(kept)


def _ascii(host: str) -> str:
    host = host.lower().rstrip(".")
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        return host


def _below(uri: str, root: str) -> bool:
    if addresses.is_local(root) or addresses.is_local(uri):
        if not (addresses.is_local(root) and addresses.is_local(uri)) or _is_chain(uri):
            return False
        top = os.path.realpath(addresses.local_path(root))
        real = os.path.realpath(addresses.local_path(uri))
        return real == top or real.startswith(top.rstrip(os.sep) + os.sep)
    if _is_chain(uri) or _is_chain(root):
        ours, theirs = root.split("::"), uri.split("::")
        return len(ours) <= len(theirs) and all(map(_link_below, theirs, ours))
    return _url_below(uri, root)


def _link_below(uri: str, root: str) -> bool:
    """One link of a chain: `simplecache`, `zip://inner`, `https://x.org/a.zip`, or a path."""
    if not root or uri == root:
        return True
    return "://" in root and "://" in uri and _url_below(uri, root)


def _url_below(uri: str, root: str) -> bool:
    inner, outer = _Located.of(uri), _Located.of(root)
    if inner.scheme != outer.scheme:
        return False
    if not outer.host:
        # `sftp://` alone means all of it. Of the web there is no such root: it would open
        # every private address.
        return outer.scheme not in _WEB_PORTS and not outer.path
    same = (inner.host, inner.port) == (outer.host, outer.port)
    return same and inner.path[: len(outer.path)] == outer.path


def _is_chain(uri: str) -> bool:
    # A path is opened as it is spelled, whatever is in it.
    return not os.path.isabs(uri) and _CHAIN.match(uri) is not None


def _place(uri: str) -> str:
    """`file`, `web`, the name of an object store, `chain`, or the scheme."""
    if _is_chain(uri):
        return "chain"
    kind = addresses.scheme(uri)
    return "web" if kind in _WEB_PORTS else _STORES.get(kind, kind)


def _literal(host: str) -> str | None:
    """The IP address that `host` spells, also as 2130706433, 127.1 or 0x7f.1; else None."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return None


def _widest(uri: str) -> str:
    """The widest root that covers `uri` and no other folder, host or bucket."""
    if addresses.is_local(uri):
        return os.path.dirname(os.path.abspath(addresses.local_path(uri)))
    head, _, rest = addresses.shown(uri).partition("://")
    return f"{head}://{rest.partition('/')[0]}/"


def _check_host(uri: str) -> None:
    host = _Located.of(uri).host
    if not host:
        raise ClipError("Forbidden", f"{addresses.shown(uri)}: names no host; mend the address")
    literal = _literal(host)
    if literal is not None and not is_public(literal):
        raise not_public(uri, literal)


def _checked_root(root: str) -> str:
    shown = addresses.shown(root)
    if not root.strip():
        raise ConfigError("--allow-root is empty; name a folder or the start of an address")
    if shown != root:
        raise ConfigError(f"--allow-root {shown}: leave out user, password and query")
    if addresses.is_web(root) and not _Located.of(root).host:
        raise ConfigError(f"--allow-root {root} names no host; public addresses need no root")
    return addresses.absolute(root)
