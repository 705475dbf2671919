"""The page's server: an address, the routes, and an end that leaves nothing behind."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI

import vidembed
from vidembed.access import Access
from vidembed.app.guard import Guard, Rules, is_loopback
from vidembed.app.media import Media
from vidembed.app.queries import Asking
from vidembed.app.rows import Rows
from vidembed.app.thumbnails import Thumbnails
from vidembed.app.uploads import Uploads
from vidembed.errors import ConfigError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from vidembed.app.queries import About
    from vidembed.config import AppConfig
    from vidembed.query import Index

_PASSWORD = "VIDEMBED_APP_PASSWORD"
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
# Pages that are open keep a connection for as long as they are.
_FAREWELL_S = 2


def serve(options: AppConfig) -> int:
    """Open the index, listen, and serve until Ctrl-C or SIGTERM. Returns 0."""
    with ExitStack() as stack:
        # First: a port that is taken is known before an encoder is loaded.
        listener = stack.enter_context(_listener(options.host, options.port))
        place = options.run or options.milvus or ""
        index = stack.enter_context(
            vidembed.open(
                place,
                collection=options.collection if options.milvus else None,
                encoder=options.encoder,
                weights=options.weights,
                device=options.device,
                # Nobody waits 0.2 s for what may be written at the moment.
                consistency="Bounded" if options.milvus else None,
            )
        )
        access = Access.of(place, options.allow_root)
        _quieten(stack.enter_context(tempfile.TemporaryDirectory(prefix="vidembed-app-")))
        thumbnails = Thumbnails(access)
        stack.callback(thumbnails.close)
        uploads = Uploads(options.max_upload * 1_000_000)
        stack.callback(uploads.close)
        site = _site(options, index, thumbnails, uploads, access)
        _warn(options)
        _run(site, listener, _url(options.host, listener))
    return 0


def _site(
    options: AppConfig, index: Index, thumbnails: Thumbnails, uploads: Uploads, access: Access
) -> ASGIApp:
    # Gradio reads its settings from the environment when it is imported.
    from vidembed.app.page import mount

    rows = Rows(index)
    media = Media(rows, thumbnails, access)
    site = FastAPI(openapi_url=None, routes=[*media.routes(), *uploads.routes()])
    asking = Asking(index, rows, uploads)
    _say(_facts(asking.about))
    mount(site, options, asking)
    hosts: set[str] = set()
    if is_loopback(options.host):
        hosts = {*_LOOPBACK_NAMES, options.host, *options.allow_host}
    elif options.allow_host:
        hosts = {options.host, *options.allow_host}
    rules = Rules(
        hosts=frozenset(name.lower() for name in hosts),
        user=options.user,
        password=os.environ.get(_PASSWORD) or None,
    )
    return Guard(site, rules)


def _listener(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ConfigError(f"--host {host}: {error.strerror or error}") from error
    found = socket.socket(family, kind, protocol)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(place)
        found.listen(128)
    except OSError as error:
        found.close()
        text = f"cannot listen on {host} port {port}: {error.strerror}; name another --port"
        raise ConfigError(f"{text}, or 0 for a free one") from error
    return found


def _url(host: str, listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _quieten(folder: str) -> None:
    """Gradio as the page wants it: no word to anybody, and its files in `folder`."""
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_RUN_HISTORY": "False",
        "GRADIO_TEMP_DIR": folder,
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def _facts(about: About) -> str:
    what = about.place if about.kind == "run" else f"collection {about.name} in {about.place}"
    return f"{what}: {about.rows:,} rows of {about.encoder} ({about.fingerprint})"


def _warn(options: AppConfig) -> None:
    if not is_loopback(options.host) and not os.environ.get(_PASSWORD):
        sys.stderr.write(
            f"vidembed: warning: {options.host} can be reached from other machines, and there is "
            f"no password: whoever reaches it sees every video of the index; set {_PASSWORD}\n"
        )


def _run(site: ASGIApp, listener: socket.socket, url: str) -> None:
    server = uvicorn.Server(
        uvicorn.Config(
            site,
            log_level="warning",
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=_FAREWELL_S,
        )
    )
    # To end is to cut the connections of pages that are open: uvicorn reports each as a failure.
    logging.getLogger("uvicorn.error").addFilter(lambda _: not server.should_exit)
    # uvicorn raises the signal that ended it once more: what is open must be closed first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # It listens already: who comes before it serves is kept waiting, not refused.
    _say(f"{url}   (Ctrl-C ends it)")
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        _say("the page is closed")


def _say(text: str) -> None:
    sys.stdout.write(f"vidembed: {text}\n")
    sys.stdout.flush()
