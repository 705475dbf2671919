"""One product of matrices, and what it leaves undecided: on a CPU by numpy, on a GPU by torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vidembed.evaluation import scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidembed.evaluation.gallery import Side

# Scores that a core's cache holds beside the vectors that they are of.
_CACHED = 1 << 20
_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of each query, float32 [queries]. A score above `high` is better than the answer's, one below
    `low` is worse. One below `least` is not among the first; where nothing is known of these it is
    -inf, and found from the scores themselves, which are off by `margin` at most.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    least: NDArray[np.float32]
    margin: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sifted:
    """above: int64 [queries], how many items are better than the answer. query, item: int64, the
    pairs that are to be compared exactly; near: bool, whether with the answer.
    """

    above: NDArray[np.int64]
    query: NDArray[np.int64]
    item: NDArray[np.int64]
    near: NDArray[np.bool_]


class Cpu:
    """numpy, by blocks that a core's cache holds."""

    def __init__(self, block_bytes: int) -> None:
        # A score takes 4 bytes, and what is asked of it some more.
        self._cells = min(_CACHED, block_bytes // 8)

    def shape(self) -> tuple[int, int]:
        """How many rows of queries and of the gallery one call should get."""
        rows = min(_ROWS, max(1, self._cells // 64))
        return max(1, self._cells // rows), rows

    def sift(
        self,
        queries: Side,
        gallery: Side,
        metric: str,
        bounds: Bounds,
        hidden: tuple[NDArray[np.int64], NDArray[np.int64]],
        top: int,
    ) -> Sifted:
        """hidden: pairs (query, item) that do not count."""
        found = scores.plain(queries, gallery, metric)
        found[hidden] = -np.inf
        least = bounds.least.copy()
        new = np.flatnonzero(np.isneginf(least))
        if len(new) and found.shape[1] > top:
            kth = np.partition(found[new], -top, axis=1)[:, -top]
            least[new] = _below(kth - 2 * bounds.margin[new])
        above = found > bounds.high[:, None]
        count = np.count_nonzero(above, axis=1)
        wanted = found >= bounds.low[:, None]
        wanted ^= above
        wanted |= found >= least[:, None]
        flat = np.flatnonzero(wanted)
        query, item = np.divmod(flat, found.shape[1])
        value = found.ravel()[flat]
        near = (value >= bounds.low[query]) & (value <= bounds.high[query])
        return Sifted(count, query, item, near)


class Gpu:
    """torch, by blocks as large as is allowed; a GPU's float32, without TF32."""

    def __init__(self, block_bytes: int, device: str = "cuda") -> None:
        import torch

        torch.set_float32_matmul_precision("highest")
        self._torch, self._device = torch, torch.device(device)
        self._cells = block_bytes // 16

    def shape(self) -> tuple[int, int]:
        rows = max(1, min(8192, self._cells // 64))
        return max(1, self._cells // rows), rows

    def sift(
        self,
        queries: Side,
        gallery: Side,
        metric: str,
        bounds: Bounds,
        hidden: tuple[NDArray[np.int64], NDArray[np.int64]],
        top: int,
    ) -> Sifted:
        torch = self._torch
        found = self._scores(queries, gallery, metric)
        if len(hidden[0]):
            found[self._there(hidden[0]), self._there(hidden[1])] = -torch.inf
        low, high = self._there(bounds.low)[:, None], self._there(bounds.high)[:, None]
        least, margin = self._there(bounds.least), self._there(bounds.margin)
        if found.shape[1] > top and bool(torch.isneginf(least).any()):
            kth = torch.topk(found, top, dim=1).values[:, -1] - 2 * margin
            kth = torch.nextafter(kth, torch.full_like(kth, -torch.inf))
            least = torch.where(torch.isneginf(least), kth, least)
        above = found > high
        near = (found >= low) & ~above
        query, item = torch.nonzero(near | (found >= least[:, None]), as_tuple=True)
        return Sifted(
            above.sum(dim=1).cpu().numpy(),
            query.cpu().numpy(),
            item.cpu().numpy(),
            near[query, item].cpu().numpy(),
        )

    def _scores(self, queries: Side, gallery: Side, metric: str) -> Any:
        rows, columns = self._there(queries.vectors), self._there(gallery.vectors)
        found = rows @ columns.T
        if metric == "L2":
            found = 2 * found - (rows**2).sum(dim=1)[:, None] - (columns**2).sum(dim=1)
        if not gallery.is_single:
            found = self._best(found, gallery.starts, 1)
        return found if queries.is_single else self._best(found, queries.starts, 0)

    def _best(self, found: Any, starts: NDArray[np.int64], axis: int) -> Any:
        torch = self._torch
        owner = self._there(np.repeat(np.arange(len(starts) - 1), np.diff(starts)))
        shape = list(found.shape)
        shape[axis] = len(starts) - 1
        empty = torch.full(shape, -torch.inf, device=self._device)
        index = (owner if axis else owner[:, None]).expand_as(found)
        return empty.scatter_reduce_(axis, index, found, "amax")

    def _there(self, values: NDArray[Any]) -> Any:
        # A copy: what comes out of Ray's object store may not be written to, and torch says so.
        return self._torch.from_numpy(values.copy()).to(self._device)


def bounds(
    answer: NDArray[np.float64], least: NDArray[np.float64], margin: NDArray[np.float64]
) -> Bounds:
    """From exact scores of the answers and of the last of the first: float64 [queries] each."""
    return Bounds(
        low=_below(answer - margin),
        high=-_below(-answer - margin),
        least=_below(least - margin),
        margin=-_below(-margin),
    )


def _below(values: NDArray[Any]) -> NDArray[np.float32]:
    """The next float32 below."""
    found: NDArray[np.float32] = np.nextafter(values.astype(np.float32), np.float32(-np.inf))
    return found
