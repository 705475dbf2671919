"""The reference resize and crop of uint8 frames, exact to the last bit where it is integer.

Below decode and encode, which both need it: decode so that frames cross the object store at the
encoder's input size, encode for frames of any size that a caller hands in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from vidembed.clips import Offset, Resize, Scaler

    Pixels = NDArray[Any]  # uint8, or float32 where a resize is computed in it

_PILLOW = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}


def resized_size(
    height: int, width: int, short_side: int, interpolation: Scaler = "bicubic"
) -> tuple[int, int]:
    """Height and width after the short side becomes `short_side` pixels.

    The long one is truncated, as torchvision's Resize does; pytorchvideo's ShortSideScale divides
    first, which at some sizes is one pixel less.

    >>> resized_size(240, 320, 224)
    (224, 298)
    """
    short, long = sorted((height, width))
    if interpolation == "torch_bilinear":
        other = max(1, math.floor((long / short) * short_side))
    else:
        other = max(1, int(short_side * long / short))
    return (short_side, other) if height <= width else (other, short_side)


def crop_offset(length: int, crop: int, offset: Offset = "round") -> int:
    """Where a centre crop begins; see `vidembed.clips.Resize`.

    >>> crop_offset(227, 224), crop_offset(229, 224), crop_offset(227, 224, "floor")
    (2, 2, 1)
    >>> crop_offset(854, 480, "even"), crop_offset(320, 243, "halves")
    (186, 39)
    """
    if offset == "halves":
        return length // 2 - crop // 2
    if offset == "round":
        return round((length - crop) / 2)
    down = (length - crop) // 2
    return down - down % 2 if offset == "even" else down


def prepare(frames: NDArray[np.uint8], resize: Resize) -> Pixels:
    """Frames uint8 [n, height, width, 3] to `resize.pixel_type` [n, crop, crop, 3], 0 to 255."""
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
        raise ValueError(
            f"expected uint8 frames [n, height, width, 3], got {frames.dtype} {frames.shape}"
        )
    out = np.empty((len(frames), resize.crop, resize.crop, 3), resize.pixel_type)
    for i, frame in enumerate(frames):
        prepare_frame(frame, resize, out[i])
    return out


def prepare_frame(frame: NDArray[np.uint8], resize: Resize, out: Pixels) -> None:
    """One frame uint8 [height, width, 3] into `out`, `resize.pixel_type` [crop, crop, 3]."""
    crop, scaler = resize.crop, resize.interpolation
    if resize.fit == "square":
        side = min(frame.shape[:2])
        top, left = (crop_offset(n, side, resize.offset) for n in frame.shape[:2])
        frame = frame[top : top + side, left : left + side]
    if resize.fit != "crop":
        out[...] = scaled(frame, crop, crop, scaler)
        return
    height, width = resized_size(frame.shape[0], frame.shape[1], resize.short_side, scaler)
    if height < crop or width < crop:
        raise ValueError(
            f"a crop of {crop} does not fit into {height}x{width}; "
            f"short_side {resize.short_side} must not be smaller than the crop"
        )
    top, left = crop_offset(height, crop, resize.offset), crop_offset(width, crop, resize.offset)
    if scaler in _TORCH and (height, width) != frame.shape[:2]:
        down = _neighbours(frame.shape[0], height, top, crop)
        out[...] = _TORCH[scaler](frame, down, _neighbours(frame.shape[1], width, left, crop))
        return
    out[...] = scaled(frame, height, width, scaler)[top : top + crop, left : left + crop]


def scaled(frame: NDArray[np.uint8], height: int, width: int, scaler: Scaler) -> Pixels:
    """A frame uint8 [h, w, 3] at another size, as this scaler computes it."""
    if frame.shape[:2] == (height, width):
        return frame
    if scaler in _PILLOW:
        image = Image.fromarray(np.ascontiguousarray(frame))
        return np.asarray(image.resize((width, height), _PILLOW[scaler]))
    if scaler == "cv2_bilinear":
        return _cv2_bilinear(frame, height, width)
    if scaler in _ANTIALIASED:
        lines = _filtered(frame.transpose(1, 0, 2), width, _ANTIALIASED[scaler])
        return _filtered(lines.transpose(1, 0, 2), height, _ANTIALIASED[scaler])
    down = _neighbours(frame.shape[0], height, 0, height)
    return _TORCH[scaler](frame, down, _neighbours(frame.shape[1], width, 0, width))


@dataclass(frozen=True, slots=True)
class _Kernel:
    """How much a pixel counts by its distance in output pixels, and up to which."""

    share: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    reach: int


@dataclass(frozen=True, slots=True)
class _Neighbours:
    """For some output positions the two input ones, int64, and the second's weight, float32."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    weight: NDArray[np.float32]


