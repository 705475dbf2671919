"""Ratio metrics, taken apart by query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What each query gives to each metric: metric = values.sum(axis=0) / weights.sum().

    names: of the metrics. values: float64 [queries, metrics]. weights: float64 [queries], how many
    entries a query is; 1 but for ties under the reference rule.
    """

    names: tuple[str, ...]
    values: NDArray[np.float64]
    weights: NDArray[np.float64]

    def __post_init__(self) -> None:
        if not len(self.weights):
            raise ValueError("no queries to measure")
        if self.values.shape != (len(self.weights), len(self.names)):
            raise ValueError(
                f"values are {self.values.shape}, expected "
                f"{(len(self.weights), len(self.names))}: queries by metrics"
            )

    def beside(self, other: Terms) -> Terms:
        """The metrics of both, of the same queries. Raises ValueError where weights differ."""
        if not np.array_equal(self.weights, other.weights):
            raise ValueError("terms of other queries, or of another tie rule")
        return Terms(
            names=self.names + other.names,
            values=np.concatenate([self.values, other.values], axis=1),
            weights=self.weights,
        )

    def means(self) -> dict[str, float]:
        """Each metric over all queries."""
        found = self.values.sum(axis=0) / self.weights.sum()
        return dict(zip(self.names, found.tolist(), strict=True))
