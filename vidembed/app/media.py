"""The routes that serve what a row names: its video, by ranges, and a still picture of it."""

from __future__ import annotations

import sys
from http import HTTPStatus
from typing import TYPE_CHECKING

from anyio import CapacityLimiter, to_thread
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from vidembed.app.files import Video, open_video
from vidembed.app.ranges import Span, UnsatisfiableError, asked_for
from vidembed.errors import FAILURES, ClipError, VidembedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from vidembed.access import Access
    from vidembed.app.rows import Rows
    from vidembed.app.thumbnails import Thumbnails

_STATUS = {
    "NotFound": HTTPStatus.NOT_FOUND,
    "Forbidden": HTTPStatus.FORBIDDEN,
    "Unsupported": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "ReadFailed": HTTPStatus.BAD_GATEWAY,
}

_PICTURES_AT_ONCE = 8


class Media:
    """The files of rows, and of nothing else. access: what rows may open, for strangers may have
    written them.
    """

    def __init__(self, rows: Rows, thumbnails: Thumbnails, access: Access) -> None:
        self._rows = rows
        self._thumbnails = thumbnails
        self._access = access
        # Those that wait for a decoder must not keep the threads that play.
        self._waiting = CapacityLimiter(_PICTURES_AT_ONCE)

    def routes(self) -> list[Route]:
        """`/media/ID` (GET, HEAD; one range) and `/thumbnail/ID.jpg`."""
        return [
            Route("/media/{row:path}", self._media, methods=["GET"]),
            Route("/thumbnail/{row:path}.jpg", self._thumbnail, methods=["GET"]),
        ]

    async def _media(self, request: Request) -> Response:
        row = request.path_params["row"]
        try:
            video = await run_in_threadpool(self._open, row)
        except VidembedError as error:
            return problem(row, error)
        return _answer(request, video)

    async def _thumbnail(self, request: Request) -> Response:
        row = request.path_params["row"]
        try:
            picture = await to_thread.run_sync(self._picture, row, limiter=self._waiting)
        except VidembedError as error:
            return problem(row, error)
        return Response(
            picture, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=300"}
        )

    def _open(self, row: str) -> Video:
        hit = self._rows.get(row)
        if hit is None:
            raise _no_row(row)
        return open_video(hit.uri, self._access)

    def _picture(self, row: str) -> bytes:
        hit = self._rows.get(row)
        if hit is None:
            raise _no_row(row)
        return self._thumbnails.of(hit)


def problem(row: str, error: VidembedError) -> Response:
    """Why a row's video is not there: to the browser in general words, on standard error in full,
    for a message names paths and options that are the operator's.
    """
    headers = {"Cache-Control": "no-store"}
    if not isinstance(error, ClipError):
        sys.stderr.write(f"vidembed: {error}\n")
        told = {"problem": "Index", "message": "the index does not answer"}
        return JSONResponse(told, HTTPStatus.BAD_GATEWAY, headers)
    if not isinstance(error, _NoRowError):
        sys.stderr.write(f"vidembed: {row}: {error}\n")
    status = _STATUS.get(error.kind, HTTPStatus.UNPROCESSABLE_ENTITY)
    told = {"problem": error.kind, "message": FAILURES[error.kind]}
    return JSONResponse(told, status, headers)


class _NoRowError(ClipError):
    """Nobody's fault but the caller's: not worth a line."""


def _no_row(row: str) -> ClipError:
    return _NoRowError("NotFound", f"the index has no row {row!r}")


def _answer(request: Request, video: Video) -> Response:
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": video.etag,
        "Cache-Control": "private, no-cache",
        # A link to the file opens it as what it is, or saves it; it is never a page.
        "Content-Disposition": "inline",
    }
    if video.etag in _tags(request.headers.get("if-none-match")):
        video.close()
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    try:
        span = _span(request, video)
    except UnsatisfiableError:
        video.close()
        headers["Content-Range"] = f"bytes */{video.size}"
        return Response(
            status_code=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            headers=headers,
            media_type=video.container.media_type,
        )
    status = HTTPStatus.OK
    if span is not None:
        status = HTTPStatus.PARTIAL_CONTENT
        headers["Content-Range"] = span.content_range
    start, end = (span.start, span.end) if span else (0, video.size)
    headers["Content-Length"] = str(end - start)
    media_type = video.container.media_type
    if request.method == "HEAD":
        video.close()
        return Response(status_code=status, headers=headers, media_type=media_type)
    return StreamingResponse(_sent(video, start, end), status, headers, media_type)


async def _sent(video: Video, start: int, end: int) -> AsyncIterator[bytes]:
    try:
        async for data in iterate_in_threadpool(video.chunks(start, end)):
            yield data
    finally:
        # A browser that seeks drops the connection: the file must not wait for the collector.
        video.close()


def _span(request: Request, video: Video) -> Span | None:
    unless = request.headers.get("if-range")
    if unless is not None and unless.strip() != video.etag:
        return None
    return asked_for(request.headers.get("range"), video.size)


def _tags(header: str | None) -> list[str]:
    return [tag.strip().removeprefix("W/") for tag in (header or "").split(",")]
