"""A Milvus collection: made, checked, written by upsert, searched. pymilvus lives here only."""

from __future__ import annotations

import datetime
import json
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from vidembed import schema, sources
from vidembed.errors import ConfigError, RunError, RunMismatchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

# Rows a request: well below the 64 MB of a request and the 2,000 rows that older Lite takes well.
_BATCH_ROWS = 1000
_MAX_ID = 1024
_MAX_URI = 8192
_PROPERTY = "vidembed."
_INDEX_PARAMS: dict[str, dict[str, int]] = {
    "IVF_FLAT": {"nlist": 1024},
    "HNSW": {"M": 16, "efConstruction": 200},
}
_MADE_FOR = ("encoder", "weights", "fingerprint", "metric", "clip")


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionSpec:
    """What a collection is for: vectors of one encoder, compared by one metric.

    clip: sampling and preprocessing as JSON, so that a search by video prepares its query alike.
    """

    name: str
    dim: int
    metric: str
    index: str
    encoder: str
    weights: str
    fingerprint: str
    clip: str


class Collection:
    """One collection of one server, or of one Milvus Lite folder.

    Milvus Lite has a single writer: open it in one process at a time.
    """

    def __init__(self, uri: str, name: str) -> None:
        """Connect. Raises ConfigError where nothing answers or the token is refused."""
        self.uri, self.name = uri, name
        self._client = _connect(uri)

    @property
    def is_lite(self) -> bool:
        return is_lite(self.uri)

    def close(self) -> None:
        """Disconnect; Milvus Lite gives its folder free for other processes."""
        self._client.close()
        if self.is_lite:
            from milvus_lite.server_manager import server_manager_instance

            server_manager_instance.release_server(sources.absolute(self.uri))

    def exists(self) -> bool:
        return bool(_asked(self.uri, lambda: self._client.has_collection(self.name)))

    def collections(self) -> list[str]:
        """The names of all collections there."""
        return list(_asked(self.uri, self._client.list_collections))

    def made_for(self) -> dict[str, str]:
        """The encoder, weights, fingerprint and metric that the collection holds vectors of.

        Raises ConfigError where there is no such collection or vidembed did not make it.
        """
        if not self.exists():
            names = self.collections()
            raise ConfigError(
                f"{self.uri} has no collection {self.name!r}; it has: {', '.join(names) or 'none'}"
            )
        found = self._client.describe_collection(self.name).get("properties") or {}
        made = {k: str(found.get(_PROPERTY + k, "")) for k in _MADE_FOR}
        if not made["fingerprint"]:
            raise ConfigError(
                f"collection {self.name!r} in {self.uri} carries no fingerprint: vidembed did not "
                f"make it; name another --collection"
            )
        return made

    def ensure(self, spec: CollectionSpec) -> None:
        """Make the collection, or check that it is the one that `spec` describes.

        Raises RunMismatchError where it holds vectors of another encoder or metric.
        """
        if self.is_lite and spec.index == "DISKANN":
            raise ConfigError("Milvus Lite has no DISKANN index; use HNSW or IVF_FLAT, or a server")
        if not self.exists():
            self._create(spec)
            return
        made = self.made_for()
        for what, wanted in (("fingerprint", spec.fingerprint), ("metric", spec.metric)):
            if made[what] != wanted:
                raise RunMismatchError(
                    f"collection {self.name!r} in {self.uri} was made for {made['encoder']} with "
                    f"{what} {made[what]}, not {spec.encoder} with {wanted}: vectors of two kinds "
                    f"do not compare; name another --collection"
                )

    def _create(self, spec: CollectionSpec) -> None:
        layout = self._client.create_schema(auto_id=False, enable_dynamic_field=True)
        for name, kind, params in _fields(spec.dim):
            layout.add_field(name, kind, is_primary=name == "id", **params)
        index = self._client.prepare_index_params()
        index.add_index(
            "embedding",
            index_type=spec.index,
            metric_type=spec.metric,
            params=_INDEX_PARAMS.get(spec.index, {}),
        )
        properties = {
            _PROPERTY + "encoder": spec.encoder,
            _PROPERTY + "weights": spec.weights,
            _PROPERTY + "fingerprint": spec.fingerprint,
            _PROPERTY + "metric": spec.metric,
            _PROPERTY + "clip": spec.clip,
        }
        _asked(
            self.uri,
            lambda: self._client.create_collection(
                spec.name,
                schema=layout,
                index_params=index,
                properties=properties,
                consistency_level="Strong",
            ),
        )

    def upsert(self, rows: pa.Table) -> int:
        """Write rows of `schema.embeddings`, keyed by `id`; any repetition is harmless."""
        written = 0
        for at in range(0, len(rows), _BATCH_ROWS):
            records = _records(rows.slice(at, _BATCH_ROWS))
            _asked(self.uri, lambda records=records: self._client.upsert(self.name, records))
            written += len(records)
        return written

    def delete(self, ids: Sequence[str]) -> None:
        """Delete the rows of these keys; those that are not there are no error."""
        for at in range(0, len(ids), _BATCH_ROWS):
            some = list(ids[at : at + _BATCH_ROWS])
            _asked(self.uri, lambda some=some: self._client.delete(self.name, ids=some))

    def lacking(self, ids: Sequence[str]) -> list[str]:
        """Those of these keys that the collection does not have."""
        found: set[str] = set()
        self._client.load_collection(self.name)
        for at in range(0, len(ids), _BATCH_ROWS):
            some = list(ids[at : at + _BATCH_ROWS])
            rows = _asked(
                self.uri,
                lambda some=some: self._client.get(self.name, ids=some, output_fields=["id"]),
            )
            found.update(row["id"] for row in rows)
        return [key for key in ids if key not in found]

    def count(self) -> int:
        """Rows that a search would see, deleted ones left out."""
        found = _asked(
            self.uri,
            lambda: self._client.query(self.name, filter="", output_fields=["count(*)"]),
        )
        return int(found[0]["count(*)"])

    def search(self, vectors: NDArray[np.float32], top: int) -> list[list[dict[str, Any]]]:
        """The `top` nearest rows of each vector [n, dim], best first: fields and `score`."""
        self._client.load_collection(self.name)
        answers = _asked(
            self.uri,
            lambda: self._client.search(
                self.name, data=list(vectors), limit=top, output_fields=["*"]
            ),
        )
        return [[_hit(hit) for hit in hits] for hits in answers]


