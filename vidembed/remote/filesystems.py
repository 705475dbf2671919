"""The fsspec file system of an address: one place for its options."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from vidembed import addresses
from vidembed.errors import ConfigError
from vidembed.remote.failures import is_of_a_client, remedy

if TYPE_CHECKING:
    from vidembed.access import Access

_S3 = ("s3", "s3a")


def filesystem(uri: str, access: Access | None = None) -> Any:
    """The fsspec file system of `uri`. access: whose addresses these are; None where the user
    named them.

    Raises ConfigError, with the remedy, where the scheme is unknown or its library is missing.
    """
    return _made(addresses.scheme(uri), _options(uri, access))


def reader(uri: str, access: Access | None = None) -> tuple[Any, str]:
    """The file system of one object that is read, and the object's path in it. Its client does not
    try again by itself, where that can be told to it: `retry.patiently` does.

    Raises ConfigError.
    """
    kind = addresses.scheme(uri)
    options = _options(uri, access)
    if kind in _S3:
        from fsspec.config import conf

        given = conf.get("s3", {}).get("config_kwargs")
        once = {"retries": {"total_max_attempts": 1}}
        options["config_kwargs"] = {**given, **once} if isinstance(given, dict) else once
        fs = _made(kind, options)
        fs.retries = 1
        return fs, uri
    if addresses.is_web(uri):
        return _made(kind, options), uri
    import fsspec

    try:
        fs, path = fsspec.core.url_to_fs(uri, **options)
    except (ImportError, ValueError, TypeError) as error:
        raise _unusable(kind, error) from error
    return fs, str(path)


def _options(uri: str, access: Access | None) -> dict[str, Any]:
    kind = addresses.scheme(uri)
    options: dict[str, Any] = {}
    if kind in _S3:
        # A listing that fsspec remembers would hide what another process has written since.
        options = {"use_listings_cache": False}
        if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
            options["endpoint_url"] = endpoint
    if addresses.is_web(uri) and access is not None:
        from vidembed.remote.guard import GuardedClient

        options["get_client"] = GuardedClient(access)
    return options


def _made(kind: str, options: dict[str, Any]) -> Any:
    import fsspec

    try:
        return fsspec.filesystem(kind, **options)
    except (ImportError, ValueError) as error:
        raise _unusable(kind, error) from error


def _unusable(kind: str, error: Exception) -> ConfigError:
    return ConfigError(f"cannot open {kind}:// addresses: {error}")


def reached(uri: str, call: Any) -> Any:
    """What `call` returns; a refusal or a lost connection becomes one ConfigError that says where
    and what to look at.
    """
    try:
        return call()
    except FileNotFoundError:
        raise
    except PermissionError as error:
        reason = f"access refused ({addresses.scrubbed(str(error))}); {remedy(uri)}"
        raise ConfigError(f"{addresses.shown(uri)}: {reason}") from error
    except Exception as error:  # fsspec back ends raise whatever their client library has
        if is_of_a_client(error):
            reason = f"cannot be reached ({addresses.scrubbed(str(error))}); {remedy(uri)}"
            raise ConfigError(f"{addresses.shown(uri)}: {reason}") from error
        raise