def _neighbours(before: int, after: int, start: int, count: int) -> _Neighbours:
    """Of `count` output positions from `start`, of `after`, as torch's bilinear kernel has them."""
    # The kernel multiplies and subtracts with one rounding (FMA): in float64 nothing is rounded.
    # Two roundings shift a pixel by as much as 1.5e-5 of the whole range.
    step = np.float64(np.float32(before) / np.float32(after))
    at = np.maximum((np.arange(start, start + count) + 0.5) * step - 0.5, 0).astype(np.float32)
    first = np.minimum(at.astype(np.int64), before - 1)
    return _Neighbours(first, np.minimum(first + 1, before - 1), at - first.astype(np.float32))


def _torch_bilinear(
    frame: NDArray[np.uint8], down: _Neighbours, across: _Neighbours
) -> NDArray[np.float32]:
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


def _torch_bilinear_uint8(
    frame: NDArray[np.uint8], down: _Neighbours, across: _Neighbours
) -> NDArray[np.uint8]:
    """As torchvision's resize(antialias=False) of uint8: that of float32, rounded half to even.

    Where the rounding hangs on the last place, the sum is made in the order of torch's kernel.
    """
    found = _torch_bilinear(frame, down, across)
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


_DOUBT = np.float32(1e-3)
_TORCH: dict[str, Callable[[NDArray[np.uint8], _Neighbours, _Neighbours], Pixels]] = {
    "torch_bilinear": _torch_bilinear,
    "torch_bilinear_uint8": _torch_bilinear_uint8,
}


def _cv2_bilinear(frame: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """As OpenCV's resize(INTER_LINEAR) of uint8: weights of 11 bits, columns first, and of each
    row's share four bits and then sixteen are cut off before the sum is rounded.
    """
    above, below, up, down = _cv2_neighbours(frame.shape[0], height)
    left, right, west, east = _cv2_neighbours(frame.shape[1], width)
    # Across, a place beyond the outermost pixel is that pixel; down, both shares of it are cut off
    # one by one, as those of two rows are.
    single = left == right
    west, east = np.where(single, _CV2_ONE, west), np.where(single, 0, east)
    needed = np.union1d(above, below)
    rows = frame[needed].astype(np.int32)
    lines = rows[:, left] * west[:, None] + rows[:, right] * east[:, None] >> 4
    shares = (lines[np.searchsorted(needed, above)] * up[:, None, None] >> 16) + (
        lines[np.searchsorted(needed, below)] * down[:, None, None] >> 16
    )
    return (shares + 2 >> 2).astype(np.uint8)


_CV2_ONE = 1 << 11


def _cv2_neighbours(
    before: int, after: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """For each output position the two input ones, and the weights of both, of 2048 in all."""
    at = ((np.arange(after) + 0.5) * (before / after) - 0.5).astype(np.float32)
    first = np.floor(at).astype(np.int64)
    share = at - first.astype(np.float32)
    weights = [
        np.rint(part * np.float32(_CV2_ONE)).astype(np.int32)
        for part in (np.float32(1) - share, share)
    ]
    inside = [np.clip(place, 0, before - 1) for place in (first, first + 1)]
    return inside[0], inside[1], weights[0], weights[1]


def _triangle(x: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.maximum(1 - np.abs(x), 0)
    return found


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    # Keys' kernel with a = -1/2, as Pillow's.
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


_ANTIALIASED: dict[str, _Kernel] = {
    "torch_antialias_bilinear": _Kernel(_triangle, 1),
    "torch_antialias_bicubic": _Kernel(_cubic, 2),
}


def _filtered(rows: NDArray[np.uint8], after: int, kernel: _Kernel) -> NDArray[np.uint8]:
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
    before: int, after: int, kernel: _Kernel
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
