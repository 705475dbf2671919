"""Queries against a gallery that comes in loads: how many are better, and the first ones so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vidembed.evaluation import scores
from vidembed.evaluation.sift import Cpu, Gpu, bounds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidembed.evaluation.gallery import Side
    from vidembed.evaluation.sift import Sifted

# Pairs of a query and one of its answers that are compared at once.
_PAIRS = 1 << 18
# One product of float32 costs as much as this share of a pair in float64.
_DEAR = 32


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked: vectors, and which items of the gallery answer them.

    code: int64 [queries]; the items that have the same code are the answers. hidden: int64
    [queries], the position in the gallery of the item that does not count, -1 where all do.
    """

    side: Side
    code: NDArray[np.int64]
    hidden: NDArray[np.int64]

    def __getitem__(self, queries: slice) -> Asked:
        return Asked(self.side[queries], self.code[queries], self.hidden[queries])


@dataclass(frozen=True, slots=True)
class Candidates:
    """Items of a gallery. code: int64 [items], see `Asked`. first: the position of the first."""

    side: Side
    code: NDArray[np.int64]
    first: int

    def hidden(self, asked: Asked) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pairs (query, item) that do not count."""
        item = asked.hidden - self.first
        query = np.flatnonzero((item >= 0) & (item < self.side.items))
        return query, item[query]

    def __getitem__(self, items: slice) -> Candidates:
        return Candidates(self.side[items], self.code[items], self.first + items.start)


@dataclass(frozen=True, slots=True)
class First:
    """The first k of each query: score float64, item int64 (the position in the gallery), both
    [queries, k]; best first, of equal ones the first in the gallery; -inf and -1 after the last.
    """

    score: NDArray[np.float64]
    item: NDArray[np.int64]

    @classmethod
    def none(cls, queries: int, k: int) -> First:
        return cls(np.full((queries, k), -np.inf), np.full((queries, k), -1, np.int64))

    def take(
        self, query: NDArray[np.int64], item: NDArray[np.int64], score: NDArray[np.float64]
    ) -> None:
        """Put pairs among them; none was there before."""
        k = self.score.shape[1]
        touched = np.unique(query)
        queries = np.concatenate([np.repeat(touched, k), query])
        items = np.concatenate([self.item[touched].ravel(), item])
        values = np.concatenate([self.score[touched].ravel(), score])
        order = np.lexsort((items, -values, queries))
        queries = queries[order]
        # Places within each query's own, of which there are k at least.
        place = np.arange(len(queries)) - np.searchsorted(queries, queries)
        kept = order[place < k]
        self.score[touched] = values[kept].reshape(-1, k)
        self.item[touched] = items[kept].reshape(-1, k)


@dataclass(frozen=True, slots=True)
class Found:
    """What some loads say. above, ties: int64 [queries], how many items are better than the answer,
    and how many that are no answer are as good. first: the best of these loads.
    """

    above: NDArray[np.int64]
    ties: NDArray[np.int64]
    first: First

    @classmethod
    def none(cls, queries: int, k: int) -> Found:
        zeros = np.zeros(queries, np.int64)
        return cls(zeros, zeros.copy(), First.none(queries, k))

    def add(self, other: Found) -> None:
        """Take in what other loads say."""
        np.add(self.above, other.above, out=self.above)
        np.add(self.ties, other.ties, out=self.ties)
        query, place = np.nonzero(other.first.item >= 0)
        self.first.take(query, other.first.item[query, place], other.first.score[query, place])


class Scan:
    """Counts and first ones of queries whose answers' scores are known, a load at a time."""

    def __init__(
        self,
        asked: Asked,
        answer: NDArray[np.float64],
        *,
        metric: str,
        top: int,
        device: Cpu | Gpu,
    ) -> None:
        self._asked, self._answer, self._metric, self._top = asked, answer, metric, top
        self._device = device
        self._lengths = scores.lengths(asked.side)
        self.found = Found.none(asked.side.items, top)

    def add(self, load: Candidates) -> None:
        rows, columns = self._device.shape()
        for items in load.side.cuts(columns):
            part = load[items]
            longest = scores.lengths(part.side)
            for queries in self._asked.side.cuts(rows):
                self._block(queries, part, longest)

    def _block(self, queries: slice, part: Candidates, longest: NDArray[np.float64]) -> None:
        asked = self._asked[queries]
        hidden = part.hidden(asked)
        dim = part.side.vectors.shape[1]
        margin = scores.margins(self._lengths[queries], longest, dim, self._metric)
        limits = bounds(self._answer[queries], self.found.first.score[queries, -1], margin)
        sifted = self._device.sift(asked.side, part.side, self._metric, limits, hidden, self._top)
        self.found.above[queries] += sifted.above
        self._decide(queries, asked, part, sifted)

    def _decide(self, queries: slice, asked: Asked, part: Candidates, sifted: Sifted) -> None:
        query, item, near = sifted.query, sifted.item, sifted.near
        shown = item + part.first != asked.hidden[query]
        query, item, near = query[shown], item[shown], near[shown]
        score = scores.exact(asked.side, part.side, query, item, self._metric)
        answer = self._answer[queries][query]
        count = asked.side.items
        better = near & (score > answer)
        self.found.above[queries] += np.bincount(query[better], minlength=count)
        same = near & (score == answer) & (part.code[item] != asked.code[query])
        self.found.ties[queries] += np.bincount(query[same], minlength=count)
        first = score >= self.found.first.score[queries, -1][query]
        if first.any():
            self.found.first.take(
                query[first] + queries.start, item[first] + part.first, score[first]
            )


