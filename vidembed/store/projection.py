"""From Parquet to Milvus: which parts a collection holds, and the writing of those it lacks.

Parquet is the record; a collection can be rebuilt from it at any time. See `ledger` for how it is
known what a collection holds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from vidembed import sources
from vidembed.errors import RunError
from vidembed.store.ledger import Ledger, stem
from vidembed.store.milvus import Collection, CollectionSpec, is_lite

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vidembed.store.run import Run


def collection_spec(
    run: Run, *, name: str, metric: str | None = None, index: str = "AUTOINDEX"
) -> CollectionSpec:
    """The collection that a run's vectors go into."""
    return CollectionSpec(
        name=name,
        dim=int(run.record["dim"]),
        metric=metric or str(run.record["metric"]),
        index=index,
        encoder=str(run.identity["encoder"]),
        weights=str(run.record.get("weights") or ""),
        fingerprint=run.fingerprint,
        clip=json.dumps(run.identity["clip"], sort_keys=True),
    )


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

    def __init__(self, run: Run, uri: str, spec: CollectionSpec) -> None:
        """Connect, and make or check the collection. Raises ConfigError, RunMismatchError."""
        self._run = run
        self.collection = Collection(uri, spec.name)
        self.collection.ensure(spec)
        place = sources.absolute(uri) if is_lite(uri) else uri
        self._ledger = Ledger.of(run, place, spec.name)
        self._held = self._ledger.held()
        self.sent: list[str] = []
        # A collection that was dropped or emptied since holds less than was noted: start over.
        if self._held and self.collection.count() < self.rows:
            self._ledger.forget(self._held.items())
            self._held = {}

    @property
    def rows(self) -> int:
        """Rows of the run's parts that are noted as written."""
        parts = {stem(part) for part in self._run.parts()}
        return sum(rows for part, rows in self._held.items() if part in parts)

    def lacking(self) -> list[str]:
        """The run's parts that are not noted as written."""
        self._held = self._ledger.held()
        return [part for part in self._run.parts() if stem(part) not in self._held]

    def catch_up(self) -> int:
        """Write every part that is not noted yet; returns the rows sent."""
        return sum(self.send(part) for part in self.lacking())

    def send(self, part: str) -> int:
        """Write one part and note it; returns its rows."""
        rows = self.collection.upsert(self._run.read_part(part))
        self._ledger.note_held(stem(part), rows)
        self._held[stem(part)] = rows
        self.sent.append(part)
        return rows

    def sent_and_there(self) -> list[str]:
        """The parts that this projection has written and that the run still has."""
        there = set(self._run.parts())
        return [part for part in self.sent if part in there]

    def withdraw(self) -> int:
        """Delete what the run has removed since; returns how many keys.

        Not while anything is written into the run: what is embedded anew at that moment would be
        deleted.
        """
        done = self._ledger.withdrawn()
        removals = [part for part in self._run.parts("removals") if stem(part) not in done]
        gone = [self._run.read_part(part, ["id"])["id"] for part in removals]
        if not gone:
            return 0
        ids = pc.unique(pa.chunked_array([chunk for column in gone for chunk in column.chunks]))
        for _, table in self._run.iterate(["id"]):
            # Removed, and embedded again later.
            ids = ids.filter(pc.invert(pc.is_in(ids, table["id"].combine_chunks())))
        self.collection.delete(ids.to_pylist())
        for part in removals:
            self._ledger.note_withdrawn(stem(part))
        return len(ids)

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
