"""From Parquet to Milvus: which parts a collection holds, and the writing of those it lacks.

Parquet is the record; a collection can be rebuilt from it at any time. See `ledger` for how it is
known what a collection holds.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from vidembed import schema, sources
from vidembed.errors import ConfigError, RunError
from vidembed.store.ledger import Ledger, stem
from vidembed.store.milvus import Collection, CollectionSpec, is_lite
from vidembed.store.milvus_rows import column_type

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vidembed.config import CollectionOptions
    from vidembed.store.run import Run

# While a server takes one part, the next is read and packed: it would wait for us otherwise.
_AT_ONCE = 2


def collection_spec(
    run: Run, options: CollectionOptions, name: str, metadata: pa.Schema | None = None
) -> CollectionSpec:
    """The collection of this name that a run's vectors go into.

    metadata: of the run's rows; None: as its first part has it. Raises ConfigError for a column
    that cannot be a field.
    """
    named = dict.fromkeys([*([options.partition_key] if options.partition_key else []),
                           *options.scalar_index])  # fmt: skip
    columns = {}
    if named:
        metadata = _metadata(run) if metadata is None else metadata
        columns = {column: _type(column, metadata) for column in named}
    return CollectionSpec(
        name=name,
        dim=int(run.record["dim"]),
        metric=options.metric or str(run.record["metric"]),
        index=options.index,
        index_params=options.index_params,
        vector_type=options.vector_type,
        columns=columns,
        partition_key=options.partition_key,
        scalar_index=options.scalar_index,
        encoder=str(run.identity["encoder"]),
        weights=str(run.record.get("weights") or ""),
        fingerprint=run.fingerprint,
        clip=json.dumps(run.identity["clip"], sort_keys=True),
    )


def _metadata(run: Run) -> pa.Schema:
    parts = run.parts()
    return schema.metadata_of(run.schema_of(parts[0])) if parts else pa.schema([])


def _type(column: str, metadata: pa.Schema) -> str:
    if column not in metadata.names:
        raise ConfigError(
            f"--partition-key, --scalar-index: the manifest has no column {column!r}; it has "
            f"{', '.join(metadata.names) or 'no metadata'}"
        )
    kind = column_type(metadata.field(column).type)
    if kind is None:
        raise ConfigError(
            f"--partition-key, --scalar-index: {column} holds {metadata.field(column).type}, which "
            f"no field of Milvus's filters holds"
        )
    return kind


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Keys of a run compared with those of a collection, one by one.

    keys: that the run has; missing: those of them that the collection lacked, and that were written
    again.
    """

    keys: int
    missing: int


