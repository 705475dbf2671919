"""OpenCV's bilinear resize of bytes, in its fixed-point arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def resize(frame: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """As OpenCV's resize(INTER_LINEAR) of uint8: weights of 11 bits, columns first, and of each
    row's share four bits and then sixteen are cut off before the sum is rounded.
    """
    above, below, up, down = _neighbours(frame.shape[0], height)
    left, right, west, east = _neighbours(frame.shape[1], width)
    # Across, a place beyond the outermost pixel is that pixel; down, both shares of it are cut off
    # one by one, as those of two rows are.
    single = left == right
    west, east = np.where(single, _ONE, west), np.where(single, 0, east)
    needed = np.union1d(above, below)
    rows = frame[needed].astype(np.int32)
    lines = rows[:, left] * west[:, None] + rows[:, right] * east[:, None] >> 4
    shares = (lines[np.searchsorted(needed, above)] * up[:, None, None] >> 16) + (
        lines[np.searchsorted(needed, below)] * down[:, None, None] >> 16
    )
    return (shares + 2 >> 2).astype(np.uint8)


_ONE = 1 << 11


def _neighbours(
    before: int, after: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """For each output position the two input ones, and the weights of both, of 2048 in all."""
    at = ((np.arange(after) + 0.5) * (before / after) - 0.5).astype(np.float32)
    first = np.floor(at).astype(np.int64)
    share = at - first.astype(np.float32)
    weights = [
        np.rint(part * np.float32(_ONE)).astype(np.int32) for part in (np.float32(1) - share, share)
    ]
    inside = [np.clip(place, 0, before - 1) for place in (first, first + 1)]
    return inside[0], inside[1], weights[0], weights[1]
