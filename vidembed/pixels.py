"""The reference resize and crop of uint8 frames, with Pillow, exact to the last bit.

Below decode and encode, which both need it: decode so that frames cross the object store at the
encoder's input size, encode for frames of any size that a caller hands in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidembed.clips import Interpolation, Resize

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def resized_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Height and width after the short side becomes `short_side` pixels.

    >>> resized_size(240, 320, 224)
    (224, 298)
    """
    if height <= width:
        return short_side, max(1, int(short_side * width / height))
    return max(1, int(short_side * height / width)), short_side


def crop_offset(length: int, crop: int) -> int:
    """Where a centre crop begins: rounded half to even, as torchvision's CenterCrop does.

    >>> crop_offset(227, 224), crop_offset(229, 224)
    (2, 2)
    """
    return round((length - crop) / 2)


def prepare(frames: NDArray[np.uint8], resize: Resize) -> NDArray[np.uint8]:
    """Frames uint8 [n, height, width, 3] to uint8 [n, crop, crop, 3]."""
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
        raise ValueError(
            f"expected uint8 frames [n, height, width, 3], got {frames.dtype} {frames.shape}"
        )
    out = np.empty((len(frames), resize.crop, resize.crop, 3), np.uint8)
    for i, frame in enumerate(frames):
        prepare_frame(frame, resize, out[i])
    return out


def prepare_frame(frame: NDArray[np.uint8], resize: Resize, out: NDArray[np.uint8]) -> None:
    """One frame uint8 [height, width, 3] into `out` uint8 [crop, crop, 3]."""
    height, width = resized_size(frame.shape[0], frame.shape[1], resize.short_side)
    if height < resize.crop or width < resize.crop:
        raise ValueError(
            f"a crop of {resize.crop} does not fit into {height}x{width}; "
            f"short_side {resize.short_side} must not be smaller than the crop"
        )
    scaled = _scale(frame, height, width, resize.interpolation)
    top, left = crop_offset(height, resize.crop), crop_offset(width, resize.crop)
    out[...] = scaled[top : top + resize.crop, left : left + resize.crop]


def _scale(
    frame: NDArray[np.uint8], height: int, width: int, interpolation: Interpolation
) -> NDArray[np.uint8]:
    if frame.shape[:2] == (height, width):
        return frame
    image = Image.fromarray(np.ascontiguousarray(frame))
    return np.asarray(image.resize((width, height), _FILTERS[interpolation]))
