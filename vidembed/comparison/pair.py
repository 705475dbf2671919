"""The queries that two evaluations share, and which of the two did better on each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidembed.comparison.read import Asked, words
from vidembed.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Averages of the same numbers, taken by other code, differ by less.
_SAME = 1e-12


@dataclass(frozen=True, slots=True)
class Pair:
    """One direction of A and of B, row by row the same query."""

    direction: str
    a: Asked
    b: Asked

    @classmethod
    def of(cls, direction: str, a: Asked, b: Asked) -> Pair | None:
        """The queries that both have, in the order of A; None where there are none.

        Raises ConfigError where one id is another query's in B.
        """
        place = pc.fill_null(pc.index_in(a.ids, value_set=b.ids), -1).to_numpy()
        rows = np.flatnonzero(place >= 0)
        if not len(rows):
            return None
        found = cls(direction, a.take(rows), b.take(place[rows].astype(np.int64)))
        if direction.startswith("text"):
            found._check()
        return found

    def _check(self) -> None:
        one, two = self.a.texts, self.b.texts
        at = pc.index(pc.fill_null(pc.not_equal(one, two), False), True).as_py()
        if at >= 0:
            raise ConfigError(
                f"{words(self.direction)}: the query {self.a.ids[at]} is {str(one[at])!r} in A and "
                f"{str(two[at])!r} in B: evaluate both with the same --queries"
            )

    def __len__(self) -> int:
        return len(self.a.ids)

    @property
    def several(self) -> bool:
        return self.a.several or self.b.several

    @property
    def measures(self) -> tuple[str, ...]:
        """Of video queries, what both hold: mHR, mAP and nDCG at one k."""
        return tuple(sorted(set(self.a.measures) & set(self.b.measures)))

    @property
    def precision(self) -> str | None:
        """The name of the average precision, where both hold it."""
        return next((name for name in self.measures if name.startswith("mAP@")), None)

    def unlike(self) -> list[str]:
        """What makes the two less than comparable."""
        notes = []
        if self.a.gallery != self.b.gallery:
            notes.append(
                f"{words(self.direction)}: A looked among {self.a.gallery} candidates and B among "
                f"{self.b.gallery}, so their ranks do not mean the same"
            )
        if set(self.a.measures) != set(self.b.measures):
            notes.append(
                f"{words(self.direction)}: A has {_listed(self.a)} and B has {_listed(self.b)}; "
                "evaluate both with the same --k to compare these"
            )
        return notes

    def gain(self) -> NDArray[np.float64]:
        """By how much B is better at each query: float64 [queries], 0 where they are level.

        The logarithm of the ranks' quotient, as from 2 to 1 is more than from 101 to 100; of a
        video's query the difference of the average precision, where both have it.
        """
        if self.precision is not None:
            gain = self.b.measures[self.precision] - self.a.measures[self.precision]
            gain[np.abs(gain) < _SAME] = 0.0
            return gain
        places = [self.a.place(), self.b.place()]
        # Not given back: worse than every rank, and no better than not given back.
        known = np.concatenate([place[np.isfinite(place)] for place in places])
        lost = 2.0 * known.max(initial=1.0)
        before, after = (np.where(np.isfinite(place), place, lost) for place in places)
        found: NDArray[np.float64] = np.log(before) - np.log(after)
        return found

    def changed(self, row: int) -> dict[str, Any]:
        """One query, before and after: a `rank` is None where it was not given back."""
        found: dict[str, Any] = {
            "query_id": self.a.ids[row].as_py(),
            "query": self.a.texts[row].as_py(),
        }
        for name, asked in (("a", self.a), ("b", self.b)):
            place = float(asked.place()[row])
            found[f"rank_{name}"] = place if np.isfinite(place) else None
            if self.precision is not None:
                found[f"average_precision_{name}"] = float(asked.measures[self.precision][row])
        return found

    def table(self) -> pa.Table:
        """A row per query, as `comparison.parquet` has it."""
        gain = self.gain()
        columns: dict[str, Any] = {
            "direction": pa.array([self.direction] * len(self), pa.string()),
            "query_id": self.a.ids,
            "query": self.a.texts,
        }
        sides = (("a", self.a), ("b", self.b))
        for name, asked in sides:
            place = asked.place()
            columns[f"rank_{name}"] = pa.array(place, mask=~np.isfinite(place))
        for name, asked in sides:
            columns[f"average_precision_{name}"] = (
                pa.nulls(len(self), pa.float64())
                if self.precision is None
                else pa.array(asked.measures[self.precision])
            )
        winner = np.select([gain > 0, gain < 0], ["b", "a"], "tie")
        return pa.table(columns | {"winner": pa.array(winner.tolist(), pa.string())})


def _listed(asked: Asked) -> str:
    return ", ".join(asked.measures) or "none of mHR, mAP, nDCG"
