"""Frames at another size, to the last bit as the library that an encoder's own code uses.

numpy and Pillow only: decode children scale too, and import neither torch nor OpenCV.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from vidembed.scaling import opencv, torch_antialias, torch_bilinear

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidembed.clips import Scaler

__all__ = ["scaled"]

_PILLOW = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}
_ANTIALIASED = {
    "torch_antialias_bilinear": torch_antialias.BILINEAR,
    "torch_antialias_bicubic": torch_antialias.BICUBIC,
}
_BILINEAR = ("torch_bilinear", "torch_bilinear_uint8")


def scaled(
    frame: NDArray[np.uint8],
    height: int,
    width: int,
    scaler: Scaler,
    window: tuple[int, int, int, int] | None = None,
) -> NDArray[Any]:
    """A frame uint8 [h, w, 3] at `height` x `width`, uint8 or (`torch_bilinear`) float32, 0 to 255.

    window: top, left, height and width of the part that is wanted of the result; None: all of it.
    """
    top, left, rows, columns = window or (0, 0, height, width)
    if scaler in _BILINEAR and frame.shape[:2] != (height, width):
        down = torch_bilinear.neighbours(frame.shape[0], height, top, rows)
        across = torch_bilinear.neighbours(frame.shape[1], width, left, columns)
        if scaler == "torch_bilinear":
            return torch_bilinear.exact(frame, down, across)
        return torch_bilinear.rounded(frame, down, across)
    if scaler in _PILLOW and frame.shape[:2] != (height, width):
        return _by_pillow(frame, (height, width), scaler, (left, columns))[top : top + rows]
    whole = _whole(frame, height, width, scaler)
    return whole[top : top + rows, left : left + columns]


def _by_pillow(
    frame: NDArray[np.uint8], size: tuple[int, int], scaler: Scaler, across: tuple[int, int]
) -> NDArray[np.uint8]:
    """`across`: the first column that is wanted, and how many are.

    Pillow scales across first and rounds, then down. What is cut off in between is not scaled
    down, and no bit is another for it. Its own `box` is of float32, and moves the filter.
    """
    (height, width), (left, columns) = size, across
    image, kernel = Image.fromarray(np.ascontiguousarray(frame)), _PILLOW[scaler]
    if columns < width:
        image = image.resize((width, image.height), kernel)
        image = image.crop((left, 0, left + columns, image.height))
    return np.asarray(image.resize((columns, height), kernel))


def _whole(frame: NDArray[np.uint8], height: int, width: int, scaler: Scaler) -> NDArray[np.uint8]:
    if frame.shape[:2] == (height, width):
        return frame
    if scaler == "cv2_bilinear":
        return opencv.resize(frame, height, width)
    if scaler in _ANTIALIASED:
        return torch_antialias.resize(frame, height, width, _ANTIALIASED[scaler])
    raise ValueError(f"no scaler {scaler!r}")
