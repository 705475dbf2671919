"""The videos of a run as candidates: which rows are whose, and their vectors a load at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from vidembed import retrieval
from vidembed.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from vidembed.store.run import Run

LOAD_ROWS = 8192
"""Vectors that are in memory at once: as many as a run's parts have in a row group."""


@dataclass(frozen=True, slots=True)
class Side:
    """Items of one vector or several each; an item is as near as the nearest of its vectors.

    vectors: float32 [rows, dim]. starts: int64 [items + 1], where each item's rows begin.
    """

    vectors: NDArray[np.float32]
    starts: NDArray[np.int64]

    @classmethod
    def single(cls, vectors: NDArray[np.float32]) -> Side:
        """Of one vector each."""
        return cls(vectors, np.arange(len(vectors) + 1, dtype=np.int64))

    @property
    def items(self) -> int:
        return len(self.starts) - 1

    @property
    def is_single(self) -> bool:
        return len(self.vectors) == self.items

    def __getitem__(self, items: slice) -> Side:
        starts = self.starts[items.start : items.stop + 1]
        return Side(self.vectors[starts[0] : starts[-1]], starts - starts[0])

    def cuts(self, rows: int) -> Iterator[slice]:
        """Slices of neighbouring items that have so many rows together, or of one item."""
        yield from _cuts(self.starts, rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Neighbouring videos of a gallery, and where their vectors are.

    first: the position of the first one. starts: as `Side` has them. parts: addresses; part: int32
    [rows], which of them; row: int64 [rows], the place in that part.
    """

    first: int
    starts: NDArray[np.int64]
    parts: tuple[str, ...]
    part: NDArray[np.int32]
    row: NDArray[np.int64]

    @property
    def videos(self) -> int:
        return len(self.starts) - 1

    def read(self, run: Run) -> Side:
        """Their vectors. Raises RunError naming a part that is damaged."""
        found: NDArray[np.float32] | None = None
        for number, name in enumerate(self.parts):
            wanted = np.flatnonzero(self.part == number)
            vectors = retrieval.matrix(
                run.read_rows(name, self.row[wanted], ["embedding"])["embedding"]
            )
            if found is None:
                if len(wanted) == len(self.row):
                    return Side(vectors, self.starts)
                found = np.empty((len(self.row), vectors.shape[1]), np.float32)
            found[wanted] = vectors
        assert found is not None
        return Side(found, self.starts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """Videos of a run, each once, in the order in which the run has them; no vector is in memory.

    ids: string. parts: the run's. The rows of video v are starts[v] to starts[v + 1] (int64) of
    part (int32) and row (int64), sorted by video: its segments may lie in several parts.
    """

    run: Run
    ids: pa.Array
    parts: tuple[str, ...]
    starts: NDArray[np.int64]
    part: NDArray[np.int32]
    row: NDArray[np.int64]

    @classmethod
    def of(cls, run: Run) -> Gallery:
        """All videos of a run. Raises ConfigError where it has none, RunError for a damaged part.

        Memory: some 12 bytes a row, besides the ids.
        """
        parts: list[str] = []
        places: list[NDArray[np.int64]] = []
        names: list[pa.ChunkedArray] = []
        for part, table in run.iterate(["video_id"]):
            parts.append(part)
            there = run.places_in(part)
            places.append(np.arange(len(table)) if there is None else there)
            names.append(table["video_id"].cast(pa.large_string()))
        lengths = np.array([len(each) for each in names], np.int64)
        if not lengths.sum():
            raise ConfigError(f"{run.uri} has no embeddings to evaluate")
        chunks = [chunk for each in names for chunk in each.chunks]
        coded = pa.chunked_array(chunks).combine_chunks().dictionary_encode()
        owner = coded.indices.to_numpy()
        order = np.argsort(owner, kind="stable")
        counts = np.bincount(owner, minlength=len(coded.dictionary))
        return cls(
            run=run,
            ids=coded.dictionary.cast(pa.string()),
            parts=tuple(parts),
            starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            part=np.repeat(np.arange(len(parts), dtype=np.int32), lengths)[order],
            row=np.concatenate(places)[order],
        )

    @property
    def videos(self) -> int:
        return len(self.ids)

    @property
    def rows(self) -> int:
        return len(self.row)

    def only(self, videos: NDArray[np.int64]) -> Gallery:
        """Some of its videos, given by their positions, in this order."""
        counts = np.diff(self.starts)[videos]
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        rows = np.repeat(self.starts[videos] - starts[:-1], counts) + np.arange(starts[-1])
        return Gallery(
            run=self.run,
            ids=self.ids.take(pa.array(videos)),
            parts=self.parts,
            starts=starts,
            part=self.part[rows],
            row=self.row[rows],
        )

    def loads(self) -> list[Load]:
        """All videos, in loads that end where a part ends, so that few parts are read twice."""
        leading = self.part[self.starts[:-1]]
        edges = np.flatnonzero(np.diff(leading)) + 1
        found: list[Load] = []
        for a, b in zip([0, *edges.tolist()], [*edges.tolist(), self.videos], strict=True):
            cuts = _cuts(self.starts[a : b + 1], LOAD_ROWS)
            found += [self._load(a + cut.start, a + cut.stop) for cut in cuts]
        return found

    def _load(self, a: int, b: int) -> Load:
        rows = slice(self.starts[a], self.starts[b])
        used, part = np.unique(self.part[rows], return_inverse=True)
        return Load(
            first=a,
            starts=self.starts[a : b + 1] - self.starts[a],
            parts=tuple(self.parts[number] for number in used),
            part=part.astype(np.int32),
            row=self.row[rows],
        )

    def read(self) -> Side:
        """All vectors: for a gallery that memory holds."""
        sides = [load.read(self.run) for load in self.loads()]
        return Side(np.concatenate([side.vectors for side in sides]), self.starts)


def _cuts(starts: NDArray[np.int64], rows: int) -> Iterator[slice]:
    a, items = 0, len(starts) - 1
    while a < items:
        b = int(np.searchsorted(starts, starts[a] + rows, side="right")) - 1
        b = min(max(b, a + 1), items)
        yield slice(a, b)
        a = b
