"""Rows of a run as a collection has them: its fields, their types and values."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vidembed import schema
from vidembed.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vidembed.store.milvus import CollectionSpec

_MAX_ID = 1024
_MAX_TEXT = 8192
_ONLY_IN_PARQUET = ("source_state",)
_AS_THEY_ARE = frozenset({str, int, float, bool})


def longest(name: str) -> int:
    """Bytes that a field of text holds."""
    return _MAX_ID if name in ("id", "video_id") else _MAX_TEXT


def fields_of(spec: CollectionSpec) -> list[tuple[str, Any, dict[str, Any]]]:
    """(name, type, parameters) of each field of a new collection."""
    from pymilvus import DataType

    kinds = {
        pa.string(): DataType.VARCHAR,
        pa.int32(): DataType.INT32,
        pa.float64(): DataType.DOUBLE,
    }
    vector = DataType.FLOAT16_VECTOR if spec.vector_type == "float16" else DataType.FLOAT_VECTOR
    fields: list[tuple[str, Any, dict[str, Any]]] = []
    for each in schema.embeddings(spec.dim, pa.schema([])):
        if each.name in _ONLY_IN_PARQUET:
            continue
        if each.name == "embedding":
            fields.append((each.name, vector, {"dim": spec.dim}))
            continue
        is_text = each.type == pa.string()
        params: dict[str, Any] = {"max_length": longest(each.name)} if is_text else {}
        if each.name == "id":
            params["is_primary"] = True
        fields.append((each.name, kinds[each.type], params))
    for name, kind in spec.columns.items():
        params = {"max_length": _MAX_TEXT} if kind == "VARCHAR" else {}
        if name == spec.partition_key:
            params["is_partition_key"] = True
        fields.append((name, getattr(DataType, kind), params))
    return fields


def column_type(kind: pa.DataType) -> str | None:
    """The type of a field of its own for a metadata column; None where there is none."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "VARCHAR"
    if pa.types.is_integer(kind):
        return "INT64"
    if pa.types.is_floating(kind):
        return "DOUBLE"
    return "BOOL" if pa.types.is_boolean(kind) else None


def records(rows: pa.Table, typed: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rows of `schema.embeddings` for a request. typed: the collection's fields and their types."""
    metadata = schema.metadata_of(rows.schema).names
    vectors = rows["embedding"].combine_chunks()
    if isinstance(vectors, pa.ChunkedArray):
        vectors = pa.concat_arrays(vectors.chunks)
    matrix = vectors.flatten().to_numpy().reshape(len(rows), -1)
    if typed["embedding"] == "FLOAT16_VECTOR":
        matrix = matrix.astype(np.float16)
    own = [name for name in metadata if name in typed]
    dynamic = [name for name in metadata if name not in typed]
    others = [name for name in _ONLY_IN_PARQUET if name in rows.column_names]
    found: list[dict[str, Any]] = rows.drop_columns(["embedding", *metadata, *others]).to_pylist()
    described = rows.select(["id", *metadata]).to_pylist()
    for record, row, vector in zip(found, described, matrix, strict=True):
        # The dynamic field is JSON: what is null is left out, what JSON has no word for is text.
        for name in dynamic:
            if row[name] is not None:
                record[name] = json_value(row[name])
        for name in own:
            record[name] = _field_value(row, name, typed[name])
        record["embedding"] = vector
    return found


def _field_value(row: dict[str, Any], name: str, kind: str) -> Any:
    if row[name] is None:
        if kind == "VARCHAR":
            return ""
        raise no_value(row["id"], name, kind)
    return row[name]


def no_value(row: str, name: str, kind: str) -> RunError:
    return RunError(
        f"{row} has no {name}, which is a field of its own in Milvus and holds {kind}: leave it "
        f"out of --partition-key and --scalar-index, or give it a value"
    )


def json_value(value: Any) -> Any:
    """As the dynamic field, which is JSON, has it."""
    if type(value) in _AS_THEY_ARE:
        return value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return json.loads(json.dumps(value, default=str))
