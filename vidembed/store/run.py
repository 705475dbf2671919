"""A run directory: its identity, its parts, and which videos are finished.

RUN/run.json               what was asked for, and the encoder's fingerprint
RUN/embeddings/*.parquet   the vectors: the source of truth
RUN/failures/*.parquet     what could not be embedded, and why
RUN/removals/*.parquet     keys that were embedded and are no more: to be deleted from Milvus
RUN/projections/*/         what each Milvus collection holds, see `ledger`
"""

from __future__ import annotations

import hashlib
import io
import json
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vidembed import schema, sources
from vidembed.errors import ConfigError, RunError, RunMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OURS = (
    "run.json", "embeddings", "failures", "removals", "projections", "report.json", "report.html",
    "logs", "evaluation", ".compact",
)  # fmt: skip
_ROW_GROUP = 8192
OTHERWISE = "Name another --out, or --overwrite it"
"""What can be done where a run is of another encoder."""


@dataclass(frozen=True, slots=True)
class Run:
    """The run directory at `uri`. `record` is what `run.json` says."""

    uri: str
    record: dict[str, Any]

    @classmethod
    def open(cls, uri: str) -> Run:
        """An existing run. Raises ConfigError where there is none."""
        uri = sources.absolute(uri)
        record = _record(uri)
        if record is None:
            raise ConfigError(f"{uri} is no run: it has no run.json")
        return cls(uri, record)

    @classmethod
    def create_or_resume(cls, uri: str, record: dict[str, Any]) -> Run:
        """The run at `uri`, made if nothing is there.

        Raises RunMismatchError, saying what differs, where the run there was made with another
        encoder, weights, sampling or segments; ConfigError where something else is there.
        """
        there = cls.check(uri, record)
        uri = sources.absolute(uri)
        if there is None:
            there = record
            sources.write_whole(sources.join(uri, "run.json"), _json(record))
        return cls(uri, there)

    @classmethod
    def check(cls, uri: str, record: dict[str, Any]) -> dict[str, Any] | None:
        """What `create_or_resume` raises, without making anything; the record that is there."""
        uri = sources.absolute(uri)
        there = _record(uri)
        if there is None:
            _refuse_foreign(uri)
            return None
        differences = _differences(there.get("identity", {}), record["identity"])
        if differences:
            raise RunMismatchError(
                f"{uri} was made with something else: {'; '.join(differences)}. {OTHERWISE}"
            )
        return there

    def delete_contents(self) -> None:
        """Everything that vidembed wrote here; other files stay."""
        delete_run(self.uri)

    @property
    def identity(self) -> dict[str, Any]:
        found: dict[str, Any] = self.record["identity"]
        return found

    @property
    def fingerprint(self) -> str:
        return str(self.record["fingerprint"])

    def path(self, *parts: str) -> str:
        return sources.join(self.uri, *parts)

    def parts(self, kind: str = "embeddings") -> list[str]:
        """The Parquet files of `embeddings`, `failures` or `removals`, sorted."""
        return sources.list_folder(self.path(kind), ".parquet")

    def commit(self, table: pa.Table) -> str | None:
        """Write a table of `schema.vectors`: vectors as one part, failures as another.

        Runs in a worker and may be retried: the same rows give the same names, and each file
        appears whole or not at all. Returns the address of the embeddings' part, None if all
        rows failed. Raises RunError where a later attempt has taken over the run: workers may
        outlive their driver for some seconds, and must not commit what another redoes.
        """
        if (_record(self.uri) or {}).get("attempt") != self.record.get("attempt"):
            raise RunError(f"{self.uri} was taken over by a later attempt; this one stops")
        bad = table.filter(pc.is_valid(table["error"]))
        # One failed segment fails its video: a video ends in one place.
        failed = pc.is_in(table["video_id"], bad["video_id"].combine_chunks())
        self._write("failures", _failures(bad), "video_id")
        return self._write("embeddings", _embeddings(table.filter(pc.invert(failed))), "id")

    def rewrite(self, part: str, before: pa.Table, after: pa.Table) -> None:
        """Put `after`, some of the rows of `before`, in the place of a part.

        A kill on the way loses whole rows, which the next run redoes, and doubles none.
        """
        if len(after) == len(before):
            return
        if "error" in before.column_names:
            sources.remove(part)
            self._write("failures", after, "video_id")
            return
        gone = pc.invert(pc.is_in(before["id"], after["id"].combine_chunks()))
        # The same keys may be removed again one day: that is another removal.
        self._write("removals", before.filter(gone).select(["id"]), "id", uuid.uuid4().hex)
        sources.remove(part)
        self._write("embeddings", after, "id")

    def keep(self, kind: str, wanted: Callable[[pa.Table], Any]) -> int:
        """Leave out of `embeddings` or `failures` the rows for which `wanted`, given a part, is not
        true; returns how many those are.
        """
        removed = 0
        for part, table in self.iterate(None, kind):
            after = table.filter(wanted(table))
            removed += len(table) - len(after)
            self.rewrite(part, table, after)
        return removed

    def write_part(self, kind: str, table: pa.Table) -> str:
        """Write rows of `embeddings` or `failures`, at least one, as one part; returns its address.

        The part is in place of no other: see `compact`.
        """
        uri = self._write(kind, table, "id" if kind == "embeddings" else "video_id")
        assert uri is not None
        return uri

    def _write(self, kind: str, table: pa.Table, key: str, salt: str = "") -> str | None:
        if not len(table):
            return None
        table = table.sort_by(key).replace_schema_metadata(self._file_metadata())
        # What is done again by a later call is another part: collections may hold the earlier one.
        salt = salt or str(self.record.get("attempt") or "")
        name = "\0".join([*table[key].to_pylist(), salt] if salt else table[key].to_pylist())
        digest = hashlib.sha256(name.encode()).hexdigest()[:20]
        uri = self.path(kind, f"part-{digest}.parquet")
        data = io.BytesIO()
        pq.write_table(_retyped(table, nullable=False), data, **_layout(table))
        sources.write_whole(uri, data.getvalue())
        return uri

    def _file_metadata(self) -> dict[bytes, bytes]:
        return {
            b"vidembed.encoder": str(self.identity["encoder"]).encode(),
            b"vidembed.fingerprint": self.fingerprint.encode(),
            b"vidembed.metric": str(self.record["metric"]).encode(),
        }

    def read(self, columns: list[str] | None = None, kind: str = "embeddings") -> pa.Table:
        """All rows of all parts, these columns. Raises RunError naming a part that is damaged."""
        tables = [table for _, table in self.iterate(columns, kind)]
        if not tables:
            return pa.table({})
        return pa.concat_tables(tables, promote_options="permissive")

    def iterate(
        self, columns: list[str] | None = None, kind: str = "embeddings"
    ) -> Iterator[tuple[str, pa.Table]]:
        """(part, its rows), one part at a time."""
        for part in self.parts(kind):
            yield part, self.read_part(part, columns)

    def read_part(self, part: str, columns: list[str] | None = None) -> pa.Table:
        """The rows of a part. Raises RunError where it is gone or damaged, RunMismatchError where
        its vectors are another encoder's.
        """
        with self._opened(part) as parquet:
            return _retyped(parquet.read(columns=columns), nullable=True)

    def footer(self, part: str) -> pq.FileMetaData:
        """What a part says of its rows: how many, in which groups and columns. Raises as
        `read_part` does.
        """
        with self._opened(part) as parquet:
            return parquet.metadata

    def read_group(
        self, part: str, group: int, columns: list[str], footer: pq.FileMetaData | None = None
    ) -> pa.Table:
        """The rows of one row group of a part, in the calling thread: for callers that read several
        at once. footer: of this part, where it was read before. Raises as `read_part` does.
        """
        with self._opened(part, footer) as parquet:
            table = parquet.read_row_group(group, columns=columns, use_threads=False)
            return _retyped(table, nullable=True)

    def places_in(self, part: str) -> np.ndarray[Any, np.dtype[np.int64]] | None:
        """The places in a part of the rows that `read_part` gives; None for all, in their order."""
        return None

    def read_rows(
        self, part: str, rows: np.ndarray[Any, np.dtype[np.int64]], columns: list[str]
    ) -> pa.Table:
        """Rows of a part, by their places, in this order. In memory is one row group besides."""
        found: list[pa.Table] = []
        with self._opened(part) as parquet:
            sizes = [parquet.metadata.row_group(k).num_rows for k in range(parquet.num_row_groups)]
            ends = np.cumsum(sizes)
            if len(rows) and rows.max() >= ends[-1]:
                raise RunError(f"{part} was changed while it was read; do this again")
            group = np.searchsorted(ends, rows, side="right")
            order = np.argsort(group, kind="stable")
            for k in np.unique(group).tolist():
                wanted = rows[group == k] - (ends[k] - sizes[k])
                table = parquet.read_row_group(k, columns=columns)
                whole = len(wanted) == len(table) and (wanted == np.arange(len(table))).all()
                found.append(table if whole else table.take(pa.array(wanted)))
        table = _retyped(pa.concat_tables(found), nullable=True)
        if (order == np.arange(len(order))).all():
            return table
        return table.take(pa.array(np.argsort(order)))

    @contextmanager
    def _opened(self, part: str, footer: pq.FileMetaData | None = None) -> Iterator[pq.ParquetFile]:
        try:
            with sources.open_binary(part) as file:
                parquet = pq.ParquetFile(file, metadata=footer, page_checksum_verification=True)
                marked = (parquet.metadata.metadata or {}).get(b"vidembed.fingerprint")
                if marked is not None and marked.decode() != self.fingerprint:
                    raise RunMismatchError(
                        f"{part} holds vectors of another encoder (fingerprint {marked.decode()}, "
                        f"this run has {self.fingerprint}); it does not belong here"
                    )
                yield parquet
        except FileNotFoundError as error:
            raise RunError(
                f"{part} is not there any more: the run was changed or compacted while it was "
                f"read; do this again"
            ) from error
        except (pa.ArrowInvalid, OSError) as error:
            raise _damaged(part, error) from error

    def schema_of(self, part: str) -> pa.Schema:
        """The columns of a part, without its rows."""
        try:
            with sources.open_binary(part) as file:
                return pq.read_schema(file)
        except (pa.ArrowInvalid, OSError) as error:
            raise _damaged(part, error) from error

    def rows_of(self, part: str) -> int:
        """How many rows a part has, without reading them. Raises as `read_part`."""
        with self._opened(part) as parquet:
            return int(parquet.metadata.num_rows)

    def vectors(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """All vectors, float32 [rows, dim], in the order of `read`."""
        column = self.read(["embedding"])["embedding"].combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks)
        values: np.ndarray[Any, np.dtype[np.float32]] = column.flatten().to_numpy()
        return values.reshape(len(column), -1)

    def take_over(self, **facts: Any) -> Run:
        """The run as this attempt's own, with `facts`: workers of earlier ones stop committing."""
        return self.remember(attempt=uuid.uuid4().hex, **facts)

    def remember(self, **facts: Any) -> Run:
        """The run with more facts in its record, written to run.json."""
        record = {**self.record, **facts}
        sources.write_whole(self.path("run.json"), _json(record))
        return Run(self.uri, record)


