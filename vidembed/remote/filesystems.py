"""The fsspec file system of an address: one place for its options."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

from vidembed import addresses
from vidembed.errors import ConfigError
from vidembed.remote.failures import is_of_a_client, remedy
from vidembed.remote.retry import GaveUpError, is_transient, patiently

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidembed.access import Access

_Result = TypeVar("_Result")

_S3 = ("s3", "s3a")


def filesystem(uri: str, access: Access | None = None) -> Any:
    """The fsspec file system of `uri`. access: whose addresses these are; None where the user
    named them. Put what it is asked for into `reached`, which tries again.

    Raises ConfigError, with the remedy, where the scheme is unknown or its library is missing.
    """
    kind, options = addresses.scheme(uri), _options(uri, access)
    if kind in _S3:
        # Each request of a call that takes many: of a long listing as a whole none would succeed.
        return _made(lambda: _s3(options), kind)
    return _made(lambda: _fsspec().filesystem(kind, **options), kind)


def reader(uri: str, access: Access | None = None) -> tuple[Any, str]:
    """The file system of one object that is read, and the object's path in it. Its client does not
    try again by itself, where that can be told to it: `retry.patiently` does.

    Raises ConfigError.
    """
    kind, options = addresses.scheme(uri), _options(uri, access)
    if kind in _S3:
        return _made(lambda: _s3_once(options), kind), uri
    if addresses.is_web(uri):
        return filesystem(uri, access), uri
    fs, path = _made(lambda: _fsspec().core.url_to_fs(uri, **options), kind)
    return fs, str(path)


def _options(uri: str, access: Access | None) -> dict[str, Any]:
    kind = addresses.scheme(uri)
    options: dict[str, Any] = {}
    if kind in _S3:
        # A listing that fsspec remembers would hide what another process has written since.
        options = {"use_listings_cache": False, "config_kwargs": _once()}
        if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
            options["endpoint_url"] = endpoint
    if addresses.is_web(uri) and access is not None:
        from vidembed.remote.guard import GuardedClient

        options["get_client"] = GuardedClient(access)
    return options


def _once() -> dict[str, Any]:
    """botocore's options, as fsspec's configuration has them, with a single try."""
    from fsspec.config import conf

    given = conf.get("s3", {}).get("config_kwargs")
    return {**(given if isinstance(given, dict) else {}), "retries": {"total_max_attempts": 1}}


def _fsspec() -> Any:
    import fsspec

    return fsspec


def _s3(options: dict[str, Any]) -> Any:
    """s3fs with our view of what is worth another try."""
    from s3fs import S3FileSystem
    from s3fs.core import set_custom_error_handler

    set_custom_error_handler(is_transient)
    return S3FileSystem(**options)


def _s3_once(options: dict[str, Any]) -> Any:
    """s3fs that does not try again. It reads ranges and no files, whose cache tells it apart."""
    fs = _s3({**options, "default_cache_type": "none"})
    fs.retries = 1
    return fs


def _made(make: Callable[[], Any], kind: str) -> Any:
    try:
        return make()
    except (ImportError, ValueError, TypeError) as error:
        raise _unusable(kind, error) from error


def _unusable(kind: str, error: Exception) -> ConfigError:
    return ConfigError(f"cannot open {kind}:// addresses: {error}")


def reached(uri: str, call: Callable[[], _Result]) -> _Result:
    """What `call` returns, tried again after what passes by itself: it must be harmless to repeat.

    A refusal, or a connection that stays lost, becomes one ConfigError that says where and what to
    look at. Raises FileNotFoundError as the file system does.
    """
    try:
        return patiently(call)
    except FileNotFoundError:
        raise
    except PermissionError as error:
        reason = f"access refused ({addresses.scrubbed(str(error))}); {remedy(uri)}"
        raise ConfigError(f"{addresses.shown(uri)}: {reason}") from error
    except GaveUpError as error:
        said = addresses.scrubbed(str(error.__cause__)) or type(error.__cause__).__name__
        reason = f"cannot be reached ({said}, {error.tries} tries); {remedy(uri)}"
        raise ConfigError(f"{addresses.shown(uri)}: {reason}") from error
    except Exception as error:  # fsspec back ends raise whatever their client library has
        if is_of_a_client(error):
            reason = f"cannot be reached ({addresses.scrubbed(str(error))}); {remedy(uri)}"
            raise ConfigError(f"{addresses.shown(uri)}: {reason}") from error
        raise
