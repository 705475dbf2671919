"""The reference resize and crop of uint8 frames, exact to the last bit where it is integer.

Below decode and encode, which both need it: decode so that frames cross the object store at the
encoder's input size, encode for frames of any size that a caller hands in.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from vidembed.scaling import scaled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidembed.clips import Offset, Resize, Scaler

    Pixels = NDArray[Any]  # uint8, or float32 where a resize is computed in it


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
    out[...] = scaled(frame, height, width, scaler, (top, left, crop, crop))
