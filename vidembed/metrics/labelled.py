"""Metrics of queries with many answers each: videos that share a label with the query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vidembed.metrics.terms import Terms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """How videos with labels were found.

    hits: bool [queries, places], which of the first places hold an answer, best first; of those
    that score the same, first the first in the gallery. relevant: int64 [queries], how many answers
    there are in all, 1 at least. rank, ties: of the nearest answer, as `Ranking` has them. gallery:
    among how many candidates each query looks (itself not counted).

    Raises ValueError where a query has no answer: leave it out before.
    """

    hits: NDArray[np.bool_]
    relevant: NDArray[np.int64]
    rank: NDArray[np.float64]
    ties: NDArray[np.int64]
    gallery: int

    def __post_init__(self) -> None:
        if self.hits.ndim != 2 or self.relevant.shape != self.hits.shape[:1]:
            raise ValueError(
                f"hits are {self.hits.shape}, relevant {self.relevant.shape}: expected "
                "[queries, places] and [queries]"
            )
        if (none := int((self.relevant < 1).sum())) > 0:
            raise ValueError(f"{none} queries have no answer in the gallery: leave them out")
        if (self.hits.sum(axis=1) > self.relevant).any():
            raise ValueError("a query has more hits than answers")

    def first(self, k: int) -> NDArray[np.float64]:
        """The hits among the first k as 0 and 1, float64 [queries, k or all of a small gallery]."""
        width = min(k, self.gallery)
        if width > self.hits.shape[1]:
            raise ValueError(f"hits of {self.hits.shape[1]} places do not tell the first {k}")
        found: NDArray[np.float64] = self.hits[:, :width].astype(np.float64)
        return found


def hit_ratio(found: Labelled, k: int) -> NDArray[np.float64]:
    """The share of a query's answers that are among the first k: float64 [queries].

    The hit ratio of Towhee's reverse video search tutorial (`mean_hit_ratio`), recall@k elsewhere.
    It cannot reach 1 where a query has more than k answers.
    """
    ratio: NDArray[np.float64] = found.first(k).sum(axis=1) / found.relevant
    return ratio


def average_precision(found: Labelled, k: int) -> NDArray[np.float64]:
    """The mean over ALL of the first k places of the precision there: float64 [queries].

    The average precision of Towhee's reverse video search tutorial (`mean_average_precision`), and
    not trec_eval's, which is `average_precision_cut`.
    """
    hits = found.first(k)
    precision: NDArray[np.float64] = _precision(hits).mean(axis=1)
    return precision


def average_precision_cut(found: Labelled, k: int) -> NDArray[np.float64]:
    """The sum of the precision at each hit among the first k, over all answers: float64 [queries].

    trec_eval's map_cut_k: answers that do not come among the first k count as 0.
    """
    hits = found.first(k)
    precision: NDArray[np.float64] = (_precision(hits) * hits).sum(axis=1) / found.relevant
    return precision


def _precision(hits: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = hits.cumsum(axis=1) / np.arange(1.0, hits.shape[1] + 1.0)
    return found


def ndcg(found: Labelled, k: int) -> NDArray[np.float64]:
    """Normalised discounted cumulative gain at k of gains 0 and 1: float64 [queries].

    A hit at place i gains 1 / log2(i + 1); divided by what min(k, answers) hits in the first places
    would gain. Järvelin and Kekäläinen, Cumulated Gain-Based Evaluation of IR Techniques, 2002.
    """
    hits = found.first(k)
    discount = 1.0 / np.log2(np.arange(2.0, hits.shape[1] + 2.0))
    best = np.concatenate([[0.0], np.cumsum(discount)])
    ideal = best[np.minimum(found.relevant, hits.shape[1])]
    gain: NDArray[np.float64] = hits @ discount / ideal
    return gain


def first_hit(
    hits: NDArray[np.bool_], rank: NDArray[np.float64], ties: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The place of the first hit, from 1: float64 [queries].

    Behind the places that `hits`, bool [queries, places], tells of: rank + ties / 2, or inf.
    """
    place: NDArray[np.float64] = np.maximum(rank + ties / 2.0, hits.shape[1] + 1.0)
    there = hits.any(axis=1)
    place[there] = hits[there].argmax(axis=1) + 1.0
    return place


def first_hit_terms(place: NDArray[np.float64], ks: Sequence[int]) -> Terms:
    """What each query gives to R@k and MRR; place: of the first hit, float64 [queries]."""
    columns = [place <= k for k in ks] + [1.0 / place]
    return Terms(
        names=(*(f"R@{k}" for k in ks), "MRR"),
        values=np.stack(columns, axis=1).astype(np.float64),
        weights=np.ones(len(place)),
    )


def labelled(found: Labelled, ks: Sequence[int]) -> dict[str, Any]:
    """mHR@k, mAP@k, mAP_cut@k, nDCG@k and R@k for each k, and MRR, with `queries` and `gallery`.

    R@k is the share of queries of which an answer is among the first k, MRR the mean of 1 / place
    of the first hit; a rank of inf is a miss, and 0. Where the gallery has fewer than k candidates,
    the first k are all of them.
    """
    terms = labelled_terms(found, ks)
    return terms.means() | {"queries": len(found.relevant), "gallery": found.gallery}


def labelled_terms(found: Labelled, ks: Sequence[int]) -> Terms:
    """What each query gives to the metrics of `labelled`, for `bootstrap` and `paired`."""
    columns: dict[str, NDArray[np.float64]] = {}
    for k in ks:
        columns |= {
            f"mHR@{k}": hit_ratio(found, k),
            f"mAP@{k}": average_precision(found, k),
            f"mAP_cut@{k}": average_precision_cut(found, k),
            f"nDCG@{k}": ndcg(found, k),
        }
    first = first_hit_terms(first_hit(found.hits, found.rank, found.ties), ks)
    if not columns:
        return first
    values = np.stack(list(columns.values()), axis=1)
    return Terms(names=tuple(columns), values=values, weights=first.weights).beside(first)
