"""A run's rows as the Parquet files that Milvus imports, staged where the server reads them.

A file has a column for each field of the collection, and `$meta`, the dynamic field as JSON text.
Vectors are lists without a fixed size: servers of 2.3 refuse the other kind.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vidembed import schema, sources
from vidembed.errors import ConfigError, RunError
from vidembed.store.milvus_rows import json_value, longest, no_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from vidembed.store.run import Run

_DYNAMIC = "$meta"
# Raw bytes converted at once, and in a row group.
_CHUNK_BYTES = 64 << 20
_TYPES = {
    "VARCHAR": pa.string(),
    "INT32": pa.int32(),
    "INT64": pa.int64(),
    "DOUBLE": pa.float64(),
    "BOOL": pa.bool_(),
}


@dataclass(frozen=True, slots=True)
class Staged:
    """One file. uri: where it was written; path: what the server calls it."""

    uri: str
    path: str
    rows: int


@dataclass(frozen=True, slots=True)
class Stage:
    """A folder for the files of one bulk load. Raises ConfigError for what Milvus cannot read."""

    folder: str

    @classmethod
    def under(cls, place: str, token: str) -> Stage:
        place = sources.absolute(place)
        if not sources.is_local(place) and sources.scheme(place) not in ("s3", "s3a"):
            raise ConfigError(f"--stage {place}: expected a folder, or s3://BUCKET/PREFIX")
        return cls(sources.join(place, f"vidembed-bulk-{token}"))

    def path(self, uri: str) -> str:
        """What the server calls a file: an absolute path, or the key in its bucket."""
        if sources.is_local(uri):
            return sources.local_path(uri)
        return uri.partition("://")[2].partition("/")[2]

    def clear(self) -> None:
        sources.remove(self.folder)


def staged(
    run: Run, parts: Iterable[str], fields: Mapping[str, str], stage: Stage, file_bytes: int
) -> Iterator[Staged]:
    """Write these parts as files of about so many bytes of rows, one after the other."""
    file: _File | None = None
    number = 0
    for part in parts:
        for rows in _slices(run.read_part(part), min(file_bytes // 4, _CHUNK_BYTES)):
            if file is None:
                file = _File(sources.join(stage.folder, f"{number:06d}.parquet"))
                number += 1
            file.write(import_rows(rows, fields))
            if file.nbytes >= file_bytes:
                yield file.close(stage)
                file = None
    if file is not None:
        yield file.close(stage)


def _slices(rows: pa.Table, nbytes: int) -> Iterator[pa.Table]:
    width = max(1, rows.nbytes // max(1, len(rows)))
    step = max(1, nbytes // width)
    for at in range(0, len(rows), step):
        yield rows.slice(at, step)


class _File:
    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._stream: Any = None
        self._writer: pq.ParquetWriter | None = None
        self._rows = 0
        self.nbytes = 0

    def write(self, table: pa.Table) -> None:
        if self._writer is None:
            self._stream = _opened(self._uri)
            self._writer = pq.ParquetWriter(self._stream, table.schema, compression="zstd")
        self._writer.write_table(table, row_group_size=max(1, len(table)))
        self._rows += len(table)
        self.nbytes += table.nbytes

    def close(self, stage: Stage) -> Staged:
        assert self._writer is not None
        self._writer.close()
        self._stream.close()
        return Staged(self._uri, stage.path(self._uri), self._rows)


def _opened(uri: str) -> Any:
    if not sources.is_local(uri):
        return sources.filesystem(uri).open(uri, "wb")
    path = sources.local_path(uri)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        # The server runs as another user.
        os.chmod(os.path.dirname(path), 0o755)
        return open(path, "wb")
    except OSError as error:
        raise ConfigError(f"--stage: {error}") from error


def import_rows(rows: pa.Table, fields: Mapping[str, str]) -> pa.Table:
    """Rows of `schema.embeddings` as Milvus imports them into a collection of these fields.

    Raises RunError for a row without a value that a field must have.
    """
    columns = {
        name: _vectors(rows[name], kind) if kind.endswith("VECTOR") else _column(rows, name, kind)
        for name, kind in fields.items()
        if name != _DYNAMIC
    }
    dynamic = [name for name in schema.metadata_of(rows.schema).names if name not in fields]
    texts = ["{}"] * len(rows)
    if dynamic:
        texts = [
            json.dumps({k: json_value(v) for k, v in row.items() if v is not None})
            for row in rows.select(dynamic).to_pylist()
        ]
    return pa.table({**columns, _DYNAMIC: pa.array(texts, pa.string())})


def _column(rows: pa.Table, name: str, kind: str) -> pa.ChunkedArray:
    wanted = _TYPES[kind]
    if name not in rows.column_names:
        rows = rows.append_column(name, pa.nulls(len(rows), wanted))
    column = rows[name].cast(wanted)
    if kind == "VARCHAR":
        _check_lengths(rows, name, column)
    if not column.null_count:
        return column
    if kind == "VARCHAR":
        return pc.fill_null(column, "")
    at = pc.index(pc.is_null(column), True).as_py()
    raise no_value(rows["id"][at].as_py(), name, kind)


def _check_lengths(rows: pa.Table, name: str, column: pa.ChunkedArray) -> None:
    """An upsert refuses what is too long; the import of 2.3 takes it."""
    most = longest(name)
    lengths = pc.fill_null(pc.binary_length(column), 0)
    at = pc.index(pc.greater(lengths, most), True).as_py()
    if at >= 0:
        raise RunError(
            f"{rows['id'][at].as_py()[:80]}: its {name} has {lengths[at].as_py():,} bytes, and the "
            f"field holds {most:,}"
        )


def _vectors(column: pa.ChunkedArray, kind: str) -> pa.Array:
    rows = pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)
    matrix = rows.flatten().to_numpy().reshape(len(rows), -1)
    if kind == "FLOAT16_VECTOR":
        # As bytes: what the import of 2.4 and later takes.
        matrix = np.ascontiguousarray(matrix.astype("<f2")).view(np.uint8)
    offsets = np.arange(0, matrix.size + 1, matrix.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(matrix.ravel()))
