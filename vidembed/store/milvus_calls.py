"""How Milvus is reached and asked: one connection, one policy for what passes by itself."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from vidembed import sources
from vidembed.errors import ConfigError, RunError

if TYPE_CHECKING:
    from collections.abc import Callable

_Result = TypeVar("_Result")

# What a server says while it starts, recovers, is overloaded or protects its memory.
_PASSING = (
    "unavailable", "retry timeout", "rate limit", "limit exceeded", "quota", "not loaded",
    "not ready", "not found in distribution", "no available", "not serving", "not initialized",
    "node offline", "node not match", "channel not available", "collection not fully loaded",
    "connection refused", "deadline exceeded", "socket closed", "session expired",
    "service not ready", "not healthy", "fail to connect", "failed to connect",
)  # fmt: skip
_CERTIFICATES = {
    "ca_pem_path": "MILVUS_CA_PEM",
    "client_pem_path": "MILVUS_CLIENT_PEM",
    "client_key_path": "MILVUS_CLIENT_KEY",
    "server_name": "MILVUS_SERVER_NAME",
}
# Connections of this process to each Milvus Lite folder: the last one to close lets go of it.
_lite: Counter[str] = Counter()
_counting = threading.Lock()
# Milvus Lite writes a collection's schema to a file beside it and renames that: two calls at once
# take the file away from one another, and one of them fails.
_altering = threading.Lock()


class MilvusAwayError(RunError):
    """Milvus does not answer, or takes nothing at the moment: it may later."""


@dataclass(slots=True)
class Asking:
    """Calls to one Milvus. patience_s: how long a call that fails with something that passes by
    itself (a restart, a rate limit, a memory quota) is tried again; never after `closed`.
    """

    uri: str
    client: Any
    patience_s: float = 0.0
    closed: threading.Event = field(default_factory=threading.Event)

    def __call__(self, call: Callable[[], _Result]) -> _Result:
        """What `call` returns. Raises MilvusAwayError where it has not passed in time, RunError for
        what does not pass.
        """
        from pymilvus.exceptions import MilvusException

        deadline = time.monotonic() + self.patience_s
        wait = 0.25
        while True:
            try:
                return call()
            except MilvusException as error:
                if not passing(error):
                    raise RunError(f"Milvus at {self.uri}: {reason(error)}") from error
                if self.closed.is_set() or time.monotonic() + wait > deadline:
                    raise MilvusAwayError(f"Milvus at {self.uri}: {reason(error)}") from error
            # Shortened at random: workers that were turned away together do not return together.
            self.closed.wait(wait * random.uniform(0.5, 1.0))
            wait = min(2 * wait, 5.0)

    def alter(self, collection: str, properties: dict[str, str], **options: Any) -> None:
        """Set properties of a collection. From any thread; raises as a call does."""

        def call() -> None:
            with _altering if is_lite(self.uri) else nullcontext():
                self.client.alter_collection_properties(collection, properties, **options)

        self(call)


def passing(error: Exception) -> bool:
    """Whether the same call may succeed a little later."""
    text = str(getattr(error, "message", "") or error).lower()
    return any(words in text for words in _PASSING)


def reason(error: Exception) -> str:
    text = str(getattr(error, "message", "") or error)
    return text.splitlines()[0][:300] if text else type(error).__name__


def is_lite(uri: str) -> bool:
    return sources.is_local(uri) and uri.endswith(".db")


def check_uri(uri: str) -> None:
    """Raise ConfigError where `uri` is neither a Lite path nor a server's address."""
    if not (is_lite(uri) or sources.scheme(uri) in ("http", "https")):
        raise ConfigError(
            f"--milvus {uri}: expected a path ending in .db (Milvus Lite) or http://host:19530"
        )


def secrets() -> dict[str, str]:
    """What of this process's environment lets it into a server, for workers on other machines."""
    names = ("MILVUS_TOKEN", *_CERTIFICATES.values())
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def connect(uri: str) -> Asking:
    """A connection. Raises ConfigError where nothing answers or the token is refused."""
    check_uri(uri)
    # gRPC's fork handlers wait for its own threads, which Milvus Lite keeps busy: Ray, which forks
    # to start its processes, then sometimes never comes up. Read when grpc is first imported.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

    # It logs every error that it raises as well, with a traceback; we report it once. Not before it
    # is imported, which sets up its logging anew.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    options: dict[str, Any] = {}
    if is_lite(uri):
        uri = sources.absolute(uri)
        os.makedirs(os.path.dirname(uri), exist_ok=True)
    else:
        # Shared ones stay open, with the calls that are under way, when a client is closed.
        options["dedicated"] = True
        if token := os.environ.get("MILVUS_TOKEN"):
            options["token"] = token
        options |= _certificates()
    try:
        asking = Asking(uri, MilvusClient(uri=uri, timeout=15, **options))
    except (MilvusException, OSError, ValueError) as error:
        raise ConfigError(
            f"Milvus at {uri} does not answer ({reason(error)}); check the address, that it runs, "
            f"and MILVUS_TOKEN"
        ) from error
    if is_lite(uri):
        with _counting:
            _lite[uri] += 1
    return asking


def _certificates() -> dict[str, str]:
    given = {o: os.environ[name] for o, name in _CERTIFICATES.items() if os.environ.get(name)}
    for name in ("ca_pem_path", "client_pem_path", "client_key_path"):
        if name in given and not os.path.isfile(given[name]):
            raise ConfigError(f"{_CERTIFICATES[name]}={given[name]}: no such file")
    if "ca_pem_path" in given and "client_pem_path" not in given:
        # Where the client shows no certificate of its own, pymilvus has another word for it.
        given["server_pem_path"] = given.pop("ca_pem_path")
    return given


def disconnect(asking: Asking) -> None:
    """Close one connection. After the last one of this process, Milvus Lite gives its folder free
    for other processes.
    """
    if asking.closed.is_set():
        return
    asking.closed.set()
    asking.client.close()
    if not is_lite(asking.uri):
        return
    from milvus_lite.server_manager import server_manager_instance

    with _counting:
        _lite[asking.uri] -= 1
        if _lite[asking.uri] <= 0:
            del _lite[asking.uri]
            server_manager_instance.release_server(asking.uri)
