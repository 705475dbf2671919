"""One policy for what passes by itself: throttling, overload, lost connections, timeouts."""

from __future__ import annotations

import random
import socket
import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

from vidembed.errors import VidembedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_Result = TypeVar("_Result")

_PERMANENT_5XX = frozenset({501, 505})
_TRANSIENT_4XX = frozenset({408, 425, 429})
# By name, for the library of a back end that is not used is not loaded, and may not be installed.
_TRANSIENT = frozenset(
    {
        "aiohttp.ClientConnectionError",
        "aiohttp.ClientPayloadError",
        "botocore.ConnectionError",
        "botocore.HTTPClientError",
        "botocore.IncompleteReadError",
        "botocore.ResponseParserError",
        "botocore.ResponseStreamingError",
        "requests.ConnectionError",
        "requests.ChunkedEncodingError",
        "requests.Timeout",
        "httpx.TransportError",
        "azure.ServiceRequestError",
        "azure.ServiceResponseError",
    }
)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to go on: waits double from `first_s` up to `most_s`, each shortened by up to half
    at random, so that workers which were throttled together do not come back together. No try
    begins later than `total_s` after the first.
    """

    tries: int = 5
    first_s: float = 0.5
    most_s: float = 8.0
    total_s: float = 30.0


PATIENCE = Patience()


class ShortReadError(Exception):
    """A server closed its answer in good order before it had sent what it had announced."""


class GaveUpError(Exception):
    """Something transient did not pass. Its cause is the last error."""

    def __init__(self, tries: int) -> None:
        super().__init__(tries)
        self.tries = tries


def patiently(call: Callable[[], _Result]) -> _Result:
    """What `call` returns, tried again after transient errors, with `PATIENCE`.

    Raises GaveUpError after the last try; an error that would come again is raised as it is.
    """
    patience, began, attempt = PATIENCE, time.monotonic(), 0
    while True:
        attempt += 1
        try:
            return call()
        except Exception as error:
            if not is_transient(error):
                raise
            pause = _pause(error, attempt, patience)
            late = time.monotonic() - began + pause > patience.total_s
            if attempt >= patience.tries or late:
                raise GaveUpError(attempt) from error
        time.sleep(pause)


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed a moment later."""
    if isinstance(error, ShortReadError):
        return True
    if isinstance(error, VidembedError):
        # A verdict of our own, whatever it was drawn from.
        return False
    if (status := status_of(error)) is not None:
        return status in _TRANSIENT_4XX or (status >= 500 and status not in _PERMANENT_5XX)
    return any(_is_lost_connection(link) for link in _chain(error))


def status_of(error: BaseException) -> int | None:
    """The HTTP status in an error of aiohttp, botocore, requests, gcsfs or azure, if it has one."""
    for link in _chain(error):
        response = getattr(link, "response", None)
        if isinstance(response, dict):
            found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        else:
            found = getattr(response, "status_code", None)
        # aiohttp has a `code` of its own for answers that break off; only gcsfs means the status.
        names = ("status", "status_code", *(["code"] if _root(link) == "gcsfs" else []))
        for value in (found, *(getattr(link, name, None) for name in names)):
            if isinstance(value, int) and 400 <= value < 600:
                return value
    return None


def _is_lost_connection(error: BaseException) -> bool:
    if isinstance(error, ssl.SSLCertVerificationError) or _is_unknown_name(error):
        return False
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    return any(f"{_root(kind)}.{kind.__name__}" in _TRANSIENT for kind in type(error).mro())


def _root(thing: object) -> str:
    """The library that an error or its class is from."""
    kind = thing if isinstance(thing, type) else type(thing)
    return kind.__module__.partition(".")[0]


def _is_unknown_name(error: BaseException) -> bool:
    cause = getattr(error, "os_error", error)
    return isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME


def _pause(error: BaseException, attempt: int, patience: Patience) -> float:
    asked = _retry_after(error)
    if asked is not None:
        return asked
    most = min(patience.most_s, patience.first_s * 2.0 ** (attempt - 1))
    return most * random.uniform(0.5, 1.0)


def _retry_after(error: BaseException) -> float | None:
    """Seconds that the server asks for, as a number or as a date; None where it asks for none."""
    for link in _chain(error):
        for headers in _headers(link):
            value = headers.get("Retry-After") or headers.get("retry-after")
            if value is None:
                continue
            try:
                return max(0.0, float(value))
            except ValueError:
                pass
            until = _date(value)
            if until is None:
                return None
            # By the server's clock, where it tells it: ours may be off.
            now = _date(headers.get("Date") or headers.get("date")) or datetime.now(UTC)
            return max(0.0, (until - now).total_seconds())
    return None


def _date(value: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(value or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _headers(error: BaseException) -> Iterator[Any]:
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        yield response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    for place in (error, response):
        if hasattr(getattr(place, "headers", None), "get"):
            yield place.headers  # type: ignore[union-attr]


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__
