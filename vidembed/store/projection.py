"""From Parquet to Milvus: which parts a collection holds, and the writing of those it lacks.

Parquet is the record; a collection can be rebuilt from it at any time. What has been projected is
noted in RUN/projections, after the fact: a part that was sent but not noted is sent again, which an
upsert makes harmless.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from vidembed import sources
from vidembed.store.milvus import Collection, CollectionSpec, is_lite

if TYPE_CHECKING:
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


class Projection:
    """One run into one collection. One at a time: Milvus Lite has a single writer."""

    def __init__(self, run: Run, uri: str, spec: CollectionSpec) -> None:
        """Connect, and make or check the collection. Raises ConfigError, RunMismatchError."""
        self._run = run
        self._collection = Collection(uri, spec.name)
        self._collection.ensure(spec)
        place = sources.absolute(uri) if is_lite(uri) else uri
        key = hashlib.sha256(f"{place}\0{spec.name}".encode()).hexdigest()[:12]
        self._ledger = run.path("projections", f"{spec.name}-{key}.json")
        self._held: dict[str, int] = self._read_ledger(place, spec.name)
        self._where = {"milvus": place, "collection": spec.name}
        # A collection that was dropped or emptied since holds less than was noted: start over.
        if self._held and self._collection.count() < sum(self._held.values()):
            self._held = {}

    @property
    def rows(self) -> int:
        """Rows noted as projected."""
        return sum(self._held.values())

    def catch_up(self) -> int:
        """Project every part that is not noted yet; returns the rows sent."""
        sent = 0
        for part in self._run.parts():
            name = sources.display_name(part)
            if name not in self._held:
                self._held[name] = self._collection.upsert(self._run.read_part(part))
                sent += self._held[name]
                self._note()
        return sent

    def count(self) -> int:
        """Rows that the collection has, of this run and of any other."""
        return self._collection.count()

    def close(self) -> None:
        self._collection.close()

    def _note(self) -> None:
        record = {**self._where, "fingerprint": self._run.fingerprint, "parts": self._held}
        sources.write_whole(self._ledger, json.dumps(record, indent=1).encode())

    def _read_ledger(self, place: str, name: str) -> dict[str, int]:
        try:
            record: dict[str, Any] = json.loads(sources.read_whole(self._ledger))
        except (FileNotFoundError, ValueError):
            return {}
        if (record.get("milvus"), record.get("collection")) != (place, name):
            return {}
        parts: dict[str, int] = record.get("parts", {})
        return parts
