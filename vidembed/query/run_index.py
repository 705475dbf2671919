"""Exact search over the vectors of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidembed import filters, retrieval, schema
from vidembed.errors import ConfigError
from vidembed.query.groups import Groups
from vidembed.query.hits import Hit, best_first, hit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from vidembed.query.groups import Group
    from vidembed.store.run import Run

# Rows whose scores are nearer than this are told apart by their ids.
_SAME = 2e-6


class Place(NamedTuple):
    """Where a row is."""

    group: Group
    row: int


class RunIndex:
    """The rows of a run, compared one by one: exact. Usable by several threads at once.

    memory: bytes of vectors to keep between searches.
    """

    kind: Literal["run"] = "run"
    collection = None

    def __init__(self, run: Run, memory: int) -> None:
        self.run = run
        self.metric = str(run.record["metric"])
        self._groups = Groups(run, memory)

    def close(self) -> None:
        self._groups.close()

    @property
    def place(self) -> str:
        return self.run.uri

    @property
    def fingerprint(self) -> str:
        return self.run.fingerprint

    @property
    def encoder(self) -> str:
        return str(self.run.identity["encoder"])

    @property
    def dim(self) -> int:
        return int(self.run.record["dim"])

    @property
    def rows(self) -> int:
        return sum(group.rows for group in self._groups.listed())

    @property
    def columns(self) -> list[str]:
        self.listed()
        return list(schema.metadata_of(self._groups.schema()).names)

    def nearest(
        self,
        queries: NDArray[np.float32],
        top: int,
        *,
        without: str | None = None,
        where: str | None = None,
        by_video: bool = False,
        params: Mapping[str, Any] | None = None,
    ) -> list[Hit]:
        """The `top` rows nearest to any of the queries [n, dim], best first; those of equal score
        by id.

        without: a video whose rows are left out. where: a filter. by_video: of each video the best
        row alone. params: of an index, which a run has none of.
        """
        groups = self.listed()
        wanted = self._parsed(where)

        def score(group: Group) -> NDArray[np.float32]:
            return self._scores(group, queries, wanted)

        scores = np.concatenate(self._groups.map(score, groups))
        starts = np.cumsum([0, *(group.rows for group in groups)])
        there = int(np.isfinite(scores).sum())
        # Some more than wanted, until there are enough that are another video's.
        count = top if without is None else top + len(queries)
        while True:
            count = min(count, there)
            at = _best(scores, count)
            places = _places(at, groups, starts)
            hits = [hit(*found) for found in zip(self._full(places), scores[at], strict=True)]
            hits = [each for each in hits if each.video_id != without]
            hits = best_first(hits, by_video=by_video)[:top]
            if len(hits) == top or count == there:
                return hits
            count *= 4

    def get(self, ids: Sequence[str]) -> list[Hit | None]:
        """The rows of these ids, with score 0; None for those that are not there."""
        places = self._find("id", ids)
        found = {row["id"]: hit(row, 0.0) for row in self._full(places)}
        return [found.get(key) for key in ids]

    def stored(self, key: str) -> tuple[str, NDArray[np.float32]]:
        """The video of a row's or a video's id, and its vectors [n, dim]: the row's, or those of
        all segments. Raises ConfigError where there is none.
        """
        places = self._find("id", [key]) or self._find("video_id", [key])
        if not places:
            raise ConfigError(f"{self.place} has no row and no video with the id {key!r}")
        vectors = np.stack([self._groups.vectors(place.group)[place.row] for place in places])
        return self._full(places[:1])[0]["video_id"], vectors

    def listed(self) -> list[Group]:
        """The row groups. Raises ConfigError where there are none."""
        groups = self._groups.listed()
        if not groups:
            raise ConfigError(f"{self.place} has no embeddings to search: nothing was embedded yet")
        return groups

    def vectors(self, group: Group) -> NDArray[np.float32]:
        """float32 [rows, dim]."""
        return self._groups.vectors(group)

    def read(self, group: Group, columns: list[str]) -> pa.Table:
        """These columns of a row group."""
        return self._groups.read(group, columns)

    def _parsed(self, text: str | None) -> filters.Filter | None:
        if text is None:
            return None
        found = filters.parse(text)
        # Also where no row is left to look at.
        found.check(self._groups.schema())
        return found

    def _scores(
        self, group: Group, queries: NDArray[np.float32], wanted: filters.Filter | None
    ) -> NDArray[np.float32]:
        """Of each row its best score with a query; minus infinity where it is filtered out."""
        keep = None
        if wanted is not None:
            table = self._groups.read(group, list(wanted.columns) or ["id"])
            keep = np.asarray(wanted.mask(table))
            if not keep.any():
                return np.full(group.rows, -np.inf, np.float32)
        every = retrieval.similarity(queries, self._groups.vectors(group), self.metric)
        scores: NDArray[np.float32] = every.max(axis=0)
        if keep is not None:
            scores[~keep] = -np.inf
        return scores

    def _find(self, column: str, values: Sequence[str]) -> list[Place]:
        """Where these values are in a column of keys, in the order of the run."""
        wanted = pa.array(list(values), pa.string())

        def found(group: Group) -> list[Place]:
            mask = pc.is_in(self._groups.read(group, [column])[column], wanted)
            return [Place(group, int(i)) for i in np.flatnonzero(np.asarray(mask))]

        return [place for places in self._groups.map(found, self.listed()) for place in places]

    def _full(self, places: list[Place]) -> list[dict[str, Any]]:
        """The rows at these places, in their order, without vectors."""
        of_group: dict[Group, list[int]] = {}
        for place in places:
            of_group.setdefault(place.group, []).append(place.row)

        def taken(group: Group) -> list[dict[str, Any]]:
            rows: list[dict[str, Any]] = self._groups.rows(group).take(of_group[group]).to_pylist()
            return rows

        answers = self._groups.map(taken, of_group)
        waiting = {group: iter(rows) for group, rows in zip(of_group, answers, strict=True)}
        return [next(waiting[place.group]) for place in places]


def _best(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Where the `count` highest scores are, and those that are the same as the last of them."""
    if not count:
        return np.empty(0, np.int64)
    last = np.partition(scores, len(scores) - count)[len(scores) - count]
    return np.flatnonzero(scores >= last - _SAME * max(1.0, abs(float(last))))


def _places(at: NDArray[np.int64], groups: list[Group], starts: NDArray[np.int64]) -> list[Place]:
    of = np.searchsorted(starts, at, side="right") - 1
    return [Place(groups[k], int(i - starts[k])) for i, k in zip(at, of, strict=True)]
