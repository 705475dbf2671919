"""Retrieval metrics, as the papers define them. numpy only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def ranks(scores: NDArray[np.float32], relevant: NDArray[np.int64]) -> NDArray[np.float64]:
    """The rank, from 1, of each query's relevant item.

    scores: float32 [queries, gallery], higher is nearer; relevant: int64 [queries].
    A tie counts against the query by half: the rank is 1 + how many score higher + half of how
    many others score the same, so that a constant score is not a perfect one.
    """
    own = scores[np.arange(len(scores)), relevant][:, None]
    above = (scores > own).sum(axis=1)
    level = (scores == own).sum(axis=1) - 1
    found: NDArray[np.float64] = 1.0 + above + level / 2.0
    return found


def retrieval(found: NDArray[np.float64], gallery: int, ks: Sequence[int]) -> dict[str, Any]:
    """R@k, median rank, mean rank and mean reciprocal rank of `ranks`.

    The papers' names: R@k is the share of queries whose item is among the first k (0 to 1), MdR
    the median and MnR the mean of the ranks, MRR the mean of 1/rank.
    """
    table: dict[str, Any] = {f"R@{k}": float((found <= k).mean()) for k in ks}
    return table | {
        "MdR": float(np.median(found)),
        "MnR": float(found.mean()),
        "MRR": float((1.0 / found).mean()),
        "queries": len(found),
        "gallery": gallery,
    }


def bootstrap(
    found: NDArray[np.float64], ks: Sequence[int], *, rounds: int = 1000, seed: int = 0
) -> dict[str, list[float]]:
    """95% intervals of R@k by resampling the queries (percentile bootstrap)."""
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(found), (rounds, len(found)))
    return {
        f"R@{k}": [float(v) for v in np.quantile((found <= k)[picks].mean(axis=1), [0.025, 0.975])]
        for k in ks
    }
