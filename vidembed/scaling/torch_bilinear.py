"""torch's bilinear rule: four neighbours, no antialiasing, in float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DOUBT = np.float32(1e-3)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """For some output positions the two input ones, int64, and the second's weight, float32."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    weight: NDArray[np.float32]


def neighbours(before: int, after: int, start: int, count: int) -> Neighbours:
    """Of `count` output positions from `start`, of `after`, as torch's bilinear kernel has them."""
    # The kernel multiplies and subtracts with one rounding (FMA): in float64 nothing is rounded.
    # Two roundings shift a pixel by as much as 1.5e-5 of the whole range.
    step = np.float64(np.float32(before) / np.float32(after))
    at = np.maximum((np.arange(start, start + count) + 0.5) * step - 0.5, 0).astype(np.float32)
    first = np.minimum(at.astype(np.int64), before - 1)
    return Neighbours(first, np.minimum(first + 1, before - 1), at - first.astype(np.float32))


def exact(frame: NDArray[np.uint8], down: Neighbours, across: Neighbours) -> NDArray[np.float32]:
    """As torch.nn.functional.interpolate(mode="bilinear", align_corners=False) of float32, at these
    rows and columns, to a few units of the last place.
    """
    begin, end = across.first[0], across.second[-1] + 1
    columns = frame[:, begin:end]
    above, below = (
        columns[rows].astype(np.float32).reshape(len(rows), -1)
        for rows in (down.first, down.second)
    )
    lines = _between(above, below, down.weight[:, None])
    # Three flat places a pixel: numpy takes single numbers faster than triples.
    left, right = (
        lines.take(((places - begin)[:, None] * 3 + np.arange(3)).ravel(), axis=1)
        for places in (across.first, across.second)
    )
    found = _between(left, right, np.repeat(across.weight, 3))
    return found.reshape(len(found), -1, 3)


def _between(
    first: NDArray[np.float32], second: NDArray[np.float32], weight: NDArray[np.float32]
) -> NDArray[np.float32]:
    """In the memory of `second`."""
    second -= first
    second *= weight
    second += first
    return second


def rounded(frame: NDArray[np.uint8], down: Neighbours, across: Neighbours) -> NDArray[np.uint8]:
    """As torchvision's resize(antialias=False) of uint8: that of float32, rounded half to even.

    Where the rounding hangs on the last place, the sum is made in the order of torch's kernel.
    """
    found = exact(frame, down, across)
    y, x, channel = np.nonzero(np.abs(found - np.floor(found) - np.float32(0.5)) < _DOUBT)
    above, below, up = down.first[y], down.second[y], down.weight[y]
    left, right, east = across.first[x], across.second[x], across.weight[x]
    north, west = np.float32(1) - up, np.float32(1) - east
    total = (north * east) * frame[above, right, channel].astype(np.float32)
    for weight, rows, columns in (
        (north * west, above, left),
        (up * west, below, left),
        (up * east, below, right),
    ):
        # One rounding for a product and a sum, as above.
        product = weight.astype(np.float64) * frame[rows, columns, channel]
        total = (product + total).astype(np.float32)
    found[y, x, channel] = total
    return np.rint(found).astype(np.uint8)
