"""Decoded frames into the clips that want them, each prepared once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vidembed.decode.video import damaged
from vidembed.pixels import prepare_frame

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidembed.clips import ClipSpec


class Filling:
    """Fills `pixels` uint8 [clips, frames, height, width, 3] from frames that come in any order.

    wanted: int64, the distinct frame indices of all clips, ascending. clean: for each clip how
    many of its distinct frames have come undamaged. size: height and width of the frames.
    """

    def __init__(
        self, indices: list[NDArray[np.int64]], pixels: NDArray[np.uint8], spec: ClipSpec
    ) -> None:
        self._indices, self._pixels, self._resize = indices, pixels, spec.resize
        self._places: dict[int, list[tuple[int, int]]] = {}
        for c, clip in enumerate(indices):
            for t, index in enumerate(clip.tolist()):
                self._places.setdefault(index, []).append((c, t))
            pixels[c, len(clip) :] = 0
        self._distinct = [len(set(clip.tolist())) for clip in indices]
        self._missing: list[list[int]] = [[] for _ in indices]
        self.wanted = np.array(sorted(self._places), np.int64)
        self.size = (0, 0)

    def take(self, index: int, frame: NDArray[np.uint8] | None) -> None:
        """One frame, or None for one that cannot be had."""
        places = self._places[index]
        if frame is None:
            for clip in {c for c, _ in places}:
                self._missing[clip].append(index)
            return
        self.size = (frame.shape[0], frame.shape[1])
        (c0, t0), *more = places
        prepare_frame(frame, self._resize, self._pixels[c0, t0])
        for c, t in more:
            self._pixels[c, t] = self._pixels[c0, t0]

    def check(self, path: str, least: float) -> None:
        """Raise ClipError `Corrupt` once a clip cannot have this share of its frames any more."""
        for missing, distinct in zip(self._missing, self._distinct, strict=True):
            if missing and (distinct - len(missing) < least * distinct or len(missing) == distinct):
                raise damaged(path, sorted(missing), distinct)

    def mend(self) -> None:
        """Put the nearest frame of the clip where one is missing."""
        for c, missing in enumerate(self._missing):
            if not missing:
                continue
            clip = self._indices[c]
            whole = np.flatnonzero(~np.isin(clip, missing))
            for t in np.flatnonzero(np.isin(clip, missing)):
                nearest = whole[np.argmin(np.abs(clip[whole] - clip[t]))]
                self._pixels[c, t] = self._pixels[c, nearest]

    @property
    def clean(self) -> list[int]:
        return [d - len(m) for d, m in zip(self._distinct, self._missing, strict=True)]
