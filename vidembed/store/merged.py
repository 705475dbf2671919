"""Several runs of one encoder read as one: of a video that is in several, the last run's rows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidembed.errors import ConfigError, RunMismatchError
from vidembed.hashing import hash_ids
from vidembed.store.done import contains, ordered
from vidembed.store.ledger import stem
from vidembed.store.run import Run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Merged(Run):
    """Runs read as one, by `read_part` and what is made of it; it is not written to. Notes about
    collections are kept beside the last.

    places: of each part, which run it is of. hidden: of each run the videos, as sorted hashes,
    that a later run has: 16 bytes each; none for a single run.
    """

    runs: tuple[Run, ...]
    places: dict[str, int]
    hidden: tuple[NDArray[np.uint64], ...]

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Merged:
        """Raises ConfigError where a run is named twice or none has embeddings, RunMismatchError
        where the runs are of several encoders.
        """
        _check(runs)
        places = {part: k for k, run in enumerate(runs) for part in run.parts()}
        if not places:
            raise ConfigError(f"{', '.join(run.uri for run in runs)}: no embeddings yet")
        last = runs[-1]
        return cls(last.uri, last.record, tuple(runs), places, tuple(_hidden(runs)))

    @property
    def uris(self) -> list[str]:
        """Where the runs are."""
        return [run.uri for run in self.runs]

    def parts(self, kind: str = "embeddings") -> list[str]:
        """Of all runs, in their order; those of `embeddings` as they were when this was made."""
        if kind == "embeddings":
            return list(self.places)
        return [part for run in self.runs for part in run.parts(kind)]

    def read_part(self, part: str, columns: list[str] | None = None) -> pa.Table:
        """The rows of a part of which no later run has the video."""
        place = self.places.get(part)
        if place is None:
            return self.runs[-1].read_part(part, columns)
        hidden = self.hidden[place]
        if not len(hidden):
            return self.runs[place].read_part(part, columns)
        wanted = None if columns is None else list(dict.fromkeys([*columns, "video_id"]))
        table = self.runs[place].read_part(part, wanted)
        seen = pa.array(~contains(hidden, hash_ids(table["video_id"])))
        table = table.filter(seen)
        return table if columns is None else table.select(columns)

    def places_in(self, part: str) -> NDArray[np.int64] | None:
        """Of the rows that `read_part` gives."""
        place = self.places[part]
        if not len(self.hidden[place]):
            return None
        videos = self.runs[place].read_part(part, ["video_id"])["video_id"]
        return np.flatnonzero(~contains(self.hidden[place], hash_ids(videos)))

    def read_rows(self, part: str, rows: Any, columns: list[str]) -> pa.Table:
        """By their places in the part, see `places_in`; in another process too, where the hashes
        of `hidden` mean nothing.
        """
        return self.runs[self.places[part]].read_rows(part, rows, columns)

    def read_group(self, *_: Any, **__: Any) -> pa.Table:
        """Never: some rows of a group are another run's."""
        raise TypeError("runs that are merged are read by whole parts")

    def shadowed(self) -> pa.ChunkedArray:
        """Keys that an earlier run has and that no row read here has."""
        found: list[pa.Array] = []
        for part, place in self.places.items():
            if not len(self.hidden[place]):
                continue
            table = self.runs[place].read_part(part, ["id", "video_id"])
            gone = pa.array(contains(self.hidden[place], hash_ids(table["video_id"])))
            found += table.filter(gone)["id"].chunks
        ids = pa.chunked_array(found, pa.string())
        if not len(ids):
            return ids
        for part in self.places:
            there = self.read_part(part, ["id"])["id"].combine_chunks()
            ids = ids.filter(pc.invert(pc.is_in(ids, there)))
        return pa.chunked_array([pc.unique(ids)])

    def count(self) -> int:
        """Rows that are read here."""
        if not any(len(hidden) for hidden in self.hidden):
            return sum(self.rows_of(part) for part in self.parts())
        return sum(len(self.read_part(part, ["video_id"])) for part in self.parts())

    def content(self) -> str:
        """A name for what the runs hold now: another one after any change, or in another place."""
        digest = hashlib.sha256(self.fingerprint.encode())
        for k, run in enumerate(self.runs):
            names = sorted(stem(part) for part, place in self.places.items() if place == k)
            names += ["removed", *sorted(stem(part) for part in run.parts("removals"))]
            digest.update("\0".join([run.uri, *names, ""]).encode())
        return digest.hexdigest()[:20]


def _check(runs: Sequence[Run]) -> None:
    uris = [run.uri for run in runs]
    if len(set(uris)) < len(uris):
        twice = next(uri for uri in uris if uris.count(uri) > 1)
        raise ConfigError(f"--runs: {twice} is named twice")
    last = runs[-1]
    for run in runs:
        if run.fingerprint != last.fingerprint:
            raise RunMismatchError(
                f"{run.uri} was made with {run.identity['encoder']} (fingerprint "
                f"{run.fingerprint}), {last.uri} with {last.identity['encoder']} "
                f"({last.fingerprint}): vectors of two kinds do not compare; embed what is in the "
                f"one with the encoder of the other, or leave it out"
            )


def _hidden(runs: Sequence[Run]) -> list[NDArray[np.uint64]]:
    """Of each run the videos, as sorted hashes, that a later run has."""
    later = np.empty((0, 2), np.uint64)
    found = []
    for run in reversed(runs):
        found.append(later)
        if run is not runs[0]:
            hashes = [hash_ids(table["video_id"]) for _, table in run.iterate(["video_id"])]
            later = ordered([later, *hashes])
    return found[::-1]
