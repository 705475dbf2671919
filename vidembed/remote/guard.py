"""Web connections that lead only where a manifest may lead, redirects and name tricks included."""

from __future__ import annotations

import socket
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from vidembed.access import forbidden, is_public, not_public

if TYPE_CHECKING:
    from vidembed.access import Access


@dataclass(frozen=True, slots=True)
class GuardedClient:
    """fsspec's `get_client` for the rows of one manifest. Equal accesses share connections:
    fsspec knows the client by its repr.
    """

    access: Access

    async def __call__(self, **options: Any) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=GuardedConnector(self.access), **options)


@dataclass(slots=True)
class _Attempt:
    """One request on its way to a connection. refused: the address that it may not have."""

    free: bool
    refused: str | None = None


_attempt: ContextVar[_Attempt] = ContextVar("attempt")


class GuardedConnector(aiohttp.TCPConnector):
    """Connects to public addresses, and to others only for URLs that `access` covers.

    The check is on the IP address that a socket is made for, so neither a name that resolves to
    another address the second time nor a redirect passes it. ClipError `Forbidden` otherwise.
    """

    def __init__(self, access: Access) -> None:
        super().__init__(socket_factory=_socket)
        self._access = access

    async def connect(self, req: aiohttp.ClientRequest, *words: Any, **options: Any) -> Any:
        url = str(req.url)
        self._access.check(url)
        attempt = _Attempt(free=self._access.covers(url))
        if req.proxy and not attempt.free:
            raise forbidden(url, "it goes through a proxy, so that where it leads cannot be seen")
        token = _attempt.set(attempt)
        try:
            connection = await super().connect(req, *words, **options)
        except aiohttp.ClientConnectionError as error:
            if attempt.refused is None:
                raise
            raise not_public(url, attempt.refused) from error
        finally:
            _attempt.reset(token)
        # It may be kept alive from a request that was free to go there.
        peer = _peer(connection)
        if not attempt.free and (peer is None or not is_public(peer)):
            connection.close()
            raise not_public(url, peer or "an unknown address")
        return connection


def _socket(address: Any) -> socket.socket:
    family, kind, protocol, _, place = address
    attempt = _attempt.get()
    if not attempt.free and not is_public(place[0]):
        attempt.refused = place[0]
        # aiohttp goes on to the name's next address, and takes it where it is public.
        raise OSError(f"{place[0]} is not public")
    return socket.socket(family, kind, protocol)


def _peer(connection: Any) -> str | None:
    transport = connection.transport
    found = transport.get_extra_info("peername") if transport is not None else None
    return found[0] if found else None
