"""Text to video by dual softmax and by query-bank normalisation, in blocks.

Both need the scores of all texts with a video at once, and all texts are in memory; the videos come
a load at a time. Scores are computed in float64 and rounded to float32, so that equal vectors have
equal scores in every block.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from vidembed import metrics
from vidembed.errors import ConfigError
from vidembed.evaluation import scores
from vidembed.evaluation.gallery import Side
from vidembed.evaluation.ranking import Ranking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from vidembed.evaluation.directions import Texts
    from vidembed.evaluation.gallery import Load
    from vidembed.evaluation.workers import Workers
    from vidembed.store.run import Run

# What a score takes on its way: itself in float64 and float32, and some copies of it.
_BYTES = 48


def check(metric: str) -> None:
    """Raise ConfigError for a metric that these do not go with."""
    if metric == "L2":
        raise ConfigError(
            "--also is for vectors that are compared by COSINE or IP; the run's metric is L2, of "
            "which no score is above 0"
        )


def dual_softmax(texts: Texts, block_bytes: int, workers: Workers) -> Ranking:
    """`metrics.dual_softmax` over all texts; of a ranking only rank and ties."""
    temperature = metrics.TEMPERATURES[str(texts.gallery.run.record["metric"])]
    turn = partial(_dual_softmax, temperature=temperature)
    return _ranking(texts, turn, block_bytes, workers)


def qb_norm(
    texts: Texts, bank: NDArray[np.float32], plain: Ranking, block_bytes: int, workers: Workers
) -> Ranking:
    """`metrics.qb_norm` with a bank of other texts' vectors; of a ranking only rank and ties.

    plain: the texts' ranking without it.
    """
    gallery = texts.gallery
    beta = metrics.BETAS[str(gallery.run.record["metric"])]
    known = metrics.QueryBank(queries=len(bank), gallery=gallery.videos, beta=beta)
    shared = _Shared(gallery.run, Side.single(bank), np.zeros(0, np.int64), block_bytes)
    reduced = partial(_bank_blocks, beta=beta)
    for blocks in workers.each(reduced, shared, workers.shares(gallery.loads())):
        for block in blocks:
            known.add(block)
    turn = partial(_qb_norm, offset=known.offset, applies=known.applies(plain.top[:, 0]))
    return _ranking(texts, turn, block_bytes, workers)


def _dual_softmax(
    block: NDArray[np.float32], videos: slice, temperature: float = metrics.TEMPERATURE
) -> NDArray[Any]:
    return metrics.dual_softmax(block, temperature)


def _qb_norm(
    block: NDArray[np.float32],
    videos: slice,
    offset: NDArray[np.float64],
    applies: NDArray[np.bool_],
) -> NDArray[Any]:
    return metrics.qb_norm(block, offset[videos], applies)


@dataclass(frozen=True, slots=True)
class _Shared:
    """What every task needs. own: the score of each text's video; empty where nobody knows yet."""

    run: Run
    texts: Side
    wanted: NDArray[np.int64]
    block_bytes: int
    turn: Callable[[NDArray[np.float32], slice], NDArray[Any]] = _dual_softmax
    own: NDArray[np.float64] | None = None


def _ranking(
    texts: Texts,
    turn: Callable[[NDArray[np.float32], slice], NDArray[Any]],
    block_bytes: int,
    workers: Workers,
) -> Ranking:
    gallery, count = texts.gallery, len(texts.wanted)
    shares = workers.shares(gallery.loads())
    given = (gallery.run, Side.single(texts.vectors), texts.wanted, block_bytes, turn)
    own = np.full(count, -np.inf)
    for found in workers.each(_own, _Shared(*given), shares):
        np.maximum(own, found, out=own)
    above, ties = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for better, same in workers.each(_counted, _Shared(*given, own), shares):
        above += better
        ties += same
    # One of the same is the answer itself.
    nothing = np.zeros((count, 0))
    return Ranking(
        rank=1.0 + above.astype(np.float64),
        ties=ties - 1,
        top=nothing.astype(np.int64),
        scores=nothing.astype(np.float32),
    )


def _blocks(shared: _Shared, share: Sequence[Load]) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """(videos, scores of all texts with them), as many as memory allows."""
    texts = shared.texts.vectors.astype(np.float64)
    rows = max(1, shared.block_bytes // (_BYTES * len(texts)))
    for load in share:
        side = load.read(shared.run)
        for items in side.cuts(rows):
            block = scores.doubled(texts, side[items])
            videos = slice(load.first + items.start, load.first + items.stop)
            yield videos, block


def _own(device: object, shared: _Shared, share: Sequence[Load]) -> NDArray[np.float64]:
    found = np.full(shared.texts.items, -np.inf)
    for videos, block in _blocks(shared, share):
        here = np.flatnonzero((shared.wanted >= videos.start) & (shared.wanted < videos.stop))
        if len(here):
            found[here] = shared.turn(block, videos)[here, shared.wanted[here] - videos.start]
    return found


def _counted(
    device: object, shared: _Shared, share: Sequence[Load]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    assert shared.own is not None
    above = np.zeros(shared.texts.items, np.int64)
    ties = above.copy()
    for videos, block in _blocks(shared, share):
        found = shared.turn(block, videos)
        above += np.count_nonzero(found > shared.own[:, None], axis=1)
        ties += np.count_nonzero(found == shared.own[:, None], axis=1)
    return above, ties


def _bank_blocks(
    device: object, shared: _Shared, share: Sequence[Load], beta: float
) -> list[metrics.BankBlock]:
    return [
        metrics.bank_block(block, first_item=videos.start, beta=beta)
        for videos, block in _blocks(shared, share)
    ]
