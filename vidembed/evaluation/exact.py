"""The exact ranking: every query with every candidate, in memory that is bounded.

Two passes over the vectors of a run, which are read a load at a time. The first finds how near
each query's nearest answer is; the second counts what is nearer, and what is as near, and keeps the
first ones. Ranks, ties and order depend on the vectors alone: see `scores`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vidembed.evaluation import scores
from vidembed.evaluation.gallery import Side
from vidembed.evaluation.ranking import Ranking
from vidembed.evaluation.scan import Asked, Candidates, Found, Scan, answers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vidembed.evaluation.gallery import Gallery, Load
    from vidembed.evaluation.sift import Cpu, Gpu
    from vidembed.evaluation.workers import Workers
    from vidembed.store.run import Run

# Queries of one pass. Their first ones, of every task under way, are in memory.
_QUERIES = 1 << 16

Labelled = tuple["Load", "NDArray[np.int64]"]


@dataclass(frozen=True, slots=True)
class _Shared:
    """What every task of a pass needs. answer: empty in the first pass."""

    run: Run
    asked: Asked
    answer: NDArray[np.float64]
    metric: str
    top: int


def rank(
    asked: Asked, gallery: Gallery, code: NDArray[np.int64], top: int, workers: Workers
) -> Ranking:
    """Rank the videos of a gallery for each query.

    code: int64 [videos], see `Asked`. top: how many of the first are kept. Every query has an
    answer. Raises RunError naming a part that is damaged.
    """
    cuts = range(0, asked.side.items, _QUERIES)
    found = [
        _rank(asked[a : min(a + _QUERIES, asked.side.items)], gallery, code, top, workers)
        for a in cuts
    ]
    return joined(found)


def _rank(
    asked: Asked, gallery: Gallery, code: NDArray[np.int64], top: int, workers: Workers
) -> Ranking:
    run, metric = gallery.run, str(gallery.run.record["metric"])
    loads = [(each, code[each.first : each.first + each.videos]) for each in gallery.loads()]
    shared = _Shared(run, asked, np.zeros(0), metric, top)
    known = np.unique(asked.code)
    some = [each for each in loads if np.isin(each[1], known).any()]
    answer = np.full(asked.side.items, -np.inf)
    for found in workers.each(_nearest_answers, shared, workers.shares(some)):
        np.maximum(answer, found, out=answer)
    if np.isneginf(answer).any():
        raise ValueError("a query has no answer in the gallery: leave it out")
    shared = _Shared(run, asked, answer, metric, top)
    total = Found.none(asked.side.items, top)
    for share in workers.each(_counted, shared, workers.shares(loads)):
        total.add(share)
    return Ranking(
        rank=1.0 + total.above.astype(np.float64),
        ties=total.ties,
        top=total.first.item,
        scores=total.first.score.astype(np.float32),
    )


def _nearest_answers(
    device: Cpu | Gpu, shared: _Shared, share: Sequence[Labelled]
) -> NDArray[np.float64]:
    found = np.full(shared.asked.side.items, -np.inf)
    for load, code in share:
        part = Candidates(load.read(shared.run), code, load.first)
        np.maximum(found, answers(shared.asked, part, shared.metric), out=found)
    return found


def _counted(device: Cpu | Gpu, shared: _Shared, share: Sequence[Labelled]) -> Found:
    scan = Scan(shared.asked, shared.answer, metric=shared.metric, top=shared.top, device=device)
    for load, code in share:
        scan.add(Candidates(load.read(shared.run), code, load.first))
    return scan.found


def rank_texts(
    videos: Gallery, texts: Side, top: int, workers: Workers
) -> tuple[Ranking, NDArray[np.int64]]:
    """Rank the texts of all videos for each video, whose own are the item of the same number.

    A video's texts count by the nearest of them, its own as its rivals': the rule of CLIP4Clip for
    several captions a video; of a video's segments the nearest counts. texts: an item a video.
    Returns also, for each of the first ones, the row of `texts` that was the nearest: int64 as
    `Ranking.top`.
    """
    count, metric = videos.videos, str(videos.run.record["metric"])
    rank, ties = np.empty(count), np.empty(count, np.int64)
    first = np.empty((count, top), np.int64)
    score, row = np.empty((count, top), np.float32), np.empty((count, top), np.int64)
    shared = _Shared(
        videos.run, Asked(texts, *(np.zeros(0, np.int64),) * 2), np.zeros(0), metric, top
    )
    for at, found, rows in workers.each(_texts_ranked, shared, videos.loads()):
        part = slice(at, at + len(rows))
        rank[part], ties[part] = 1.0 + found.above, found.ties
        first[part], score[part], row[part] = found.first.item, found.first.score, rows
    return Ranking(rank=rank, ties=ties, top=first, scores=score), row


def _texts_ranked(
    device: Cpu | Gpu, shared: _Shared, load: Load
) -> tuple[int, Found, NDArray[np.int64]]:
    texts, side = shared.asked.side, load.read(shared.run)
    own = load.first + np.arange(side.items)
    answer = scores.exact(side, texts, np.arange(side.items), own, shared.metric)
    asked = Asked(side, own, np.full(side.items, -1, np.int64))
    scan = Scan(asked, answer, metric=shared.metric, top=shared.top, device=device)
    scan.add(Candidates(texts, np.arange(texts.items), 0))
    return load.first, scan.found, _nearest_rows(side, texts, scan.found, shared.metric)


def _nearest_rows(side: Side, texts: Side, found: Found, metric: str) -> NDArray[np.int64]:
    """Which of an item's texts is the one nearest to the video, of equal ones the first."""
    items = found.first.item
    if texts.is_single:
        return items
    query, place = np.nonzero(items >= 0)
    item = items[query, place]
    each = np.diff(texts.starts)[item]
    begin = np.cumsum(each) - each
    rows = np.repeat(texts.starts[item] - begin, each) + np.arange(each.sum())
    value = scores.exact(side, Side.single(texts.vectors), np.repeat(query, each), rows, metric)
    best = np.repeat(np.maximum.reduceat(value, begin), each)
    nearest = np.minimum.reduceat(np.where(value == best, rows, len(texts.vectors)), begin)
    result = np.full(items.shape, -1, np.int64)
    result[query, place] = nearest
    return result


def joined(found: Sequence[Ranking]) -> Ranking:
    """Rankings of queries that follow one another."""
    return Ranking(
        rank=np.concatenate([each.rank for each in found]),
        ties=np.concatenate([each.ties for each in found]),
        top=np.concatenate([each.top for each in found]),
        scores=np.concatenate([each.scores for each in found]),
    )
