"""What every request passes first: whose page it comes from, the password, and which of Gradio's
routes there are.

Gradio brings routes that read files and fetch addresses of the caller's choosing, each with checks
of its own. The page needs none of them: it has its own for media and uploads. So they do not exist
here, and what a later Gradio adds does not either.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Of Gradio: the page, what it is built from, and the queue of events.
_OPEN = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/manifest\.json|/(assets|static)/.+"
    r"|/gradio_api/(queue/join|queue/data|cancel|reset|startup-events|app_id)/?"
    r"|/gradio_api/heartbeat/[^/]+"
    r"|/(media|thumbnail|app)/.+|/query-video",
    re.DOTALL,
)
_SAFE = ("GET", "HEAD")
_HEADERS = {
    # Gradio's page has scripts and styles inline; nothing comes from another host.
    "Content-Security-Policy": (
        "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
        "style-src 'self' 'unsafe-inline'; base-uri 'self'; form-action 'self'; "
        "frame-ancestors 'none'; object-src 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
# A guess of the password costs so long.
_WRONG_PASSWORD_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """hosts: the names under which the page may be asked for; empty: any. password: None asks for
    none.
    """

    hosts: frozenset[str]
    user: str
    password: str | None


class Guard:
    """ASGI: refuses what `Rules` forbid, before anything else sees it."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            # The page opens no web socket.
            await send({"type": "websocket.close", "code": 1008})
            return
        refusal = await self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, _with_headers(send))
            return
        await self._app(scope, receive, _with_headers(send))

    async def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        if self._rules.hosts and _host_name(headers.get("host", "")) not in self._rules.hosts:
            text = "This page is not served under that host name; --allow-host NAME allows one.\n"
            return PlainTextResponse(text, 421)
        if _is_foreign(scope["method"], headers):
            return PlainTextResponse("This request comes from another site's page.\n", 403)
        if not self._knows(headers.get("authorization", "")):
            if headers.get("authorization"):
                await asyncio.sleep(_WRONG_PASSWORD_S)
            asks = {"WWW-Authenticate": 'Basic realm="vidembed", charset="UTF-8"'}
            return PlainTextResponse("The page has a password.\n", 401, asks)
        # Gradio's links to a state read a folder that the link names.
        if not _OPEN.fullmatch(scope["path"]) or b"deep_link" in scope["query_string"]:
            return PlainTextResponse("There is nothing here.\n", 404)
        return None

    def _knows(self, authorization: str) -> bool:
        if self._rules.password is None:
            return True
        kind, _, words = authorization.partition(" ")
        if kind.lower() != "basic":
            return False
        try:
            given = base64.b64decode(words, validate=True)
        except (binascii.Error, ValueError):
            return False
        wanted = f"{self._rules.user}:{self._rules.password}".encode()
        return hmac.compare_digest(given, wanted)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_name(host: str) -> str:
    """Of a Host header, without the port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_foreign(method: str, headers: Headers) -> bool:
    """Whether a page of another site sent it: a browser says so, and others have no page's rights
    to borrow.
    """
    origin = headers.get("origin")
    if origin is not None:
        if _authority(origin) != headers.get("host", "").lower():
            return True
    elif method not in _SAFE and headers.get("sec-fetch-site") not in (None, "same-origin"):
        return True
    # A link that leads here is followed; a picture, a video or a script of ours is not lent.
    elsewhere = headers.get("sec-fetch-site") in ("cross-site", "same-site")
    return elsewhere and headers.get("sec-fetch-mode") != "navigate"


def _authority(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _with_headers(send: Send) -> Send:
    """Our headers on every answer, and none that lends it to other origins."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name in list(headers):
                if name.lower().startswith("access-control-"):
                    del headers[name]
            for name, value in _HEADERS.items():
                headers[name] = value
        await send(message)

    return sent
