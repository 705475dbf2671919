"""Frames in this process's own memory: in place of the files that a decoder's process and its
caller map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class OwnMemory:
    """As `vidembed.decode.shared.SharedFrames`, for one process. pixels: of the last request."""

    def writable(
        self, tensors: list[tuple[tuple[int, ...], str]]
    ) -> tuple[list[NDArray[Any]], bool]:
        self.pixels = [np.empty(shape, kind) for shape, kind in tensors]
        return self.pixels, False