def is_lite(uri: str) -> bool:
    return sources.is_local(uri) and uri.endswith(".db")


def check_uri(uri: str) -> None:
    """Raise ConfigError where `uri` is neither a Lite path nor a server's address."""
    if not (is_lite(uri) or sources.scheme(uri) in ("http", "https")):
        raise ConfigError(
            f"--milvus {uri}: expected a path ending in .db (Milvus Lite) or http://host:19530"
        )


def _connect(uri: str) -> Any:
    check_uri(uri)
    # It logs every error that it raises as well, with a traceback; we report it once.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    # gRPC's fork handlers wait for its own threads, which Milvus Lite keeps busy: Ray, which forks
    # to start its processes, then sometimes never comes up. Read when grpc is first imported.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

    options: dict[str, Any] = {}
    if is_lite(uri):
        uri = sources.absolute(uri)
        os.makedirs(os.path.dirname(uri), exist_ok=True)
    elif token := os.environ.get("MILVUS_TOKEN"):
        options["token"] = token
    try:
        return MilvusClient(uri=uri, timeout=15, **options)
    except (MilvusException, OSError, ValueError) as error:
        raise ConfigError(
            f"Milvus at {uri} does not answer ({_reason(error)}); check the address, that it runs, "
            f"and MILVUS_TOKEN"
        ) from error


def _asked(uri: str, call: Any) -> Any:
    from pymilvus.exceptions import MilvusException

    try:
        return call()
    except MilvusException as error:
        raise RunError(f"Milvus at {uri}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    text = str(getattr(error, "message", "") or error)
    return text.splitlines()[0][:300] if text else type(error).__name__


def _fields(dim: int) -> list[tuple[str, Any, dict[str, Any]]]:
    from pymilvus import DataType

    kinds = {
        pa.string(): DataType.VARCHAR,
        pa.int32(): DataType.INT32,
        pa.float64(): DataType.DOUBLE,
    }
    fields: list[tuple[str, Any, dict[str, Any]]] = []
    for field in schema.embeddings(dim, pa.schema([])):
        if field.name == "embedding":
            fields.append((field.name, DataType.FLOAT_VECTOR, {"dim": dim}))
            continue
        length = _MAX_URI if field.name == "uri" else _MAX_ID
        params = {"max_length": length} if field.type == pa.string() else {}
        fields.append((field.name, kinds[field.type], params))
    return fields


def _records(rows: pa.Table) -> list[dict[str, Any]]:
    metadata = schema.metadata_of(rows.schema).names
    vectors = rows["embedding"].combine_chunks()
    if isinstance(vectors, pa.ChunkedArray):
        vectors = pa.concat_arrays(vectors.chunks)
    matrix = vectors.flatten().to_numpy().reshape(len(rows), -1)
    records: list[dict[str, Any]] = []
    for row, vector in zip(rows.drop_columns(["embedding"]).to_pylist(), matrix, strict=True):
        record = {k: v for k, v in row.items() if k not in metadata}
        # The dynamic field is JSON: what is null is left out, what JSON has no word for is text.
        record |= {k: _json_value(row[k]) for k in metadata if row[k] is not None}
        record["embedding"] = vector
        records.append(record)
    return records


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return json.loads(json.dumps(value, default=str))


def _hit(hit: Any) -> dict[str, Any]:
    entity = {k: v for k, v in dict(hit["entity"]).items() if k != "embedding"}
    return {**entity, "id": hit["id"], "score": float(hit["distance"])}
