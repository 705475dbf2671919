"""What is known of a video before a single frame is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFacts:
    """Read from the container's packets, in presentation order.

    times: float64 [n], seconds from the first frame, ascending.
    pts: int64 [n], the container's own timestamps of the same frames; None where the container
        gives none or gives one twice, so that frames must be counted.
    fps: mean frames per second; duration_s: to the end of the last frame.
    stream_index: of the video stream that is meant, among all streams of the container.
    open_gop: some frames are shown before a keyframe that they follow in the file, so that they
        cannot be decoded after a seek to it.
    """

    times: NDArray[np.float64]
    pts: NDArray[np.int64] | None
    fps: float
    duration_s: float
    container: str
    codec: str
    stream_index: int
    open_gop: bool

    @property
    def n_frames(self) -> int:
        return len(self.times)

    def between(self, start: float, end: float) -> tuple[int, int]:
        """Indices [first, last) of the frames that begin in [start, end) seconds.

        A microsecond is forgiven: times are decimal fractions in a manifest and rationals in a
        container.
        """
        first = int(np.searchsorted(self.times, start - 1e-6, side="left"))
        last = int(np.searchsorted(self.times, end - 1e-6, side="left"))
        return first, last
