"""What a backend finds: for each query where its answer stands, and what stands before all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Of each query, in their order.

    rank: float64 [queries], 1 + how many candidates score higher than the nearest relevant one;
    inf where an index did not give it back. ties: int64 [queries], how many candidates that are
    not relevant score the same as that one. top: int64 [queries, k], positions in the gallery,
    best first, of equal ones the first in the gallery; -1 after the last. scores: float32
    [queries, k] of these, higher is nearer.
    """

    rank: NDArray[np.float64]
    ties: NDArray[np.int64]
    top: NDArray[np.int64]
    scores: NDArray[np.float32]
