"""How sure a metric is, and a difference of two: the bootstrap and the randomisation test.

Queries are resampled, never entries: the places that a query with ties has are not independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from vidembed.metrics.terms import Terms

# Rounds are drawn as many at a time as fit: 8 MB of weights, one row of them at least.
_CELLS = 1 << 20
_BOUNDS = (0.025, 0.975)
# Sums of the same numbers in another order differ by less.
_SAME = 1e-12


def bootstrap(terms: Terms, *, rounds: int = 1000, seed: int = 0) -> dict[str, list[float]]:
    """95% intervals [low, high] of each metric by resampling the queries.

    The percentile bootstrap: Efron and Tibshirani, An Introduction to the Bootstrap, 1993. The same
    seed gives the same intervals. Memory: 8 MB, or 16 bytes a query where that is more.
    """
    drawn = np.concatenate([_resampled(terms, w) for w in _draws(len(terms.weights), rounds, seed)])
    return _intervals(terms.names, drawn)


@dataclass(frozen=True, slots=True)
class Difference:
    """Of one metric, B - A over the same queries.

    interval: 95%, from the bootstrap of the pairs. p: two-sided, of the randomisation test.
    """

    a: float
    b: float
    difference: float
    interval: tuple[float, float]
    p: float


def paired(a: Terms, b: Terms, *, rounds: int = 10_000, seed: int = 0) -> dict[str, Difference]:
    """Each metric of two rankings of the same queries, row by row, and what their difference is.

    The interval resamples the queries, both rankings of one together. The p-value is of the
    randomisation (permutation) test: in each round every query's two results are exchanged or not
    by a coin, and p = (1 + rounds with a difference at least as large as the one seen) /
    (1 + rounds), so that it is never 0. Smucker, Allan and Carterette, A Comparison of Statistical
    Significance Tests for Information Retrieval Evaluation, CIKM 2007.

    Raises ValueError where the metrics or the number of queries differ.
    """
    if a.names != b.names or len(a.weights) != len(b.weights):
        raise ValueError("a and b must have the same metrics and the same queries")
    size = len(a.weights)
    drawn = np.concatenate(
        [_resampled(b, w) - _resampled(a, w) for w in _draws(size, rounds, seed)]
    )
    intervals = _intervals(a.names, drawn)
    before, after = a.means(), b.means()
    p = _randomisation(a, b, rounds=rounds, seed=seed)
    return {
        name: Difference(
            a=before[name],
            b=after[name],
            difference=after[name] - before[name],
            interval=(intervals[name][0], intervals[name][1]),
            p=float(p[i]),
        )
        for i, name in enumerate(a.names)
    }


def _draws(size: int, rounds: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each query is drawn, float64 [some rounds, queries], `rounds` in all.

    Counts of the draws in place of the draws themselves: all metrics of a round are then one
    product of matrices.
    """
    rng = np.random.default_rng(seed)
    at_once = max(1, _CELLS // size)
    for start in range(0, rounds, at_once):
        some = min(at_once, rounds - start)
        counts = np.empty((some, size))
        for row in counts:
            row[:] = np.bincount(rng.integers(0, size, size), minlength=size)
        yield counts


def _resampled(terms: Terms, draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """The metrics of each round: float64 [rounds, metrics]."""
    found: NDArray[np.float64] = draws @ terms.values / (draws @ terms.weights)[:, None]
    return found


def _intervals(names: tuple[str, ...], drawn: NDArray[np.float64]) -> dict[str, list[float]]:
    bounds = np.quantile(drawn, _BOUNDS, axis=0)
    return {name: bounds[:, i].tolist() for i, name in enumerate(names)}


def _randomisation(a: Terms, b: Terms, *, rounds: int, seed: int) -> NDArray[np.float64]:
    """The p-values of all metrics: float64 [metrics].

    A coin that shows s = 1 or -1 gives A the half of (a + b) + s (a - b) and B the rest, so coins
    are tossed only for the queries on which the two differ.
    """
    values, weights = a.values - b.values, a.weights - b.weights
    both, weight = a.values.sum(axis=0) + b.values.sum(axis=0), a.weights.sum() + b.weights.sum()
    seen = np.abs(b.values.sum(axis=0) / b.weights.sum() - a.values.sum(axis=0) / a.weights.sum())
    unlike = (values != 0).any(axis=1) | (weights != 0)
    values, weights = values[unlike], weights[unlike]
    extreme = np.zeros(len(a.names))
    for coins in _coins(len(weights), rounds, seed):
        moved, shifted = coins @ values, (coins @ weights)[:, None]
        found = (both + moved) / (weight + shifted) - (both - moved) / (weight - shifted)
        extreme += (np.abs(found) >= seen - _SAME * np.maximum(seen, 1.0)).sum(axis=0)
    return (1.0 + extreme) / (1.0 + rounds)


def _coins(size: int, rounds: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """1 or -1, float64 [some rounds, size], `rounds` in all."""
    # Not the bootstrap's stream: the two would be dependent.
    rng = np.random.default_rng([seed, 1])
    at_once = max(1, _CELLS // max(size, 1))
    for start in range(0, rounds, at_once):
        some = min(at_once, rounds - start)
        # Each round begins a byte of its own, so that what it draws does not depend on the others.
        bits = np.unpackbits(
            rng.integers(0, 256, (some, (size + 7) // 8), np.uint8), axis=1, count=size
        )
        yield bits.astype(np.float64) * 2.0 - 1.0
