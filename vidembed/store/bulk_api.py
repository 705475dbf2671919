"""Milvus's import of files, asked for in two ways: over REST (servers from 2.4 on), and by the
older calls of gRPC (of those servers, 2.3.4 and later take Parquet).

An import is not idempotent: the same file twice is every row twice. A request whose answer got
lost is therefore looked for before it is made again.
"""

from __future__ import annotations

import inspect
import json
import os
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vidembed.errors import ConfigError

if TYPE_CHECKING:
    from vidembed.store.milvus import Collection

_CALL_S = 30.0
_IMPORT = "/v2/vectordb/jobs/import/"


@dataclass(frozen=True, slots=True)
class State:
    """Of one import. rows: imported so far; failed: why, where it has failed."""

    rows: int
    over: bool
    failed: str = ""


class Imports(Protocol):
    """Imports into one collection. Raises MilvusException, as pymilvus does."""

    def start(self, path: str) -> str:
        """Ask for one file to be imported; returns the name of the job."""

    def find(self, path: str) -> str | None:
        """The job that imports this file, where there is one."""

    def state(self, job: str) -> State: ...


def imports(collection: Collection) -> Imports:
    """The way of this server. Raises ConfigError where it has none."""
    rest = RestImports(collection.uri, collection.name)
    if rest.exists():
        return rest
    version = collection.version()
    if version < (2, 3, 4):
        raise ConfigError(
            f"Milvus {'.'.join(map(str, version))} at {collection.uri} imports no Parquet: --bulk "
            f"needs 2.3.4 or newer; leave it out"
        )
    return GrpcImports(collection.asking.client._get_connection(), collection.name)


class GrpcImports:
    """The calls of before 2.4. connection: pymilvus's handler of one server."""

    def __init__(self, connection: Any, collection: str) -> None:
        self._connection, self._collection = connection, collection

    def start(self, path: str) -> str:
        return str(self._once("do_bulk_insert", self._collection, "", [path]))

    def find(self, path: str) -> str | None:
        tasks = self._connection.list_bulk_insert_tasks(0, self._collection, timeout=_CALL_S)
        return next((str(t.task_id) for t in tasks if t.infos.get("files") == path), None)

    def state(self, job: str) -> State:
        found = self._connection.get_bulk_insert_state(int(job), timeout=_CALL_S)
        failed = found.infos.get("failed_reason") or found.state_name
        return State(
            found.row_count,
            found.state_name == "Completed",
            failed if found.state_name.startswith("Failed") else "",
        )

    def _once(self, name: str, *words: Any) -> Any:
        """pymilvus's call without its retries, which would import the file again."""
        import grpc  # type: ignore[import-untyped]
        from pymilvus.exceptions import MilvusException

        plain = inspect.unwrap(getattr(type(self._connection), name))
        try:
            return plain(self._connection, *words, timeout=_CALL_S)
        except grpc.RpcError as error:
            code = getattr(error, "code", lambda: "")()
            raise MilvusException(message=f"{code}: {error}") from error


class RestImports:
    """The REST API, version 2, as the servers' documentation has it since 2.4."""

    def __init__(self, uri: str, collection: str) -> None:
        self._uri, self._collection = uri.rstrip("/"), collection
        self._context = _tls() if uri.startswith("https://") else None

    def exists(self) -> bool:
        """Whether the server has this API."""
        return self._post("list", {"collectionName": self._collection}) is not None

    def start(self, path: str) -> str:
        made = self._said("create", {"collectionName": self._collection, "files": [[path]]})
        return str(made["jobId"])

    def find(self, path: str) -> str | None:
        listed = self._said("list", {"collectionName": self._collection}).get("records") or []
        for record in listed:
            details = self._said("describe", {"jobId": str(record["jobId"])}).get("details") or []
            if any(path in str(each.get("fileName")) for each in details):
                return str(record["jobId"])
        return None

    def state(self, job: str) -> State:
        found = self._said("describe", {"jobId": job})
        name = str(found.get("state"))
        failed = str(found.get("reason") or name) if name == "Failed" else ""
        return State(int(found.get("importedRows") or 0), name == "Completed", failed)

    def _said(self, action: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self._post(action, body)
        # The page of 2.4 has `get_progress`, later ones `describe`, with the same answer.
        if answer is None and action == "describe":
            answer = self._post("get_progress", body)
        if answer is None:
            raise _wrong(f"{self._uri}{_IMPORT}{action}: nothing there")
        return answer

    def _post(self, action: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The answer's `data`; None where the server does not know the address."""
        headers = {"Content-Type": "application/json"}
        if token := os.environ.get("MILVUS_TOKEN"):
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(
            self._uri + _IMPORT + action, json.dumps(body).encode(), headers
        )
        try:
            with urllib.request.urlopen(request, timeout=_CALL_S, context=self._context) as said:
                answer = json.loads(said.read())
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            passes = "unavailable: " if error.code in (429, 502, 503, 504) else ""
            raise _wrong(f"{passes}HTTP {error.code} {error.reason}") from error
        except (OSError, ValueError) as error:
            raise _wrong(f"unavailable: {error}") from error
        # 200 was the word for it before 2.4.
        if answer.get("code") not in (0, 200):
            raise _wrong(str(answer.get("message") or answer))
        return dict(answer.get("data") or {})


def _wrong(reason: str) -> Exception:
    from pymilvus.exceptions import MilvusException

    error: Exception = MilvusException(message=reason)
    return error


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=os.environ.get("MILVUS_CA_PEM"))
    if certificate := os.environ.get("MILVUS_CLIENT_PEM"):
        context.load_cert_chain(certificate, os.environ.get("MILVUS_CLIENT_KEY"))
    return context
