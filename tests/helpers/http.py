"""Real HTTP servers on loopback: files with ranges, redirects, faults on demand, and a proxy that
injects such faults before a server of another kind.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Fault:
    """What happens to one request in place of an answer. status 0: the connection is cut after
    `after` bytes of the body.
    """

    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    after: int = 0


SLOW_DOWN = Fault(
    503,
    {"Content-Type": "application/xml"},
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate."
    b"</Message></Error>",
)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def date_time_string(self, timestamp=None):
        return super().date_time_string((timestamp or time.time()) + self.server.owner.ahead_s)

    def log_message(self, *_):
        pass


class _Server(ABC):
    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.always: Fault | None = None
        self.seen: list[tuple[str, str, str | None]] = []
        """(method, path, Range) of every request."""
        self.ahead_s = 0.0
        """How far its clock is ahead of ours."""
        outer = self

        class Handler(_Handler):
            def do_GET(self):
                outer.seen.append((self.command, self.path, self.headers.get("Range")))
                fault = outer.faults.pop(0) if outer.faults else outer.always
                if fault is not None and fault.status:
                    # Else the next request would begin with this one's body.
                    self.rfile.read(int(self.headers.get("Content-Length") or 0))
                    self.reply(fault.status, fault.headers, fault.body)
                else:
                    outer.answer(self, fault)

            do_HEAD = do_GET  # noqa: N815
            do_PUT = do_GET  # noqa: N815
            do_POST = do_GET  # noqa: N815
            do_DELETE = do_GET  # noqa: N815

            def reply(self, status, headers, body, cut: int | None = None):
                """Announce all of `body`, send the first `cut` bytes of it."""
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers and "Transfer-Encoding" not in headers:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    try:
                        self.wfile.write(body if cut is None else body[:cut])
                    except OSError:
                        self.close_connection = True
                if cut is not None or headers.get("Connection") == "close":
                    self.close_connection = True

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.owner = self
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    @abstractmethod
    def answer(self, handler, fault: Fault | None) -> None:
        """Reply to a request; fault: what is to go wrong with it."""


class FileServer(_Server):
    """Files by path, and redirects. ranges: whether it knows them; sized: whether it tells sizes;
    most: the longest range that it answers with.
    """

    def __init__(self, *, ranges: bool = True, sized: bool = True, most: int | None = None) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self._tags: dict[int, tuple[bytes, str]] = {}
        self.ranges, self.sized, self.most = ranges, sized, most

    def put(self, path: str, data: bytes) -> str:
        self.files[path] = data
        return self.url + path

    def answer(self, handler, fault):
        path = unquote(urlsplit(handler.path).path)
        if path in self.redirects:
            return handler.reply(302, {"Location": self.redirects[path]}, b"")
        if path not in self.files:
            return handler.reply(404, {}, b"no such file")
        data = self.files[path]
        cut = None if fault is None else fault.after
        headers = {"ETag": self._tag(data)}
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers.get("Range") or "")
        if not self.ranges or asked is None:
            if not self.sized:
                headers |= {"Content-Length": "", "Connection": "close"}
                return self._unsized(handler, headers, data)
            return handler.reply(200, headers, data, cut)
        first, last = int(asked[1]), min(int(asked[2]), len(data) - 1)
        if self.most is not None:
            last = min(last, first + self.most - 1)
        if first >= len(data):
            return handler.reply(416, {"Content-Range": f"bytes */{len(data)}"}, b"")
        size = len(data) if self.sized else "*"
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        return handler.reply(206, headers, data[first : last + 1], cut)

    def _tag(self, data: bytes) -> str:
        if id(data) not in self._tags:
            # With the bytes, which must live on for their id to be theirs.
            self._tags[id(data)] = (data, f'"{hashlib.md5(data).hexdigest()}"')
        return self._tags[id(data)][1]

    def _unsized(self, handler, headers, data):
        del headers["Content-Length"]
        handler.send_response(200)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)
        handler.close_connection = True


class FaultyProxy(_Server):
    """Passes requests on to `origin`, Host header and all, but for the faults."""

    def __init__(self, origin: str) -> None:
        super().__init__()
        self._origin = urlsplit(origin).netloc

    def answer(self, handler, fault):
        status, headers, body = self.pass_on(handler)
        handler.reply(status, headers, body, None if fault is None else fault.after)

    def pass_on(self, handler) -> tuple[int, dict[str, str], bytes]:
        """What the origin answers."""
        length = int(handler.headers.get("Content-Length") or 0)
        upstream = http.client.HTTPConnection(self._origin, timeout=30)
        upstream.putrequest(
            handler.command, handler.path, skip_host=True, skip_accept_encoding=True
        )
        for name, value in handler.headers.items():
            if name.lower() != "connection":
                upstream.putheader(name, value)
        upstream.endheaders(handler.rfile.read(length) if length else None)
        answer = upstream.getresponse()
        body = answer.read()
        kept = {
            k: v
            for k, v in answer.getheaders()
            if k.lower() not in ("connection", "transfer-encoding", "date", "server")
        }
        upstream.close()
        return answer.status, kept, body
