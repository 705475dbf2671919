"""Decoded frames into the clips that want them, each prepared once a size."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from vidembed.decode.sampling import BLACK
from vidembed.decode.video import damaged
from vidembed.pixels import prepare_frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vidembed.clips import Resize
    from vidembed.pixels import Pixels


@dataclass(slots=True)
class Filled:
    """One clip: `pixels` uint8 or float32 [frames, height, width, 3], to hold the frames `indices`
    int64 [at most frames]. missing: those that cannot be had.
    """

    indices: NDArray[np.int64]
    pixels: Pixels
    resize: Resize
    missing: list[int] = field(default_factory=list)
    distinct: int = 0

    def __post_init__(self) -> None:
        self.distinct = len(set(self.indices.tolist()) - {BLACK})
        self.pixels[len(self.indices) :] = 0
        self.pixels[: len(self.indices)][self.indices == BLACK] = 0

    @property
    def clean(self) -> int:
        """How many of its distinct frames have come undamaged."""
        return self.distinct - len(self.missing)

    def mend(self) -> None:
        """Put the nearest frame where one is missing."""
        whole = np.flatnonzero(~np.isin(self.indices, [*self.missing, BLACK]))
        for t in np.flatnonzero(np.isin(self.indices, self.missing)):
            nearest = whole[np.argmin(np.abs(self.indices[whole] - self.indices[t]))]
            self.pixels[t] = self.pixels[nearest]


class Filling:
    """Fills clips, of one encoder or of several, from frames that come in any order.

    wanted: int64, the distinct frame indices of all clips, ascending. size: height and width of
    the frames.
    """

    def __init__(self, clips: Sequence[Filled]) -> None:
        self._clips = clips
        self._places: dict[int, list[tuple[int, int]]] = {}
        for c, clip in enumerate(clips):
            for t, index in enumerate(clip.indices.tolist()):
                if index != BLACK:
                    self._places.setdefault(index, []).append((c, t))
        self.wanted = np.array(sorted(self._places), np.int64)
        self.size = (0, 0)

    def take(self, index: int, frame: NDArray[np.uint8] | None) -> None:
        """One frame, or None for one that cannot be had."""
        places = self._places[index]
        if frame is None:
            for c in {c for c, _ in places}:
                self._clips[c].missing.append(index)
            return
        self.size = (frame.shape[0], frame.shape[1])
        prepared: dict[Resize, Pixels] = {}
        for c, t in places:
            clip = self._clips[c]
            if clip.resize in prepared:
                clip.pixels[t] = prepared[clip.resize]
            else:
                prepare_frame(frame, clip.resize, clip.pixels[t])
                prepared[clip.resize] = clip.pixels[t]

    def check(self, path: str, least: float) -> None:
        """Raise ClipError `Corrupt` once a clip cannot have this share of its frames any more."""
        for clip in self._clips:
            if clip.missing and (clip.clean < least * clip.distinct or not clip.clean):
                raise damaged(path, sorted(clip.missing), clip.distinct)

    def mend(self) -> None:
        """Put the nearest frame of the clip where one is missing."""
        for clip in self._clips:
            if clip.missing:
                clip.mend()
