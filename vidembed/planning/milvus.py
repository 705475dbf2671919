"""How fast a Milvus takes rows: measured with a collection that is dropped again."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

import pyarrow as pa

from vidembed import schema
from vidembed.config import CollectionOptions
from vidembed.planning.measure import renamed
from vidembed.store.milvus import Collection
from vidembed.store.projection import collection_spec
from vidembed.store.run import Run

if TYPE_CHECKING:
    from vidembed.encode.spec import EncoderSpec

_SECONDS = 2.0
_ROWS = 1000
_MOST_ROWS = 20_000


def rows_per_s(uri: str, spec: EncoderSpec, encoded: pa.Table) -> float:
    """Rows of vectors that one writer upserts in a second. Raises ConfigError, RunError."""
    record = {
        "identity": spec.identity, "fingerprint": spec.fingerprint, "dim": spec.dim,
        "metric": spec.metric, "weights": spec.weights,
    }  # fmt: skip
    name = f"vidembed_plan_{uuid.uuid4().hex[:12]}"
    wanted = collection_spec(
        Run("", record), CollectionOptions(), name, schema.metadata_of(encoded.schema)
    )
    rows = _embeddings(encoded, spec.dim)
    collection = Collection(uri, name)
    try:
        collection.create(wanted)
        try:
            sent, began = 0, time.perf_counter()
            while (spent := time.perf_counter() - began) < _SECONDS and sent < _MOST_ROWS:
                sent += collection.upsert(renamed(rows, sent))
            return sent / spent
        finally:
            collection.drop()
    finally:
        collection.close()


def _embeddings(encoded: pa.Table, dim: int) -> pa.Table:
    """The columns that a part has, of so many rows."""
    wanted = schema.embeddings(dim, schema.metadata_of(encoded.schema))
    table = encoded.select(wanted.names)
    return table.take(pa.array([k % len(table) for k in range(_ROWS)]))
