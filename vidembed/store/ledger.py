"""What of a run a Milvus collection holds: a note for each part, beside the run, after the fact.

    RUN/projections/COLLECTION-KEY/about.json       which collection, where
    RUN/projections/COLLECTION-KEY/PART.ROWS.in     this part's rows were written
    RUN/projections/COLLECTION-KEY/PART.out         what this part of `removals` lists was deleted
    RUN/projections/COLLECTION-KEY/bulk.json        a bulk load was begun and is not finished

Notes are empty files of their own: noting one costs the same however many there are, several
processes may note at once, and a listing tells all. A part that was sent but not noted is sent
again, which an upsert makes harmless.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidembed import sources

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vidembed.store.run import Run


@dataclass(frozen=True, slots=True)
class Ledger:
    """The notes of one run about one collection."""

    folder: str

    @classmethod
    def of(cls, run: Run, place: str, collection: str) -> Ledger:
        """place: the server's address, or the path of Milvus Lite."""
        key = hashlib.sha256(f"{place}\0{collection}".encode()).hexdigest()[:12]
        ledger = cls(run.path("projections", f"{collection}-{key}"))
        about = sources.join(ledger.folder, "about.json")
        if not sources.exists(about):
            record = {"milvus": place, "collection": collection, "fingerprint": run.fingerprint}
            sources.write_whole(about, json.dumps(record, indent=1).encode())
        return ledger

    @classmethod
    def every(cls, run: Run) -> list[Ledger]:
        """Those of a run that is on a file system."""
        root = sources.local_path(run.path("projections"))
        names = sorted(os.listdir(root)) if os.path.isdir(root) else []
        return [cls(os.path.join(root, name)) for name in names]

    def held(self) -> dict[str, int]:
        """Rows by part that were written."""
        found: dict[str, int] = {}
        for note in sources.list_folder(self.folder, ".in"):
            part, _, rows = sources.display_name(note).removesuffix(".in").rpartition(".")
            if part and rows.isdigit():
                found[part] = int(rows)
        return found

    def withdrawn(self) -> set[str]:
        """The parts of `removals` whose rows were deleted."""
        notes = sources.list_folder(self.folder, ".out")
        return {sources.display_name(note).removesuffix(".out") for note in notes}

    def note_held(self, part: str, rows: int) -> None:
        sources.write_whole(sources.join(self.folder, f"{part}.{rows}.in"), b"")

    def note_withdrawn(self, part: str) -> None:
        sources.write_whole(sources.join(self.folder, f"{part}.out"), b"")

    def bulk(self) -> dict[str, str] | None:
        """What `note_bulk` has noted; None where no bulk load is under way."""
        try:
            found: dict[str, str] = json.loads(sources.read_whole(self._bulk))
        except FileNotFoundError:
            return None
        return found

    def note_bulk(self, facts: dict[str, str]) -> None:
        sources.write_whole(self._bulk, json.dumps(facts, indent=1).encode())

    def forget_bulk(self) -> None:
        sources.remove(self._bulk)

    @property
    def _bulk(self) -> str:
        return sources.join(self.folder, "bulk.json")

    def forget(self, held: Iterable[tuple[str, int]]) -> None:
        """These parts are not there after all."""
        for part, rows in held:
            sources.remove(sources.join(self.folder, f"{part}.{rows}.in"))


def stem(part: str) -> str:
    """The name by which a part is noted."""
    return sources.display_name(part).removesuffix(".parquet")