def delete_run(uri: str) -> None:
    """Delete what vidembed wrote below `uri`, run.json last, so that a kill leaves a run."""
    uri = sources.absolute(uri)
    for name in sorted(_OURS, key=lambda n: n == "run.json"):
        sources.remove(sources.join(uri, name))


def _layout(table: pa.Table) -> dict[str, Any]:
    """How a part is written. Vectors as they are: their bits are noise, which dictionary and
    compression make 8% smaller and twice as slow to read.
    """
    paths = _paths(table.schema)
    others = [path for path in paths if path.split(".")[0] != "embedding"]
    return {
        "use_dictionary": others,
        "compression": {path: "zstd" if path in others else "NONE" for path in paths},
        "row_group_size": _ROW_GROUP,
        "write_page_checksum": True,
    }


def _paths(schema: pa.Schema) -> list[str]:
    """The columns as Parquet names them: a list's elements are `NAME.list.element`."""
    data = io.BytesIO()
    pq.write_table(schema.empty_table(), data)
    found = pq.ParquetFile(data).schema
    return [found.column(i).path for i in range(len(found))]


def _retyped(table: pa.Table, *, nullable: bool) -> pa.Table:
    """The same vectors in a column whose elements may, or may not, be null.

    In a file they may not: a level for each of them takes as long to read as the numbers. In memory
    all tables have the one type of `schema.embeddings`, whoever wrote them.
    """
    at = table.schema.get_field_index("embedding")
    if at < 0:
        return table
    field = table.schema.field(at)
    element = field.type.value_field.with_nullable(nullable)
    wanted = field.with_type(pa.list_(element, field.type.list_size))
    return table.set_column(at, wanted, table.column(at).cast(wanted.type))


