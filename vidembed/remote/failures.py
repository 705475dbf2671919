"""What an error of any back end's client means for one video, in words that keep its secrets."""

from __future__ import annotations

from http import HTTPStatus

from vidembed import addresses
from vidembed.errors import ClipError, ConfigError
from vidembed.remote.retry import GaveUpError, ShortReadError, is_transient, status_of

CLIENTS = frozenset(
    {"botocore", "aiobotocore", "aiohttp", "s3fs", "gcsfs", "adlfs", "ossfs", "requests", "httpx",
     "azure", "huggingface_hub", "google"}
)  # fmt: skip
_S3_REMEDY = (
    "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and, for a server other than AWS, "
    "AWS_ENDPOINT_URL"
)


class NoRangesError(Exception):
    """The server hands out the whole file or nothing, or tells no size: it must be copied."""


def is_of_a_client(error: BaseException) -> bool:
    """Whether an error is one that back ends raise for the state of the world."""
    own = isinstance(error, OSError | ShortReadError | GaveUpError)
    return own or type(error).__module__.partition(".")[0] in CLIENTS


def remedy(uri: str) -> str:
    if addresses.scheme(uri) in ("s3", "s3a"):
        return _S3_REMEDY
    return "check the address and the credentials"


def changed(uri: str) -> ClipError:
    """The object is no longer the one whose beginning was read."""
    reason = "it changed while it was read; run again once nothing writes to it"
    return ClipError("ReadFailed", f"{addresses.shown(uri)}: {reason}")


def clip_error(uri: str, error: Exception) -> ClipError:
    """NotFound, Forbidden or ReadFailed, naming the address and the remedy.

    Raises `error` itself where it is none of a back end's: then it is ours.
    """
    shown = addresses.shown(uri)
    if isinstance(error, ClipError):
        return error
    if isinstance(error, ConfigError):
        return ClipError("ReadFailed", str(error))
    if isinstance(error, GaveUpError):
        again = "the server was busy or the connection lost; run again later"
        cause = error.__cause__ or error
        tries = "1 try" if error.tries == 1 else f"{error.tries} tries"
        return ClipError("ReadFailed", f"{shown}: {_said(cause)} ({tries}); {again}")
    if not is_of_a_client(error):
        raise error
    status = status_of(error)
    missing = isinstance(error, FileNotFoundError) and not is_transient(error)
    if status in (404, 410) or (missing and status is None):
        return ClipError("NotFound", f"{shown}: nothing there")
    if status in (401, 403, 407) or isinstance(error, PermissionError):
        return ClipError("Forbidden", f"{shown}: access refused ({_said(error)}); {remedy(uri)}")
    return ClipError("ReadFailed", f"{shown}: {_said(error)}; {remedy(uri)}")


def _said(error: BaseException) -> str:
    """The reason alone: messages of aiohttp hold the whole address, signature included."""
    status = status_of(error)
    if status is not None and type(error).__module__.startswith("aiohttp"):
        try:
            return f"the server answered {status} {HTTPStatus(status).phrase}"
        except ValueError:
            return f"the server answered {status}"
    return addresses.scrubbed(str(error)) or type(error).__name__