def answers(asked: Asked, load: Candidates, metric: str) -> NDArray[np.float64]:
    """The score of the best answer that a load has: float64 [queries], -inf where it has none."""
    found = np.full(asked.side.items, -np.inf)
    order = np.argsort(asked.code, kind="stable")
    codes = asked.code[order]
    begin = np.searchsorted(codes, load.code, side="left")
    count = np.searchsorted(codes, load.code, side="right") - begin
    if count.sum() * _DEAR > asked.side.items * load.side.items:
        return _answers_of_many(asked, load, metric)
    ends = np.cumsum(count)
    a = 0
    while a < len(count):
        b = max(a + 1, int(np.searchsorted(ends, ends[a] - count[a] + _PAIRS, side="right")))
        each = count[a:b]
        item = np.repeat(np.arange(a, b), each)
        within = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
        query = order[np.repeat(begin[a:b], each) + within]
        shown = item + load.first != asked.hidden[query]
        query, item = query[shown], item[shown]
        np.maximum.at(found, query, scores.exact(asked.side, load.side, query, item, metric))
        a = b
    return found


def _answers_of_many(asked: Asked, load: Candidates, metric: str) -> NDArray[np.float64]:
    """`answers` where a query has so many that sifting them is cheaper than comparing them all."""
    found = np.full(asked.side.items, -np.inf)
    lengths = scores.lengths(asked.side)
    for items in load.side.cuts(4096):
        part = load[items]
        longest = scores.lengths(part.side)
        for queries in asked.side.cuts(256):
            some = asked[queries]
            value = scores.plain(some.side, part.side, metric)
            value[some.code[:, None] != part.code] = -np.inf
            value[part.hidden(some)] = -np.inf
            dim = part.side.vectors.shape[1]
            margin = scores.margins(lengths[queries], longest, dim, metric)
            best = value.max(axis=1)
            query, item = np.nonzero(value >= (best - 2 * margin)[:, None])
            known = np.isfinite(best)[query]
            query, item = query[known], item[known]
            score = scores.exact(some.side, part.side, query, item, metric)
            np.maximum.at(found, query + queries.start, score)
    return found
