"""torch's antialiased resizes of bytes, in their fixed-point arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Kernel:
    """How much a pixel counts by its distance in output pixels, and up to which."""

    share: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    reach: int


def _triangle(x: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.maximum(1 - np.abs(x), 0)
    return found


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    # Keys' kernel with a = -1/2, as Pillow's.
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


BILINEAR = Kernel(_triangle, 1)
BICUBIC = Kernel(_cubic, 2)


def _filtered(rows: NDArray[np.uint8], after: int, kernel: Kernel) -> NDArray[np.uint8]:
    """Rows uint8 [before, …] to `after` of them, as torch's interpolate(antialias=True) of uint8
    does in one direction: weights of 15 bits, and bytes again before the other direction.

    That is torch on a processor with AVX2; on others it computes in float32.
    """
    before = len(rows)
    if before == after:
        return rows
    first, weights, bits = _filters(before, after, kernel)
    flat = np.ascontiguousarray(rows).reshape(before, -1)
    total = np.full((after, flat.shape[1]), 1 << (bits - 1), np.int32)
    for k in range(weights.shape[1]):
        total += flat[np.minimum(first + k, before - 1)] * weights[:, k, None]
    total >>= bits
    return np.clip(total, 0, 255).astype(np.uint8).reshape(after, *rows.shape[1:])


@lru_cache(maxsize=64)
def _filters(
    before: int, after: int, kernel: Kernel
) -> tuple[NDArray[np.int64], NDArray[np.int32], int]:
    """The first input position of each output one, its weights, and how many bits they have."""
    scale = before / after
    wide = max(scale, 1.0)
    reach = kernel.reach * wide
    middle = scale * (np.arange(after) + 0.5)
    first = np.maximum((middle - reach + 0.5).astype(np.int64), 0)
    last = np.minimum((middle + reach + 0.5).astype(np.int64), before)
    places = first[:, None] + np.arange(int((last - first).max()))
    shares = kernel.share((places - middle[:, None] + 0.5) * (1 / wide))
    shares = np.where(places < last[:, None], shares, 0.0)
    shares /= shares.sum(axis=1, keepdims=True)
    bits, most = 0, float(shares.max())
    while bits < 22 and int(0.5 + most * (1 << (bits + 1))) < 1 << 15:
        bits += 1
    scaled_up = shares * (1 << bits)
    return first, np.trunc(scaled_up + np.copysign(0.5, scaled_up)).astype(np.int32), bits


def resize(frame: NDArray[np.uint8], height: int, width: int, kernel: Kernel) -> NDArray[np.uint8]:
    """A frame uint8 [h, w, 3] at another size: across first, then down."""
    lines = _filtered(frame.transpose(1, 0, 2), width, kernel)
    return _filtered(lines.transpose(1, 0, 2), height, kernel)