def _record(uri: str) -> dict[str, Any] | None:
    where = sources.join(uri, "run.json")
    try:
        record: dict[str, Any] = json.loads(sources.read_whole(where))
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise ConfigError(f"{uri} is a file, not a folder") from error
    except ValueError as error:
        raise ConfigError(f"{where} is not valid JSON: {error}") from error
    return record


def _damaged(part: str, error: Exception) -> RunError:
    return RunError(
        f"{part} is damaged ({str(error).splitlines()[0]}): delete it, and embed again into the "
        f"same --out to redo its videos"
    )


def _refuse_foreign(uri: str) -> None:
    if sources.is_local(uri) and sources.exists(uri) and not sources.is_folder(uri):
        raise ConfigError(f"{uri} is a file, not a folder")
    if sources.list_folder(sources.join(uri, "embeddings"), ".parquet"):
        raise ConfigError(f"{uri} has embeddings but no run.json: not a run, or a damaged one")


def _differences(there: dict[str, Any], here: dict[str, Any], path: str = "") -> list[str]:
    found: list[str] = []
    for key in sorted(there.keys() | here.keys()):
        old, new = there.get(key), here.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += _differences(old, new, f"{path}{key}.")
        elif old != new:
            found.append(f"{path}{key} is {_short(old)} there and {_short(new)} now")
    return found


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:16] + "…"


def _embeddings(table: pa.Table) -> pa.Table:
    metadata = schema.metadata_of(table.schema)
    return table.select(
        schema.embeddings(table.schema.field("embedding").type.list_size, metadata).names
    )


def _failures(table: pa.Table) -> pa.Table:
    """One row a failed video: its segments fail together."""
    wanted = schema.failures(schema.metadata_of(table.schema))
    first = table.select(wanted.names)
    seen: set[str] = set()
    keep = [not (v in seen or seen.add(v)) for v in first["video_id"].to_pylist()]  # type: ignore[func-returns-value]
    return first.filter(pa.array(keep, pa.bool_())).cast(wanted)


def _json(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, indent=2, sort_keys=True, default=str) + "\n").encode()
