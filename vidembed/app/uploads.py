"""Videos that users search by: written to a temporary folder, named by a random word."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
import threading
from collections import OrderedDict
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_KEPT = 32
_DRAINED = 16_000_000
_SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")


class TooLongError(Exception):
    """More bytes than an upload may have."""


class Uploads:
    """At most 32 files, the oldest go first, in a folder that `close` removes.

    max_bytes: of one file. For several threads.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._folder = tempfile.TemporaryDirectory(prefix="vidembed-app-")
        self._lock = threading.Lock()
        self._paths: OrderedDict[str, str] = OrderedDict()

    def routes(self) -> list[Route]:
        """`POST /query-video`, the file as the body, its name in `X-File-Name`; answers
        `{"token"}`.
        """
        return [Route("/query-video", self._take, methods=["POST"])]

    def path(self, token: str) -> str | None:
        """The file of a token that was given out; None where it is gone, or never was."""
        with self._lock:
            return self._paths.get(token)

    def close(self) -> None:
        """Remove the folder and all that is in it."""
        self._folder.cleanup()

    async def _take(self, request: Request) -> Response:
        declared = request.headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > self.max_bytes:
            await self._drain(request)
            return self._too_long()
        suffix = os.path.splitext(request.headers.get("x-file-name", ""))[1].lower()
        suffix = suffix if _SUFFIX.fullmatch(suffix) else ""
        descriptor, path = tempfile.mkstemp(suffix, "query-", self._folder.name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                size = await self._copy(request, file)
        except TooLongError:
            os.unlink(path)
            await self._drain(request)
            return self._too_long()
        except BaseException:
            os.unlink(path)
            raise
        if not size:
            os.unlink(path)
            return JSONResponse({"message": "The file is empty."}, 400)
        token = secrets.token_urlsafe(24)
        self._keep(token, path)
        return JSONResponse({"token": token})

    async def _copy(self, request: Request, file: IO[bytes]) -> int:
        size = 0
        async for data in request.stream():
            size += len(data)
            if size > self.max_bytes:
                raise TooLongError
            await run_in_threadpool(file.write, data)
        return size

    async def _drain(self, request: Request) -> None:
        """Read on for a while: who is cut off while sending does not hear why."""
        left = max(self.max_bytes, _DRAINED)
        async for data in request.stream():
            left -= len(data)
            if left < 0:
                return

    def _keep(self, token: str, path: str) -> None:
        with self._lock:
            self._paths[token] = path
            old = [self._paths.popitem(last=False)[1] for _ in range(len(self._paths) - _KEPT)]
        for each in old:
            with suppress(FileNotFoundError):
                os.unlink(each)

    def _too_long(self) -> Response:
        text = f"The file is larger than {self.max_bytes / 1e6:,.0f} MB (--max-upload)."
        return JSONResponse({"message": text}, 413, {"Connection": "close"})
