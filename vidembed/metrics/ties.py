"""Where a query's answer stands when others score the same: the tie rules.

Of a query whose nearest answer has `rank` (1 + how many candidates score higher) and `ties` (how
many that are no answer score the same), the answer may stand at any of the places rank, rank + 1, …
rank + ties. A rule says what of these counts.

reference: CLIP4Clip's `metrics.py: compute_metrics` (github.com/ArrowLuo/CLIP4Clip). It looks up
the answer's score in the sorted row and takes every place at which it finds it: each place is an
entry, and metrics are over entries, of which a query with ties has several. Where a video has
several captions, text to video goes another way there (`tensor_text_to_video_metrics`): a query is
one entry, at the place where the sort happens to leave it. Here it is spread evenly over its
places: what the reference gives on average over all orders of those that score the same.

middle: one entry, at the mean of the places, rank + ties / 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Rule = Literal["reference", "middle"]
RULES: tuple[Rule, ...] = ("reference", "middle")

_EULER = 0.5772156649015329
_SMALL = 64


@dataclass(frozen=True, slots=True)
class Places:
    """The places at which the answers stand, and how much each query weighs.

    first: float64 [queries], from 1, inf where there is none. count: float64 [queries], how many
    places from there on. weight: float64 [queries], of a query, spread evenly over its places.
    """

    first: NDArray[np.float64]
    count: NDArray[np.float64]
    weight: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        rank: NDArray[np.float64],
        ties: NDArray[np.int64],
        rule: Rule,
        *,
        several: bool = False,
    ) -> Places:
        """By a rule. several: some video has several captions, and this is text to video.

        rank: float64 [queries] from 1, or inf; ties: int64 [queries]. Raises ValueError where these
        are of different lengths, or not that.
        """
        if rule not in RULES:
            raise ValueError(f"{rule!r} is no tie rule: expected {' or '.join(RULES)}")
        if rank.shape != ties.shape or rank.ndim != 1:
            raise ValueError(f"ranks are {rank.shape}, ties {ties.shape}: expected [queries] twice")
        # Written so that NaN is refused too.
        if not ((rank >= 1).all() and (ties >= 0).all()):
            raise ValueError("expected ranks from 1 and ties from 0")
        one = np.ones(len(rank), np.float64)
        if rule == "middle":
            return cls(rank + ties / 2.0, one, one)
        count: NDArray[np.float64] = ties.astype(np.float64) + 1.0
        return cls(rank.astype(np.float64), count, one if several else count)

    def within(self, k: float) -> NDArray[np.float64]:
        """How much of each query's weight stands at place k or before: float64 [queries]."""
        inside = np.clip(np.floor(k - self.first) + 1.0, 0.0, self.count)
        found: NDArray[np.float64] = inside / self.count * self.weight
        return found

    def reciprocal(self) -> NDArray[np.float64]:
        """Each query's weight times the mean of 1/place; 0 where it stands nowhere."""
        last = self.first + self.count - 1.0
        spread = (self.count > 1.0) & np.isfinite(last)
        found = self.weight / self.first
        found[spread] = (
            (_harmonic(last[spread]) - _harmonic(self.first[spread] - 1.0))
            / self.count[spread]
            * self.weight[spread]
        )
        return found

    def mean(self) -> NDArray[np.float64]:
        """Each query's weight times the mean of its places."""
        found: NDArray[np.float64] = self.weight * (self.first + (self.count - 1.0) / 2.0)
        return found

    def median(self, *, lower: bool = False) -> float | None:
        """The median place over the weight of all queries; None where it is infinite.

        Between two middle places their mean (as numpy.median), or the lower one (as torch.median).
        """
        total = float(self.weight.sum())
        if np.all(self.count == 1.0):
            # By the places themselves: they may be halves.
            ordered = np.sort(self.first)
            middle = (len(ordered) - 1) // 2
            pair = ordered[middle], ordered[middle if lower else len(ordered) // 2]
        elif lower:
            pair = (self._least(total / 2.0),) * 2
        else:
            # Whole entries, so the weights are whole numbers.
            entries = round(total)
            pair = self._least((entries + 1) // 2), self._least(entries // 2 + 1)
        found = float(pair[0] + pair[1]) / 2.0
        return found if np.isfinite(found) else None

    def _least(self, weight: float) -> float:
        """The least whole place up to which at least this much weight stands."""
        last = (self.first + self.count - 1.0)[np.isfinite(self.first)]
        if not len(last):
            return float("inf")
        # Shares of a query's weight do not sum to it exactly.
        enough = weight * (1.0 - 1e-12)
        low, high = 1, int(last.max())
        if self.within(high).sum() < enough:
            return float("inf")
        while low < high:
            middle = (low + high) // 2
            if self.within(middle).sum() >= enough:
                high = middle
            else:
                low = middle + 1
        return float(low)


def _harmonic(n: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 + 1/2 + … + 1/n for whole n from 0, to float64 rounding, without a sum that long."""
    small = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, _SMALL + 1))])
    found = small[np.minimum(n, _SMALL).astype(np.int64)]
    large = n > _SMALL
    x = n[large]
    # The Euler–Maclaurin series: the next term is below 1/240 x^8, 1e-17 here.
    found[large] = np.log(x) + _EULER + 1 / (2 * x) - 1 / (12 * x**2) + 1 / (120 * x**4)
    found[large] -= 1 / (252 * x**6)
    return found


def ranks(scores: NDArray[np.float32], relevant: NDArray[np.int64]) -> NDArray[np.float64]:
    """`ranked`, with ties in the middle: rank + ties / 2, float64 [queries]."""
    rank, ties = ranked(scores, relevant)
    found: NDArray[np.float64] = rank + ties / 2.0
    return found


def ranked(
    scores: NDArray[np.float32], relevant: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Rank and ties of each query's one answer, from a whole matrix of scores.

    scores: float [queries, gallery], higher is nearer; relevant: int64 [queries], positions in the
    gallery. Returns rank float64 [queries], 1 + how many score higher, and ties int64 [queries],
    how many others score the same.
    """
    own = scores[np.arange(len(scores)), relevant][:, None]
    rank = 1.0 + (scores > own).sum(axis=1)
    ties = (scores == own).sum(axis=1) - 1
    return rank, ties