class Projection:
    """One run into one collection. One at a time where it is Milvus Lite, which has one writer."""

    def __init__(self, run: Run, uri: str, name: str, **collection: float) -> None:
        """Connect to a collection that there is. Raises ConfigError."""
        self._run = run
        self.collection = Collection(uri, name, **collection)
        self.ledger = Ledger.of(run, sources.absolute(uri) if is_lite(uri) else uri, name)
        self._held: dict[str, int] = {}
        self._before: set[str] = set()

    @classmethod
    def begin(cls, run: Run, uri: str, spec: CollectionSpec) -> Projection:
        """Connect, and make or check the collection. Raises ConfigError, RunMismatchError."""
        projection = cls(run, uri, spec.name)
        try:
            projection.collection.ensure(spec)
            projection._forget_what_is_gone()
        except BaseException:
            projection.close()
            raise
        return projection

    def _forget_what_is_gone(self) -> None:
        """A collection that was dropped or emptied since holds less than was noted: start over."""
        self._held = self.ledger.held()
        if self._held and self.collection.count() < self.rows:
            self.ledger.forget(self._held.items())
            self._held = {}
        self._before = set(self._held)

    @property
    def rows(self) -> int:
        """Rows of the run's parts that are noted as written."""
        parts = {stem(part) for part in self._run.parts()}
        return sum(rows for part, rows in self._held.items() if part in parts)

    def lacking(self) -> list[str]:
        """The run's parts that are not noted as written."""
        self._held = self.ledger.held()
        return [part for part in self._run.parts() if stem(part) not in self._held]

    def catch_up(self) -> int:
        """Write every part that is not noted yet; returns the rows sent.

        Into a server two parts at once, which is harmless: no key is in two of them. The first that
        fails is the error, and those that had not begun are left.
        """
        parts = self.lacking()
        if self.collection.is_lite:
            return sum(self.send(part) for part in parts)
        pool = ThreadPoolExecutor(_AT_ONCE, "vidembed-projection")
        try:
            sent = [pool.submit(self.send, part) for part in parts]
            return sum(each.result() for each in as_completed(sent))
        except (KeyboardInterrupt, SystemExit):
            # A call that waits for a server would keep the process from ending.
            self.close()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def send(self, part: str) -> int:
        """Write one part and note it; returns its rows."""
        rows = self.collection.upsert(self._run.read_part(part))
        self.ledger.note_held(stem(part), rows)
        self._held[stem(part)] = rows
        return rows

    def new_parts(self) -> list[str]:
        """The run's parts that were not noted when this began, whoever has written them since."""
        return [part for part in self._run.parts() if stem(part) not in self._before]

    def withdraw(self) -> int:
        """Delete what the run has removed since; returns how many keys.

        Not while anything is written into the run: what is embedded anew at that moment would be
        deleted.
        """
        removals, ids = self._removed()
        if not removals:
            return 0
        for _, table in self._run.iterate(["id"]):
            # Removed, and embedded again later.
            ids = ids.filter(pc.invert(pc.is_in(ids, table["id"].combine_chunks())))
        self.collection.delete(ids.to_pylist())
        for part in removals:
            self.ledger.note_withdrawn(stem(part))
        return len(ids)

    def resend_removed(self) -> int:
        """Write those of the removed keys again that the run has; returns how many rows.

        For runs that are read as one: what one has removed, an earlier one may still have.
        """
        removals, ids = self._removed()
        if not removals:
            return 0
        sent = 0
        for part, table in self._run.iterate(["id"]):
            there = pc.is_in(table["id"], ids)
            if pc.any(there).as_py():
                sent += self.collection.upsert(self._run.read_part(part).filter(there))
        return sent

    def _removed(self) -> tuple[list[str], pa.Array]:
        """The parts of `removals` that are not noted as deleted, and their keys."""
        done = self.ledger.withdrawn()
        removals = [part for part in self._run.parts("removals") if stem(part) not in done]
        gone = [self._run.read_part(part, ["id"])["id"] for part in removals]
        chunks = [chunk for column in gone for chunk in column.chunks]
        return removals, pc.unique(pa.chunked_array(chunks, pa.string()))

    def reconcile(self, parts: Iterable[str] | None = None) -> Reconciled:
        """Ask the collection for every key of these parts, and write again what it lacks.

        parts: of the run; None: all. Raises RunError where a key is not there even then.
        """
        keys = missing = 0
        for part in self._run.parts() if parts is None else parts:
            ids = self._run.read_part(part, ["id"])["id"].to_pylist()
            keys += len(ids)
            lost = self.collection.lacking(ids)
            if lost:
                missing += len(lost)
                rows = self._run.read_part(part)
                self.collection.upsert(rows.filter(pc.is_in(rows["id"], pa.array(lost))))
                if still := self.collection.lacking(lost):
                    raise RunError(
                        f"Milvus at {self.collection.uri} took {len(still)} rows of {part} and "
                        f"does not have them; the first is {still[0]}"
                    )
        return Reconciled(keys, missing)

    def count(self) -> int:
        """Rows that the collection has, of this run and of any other."""
        return self.collection.count()

    def close(self) -> None:
        self.collection.close()
