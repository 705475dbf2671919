"""What is known of a video before a single frame is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketIndex:
    """The packets of a video stream in the order of decoding, of which frames are planned.

    pts, dts: int64 [packets], the container's timestamps; pts are distinct, dts may be missing
        (the smallest integer).
    frame: int64 [packets], the frame's place in presentation order; -1 for a packet that is only
        decoded, never shown (in front of an edit list's start).
    keyframe: bool [packets], decoding may begin here.
    lone: bool [packets], no other picture refers to this one; None where nobody looked.
    """

    pts: NDArray[np.int64]
    dts: NDArray[np.int64]
    frame: NDArray[np.int64]
    keyframe: NDArray[np.bool_]
    lone: NDArray[np.bool_] | None

    @property
    def position(self) -> NDArray[np.int64]:
        """int64 [frames]: the packet of each frame."""
        shown = np.flatnonzero(self.frame >= 0)
        position = np.empty(len(shown), np.int64)
        position[self.frame[shown]] = shown
        return position

    def starts(self, frames: NDArray[np.int64]) -> NDArray[np.int64]:
        """The packet from which to decode for each of these frames: the last keyframe that is not
        shown after it. Behind an open GOP's keyframe lie frames that are, and they need the one
        before.
        """
        keys = np.flatnonzero(self.keyframe)
        if not len(keys) or keys[0] != 0:
            keys = np.concatenate([[0], keys])
        packets = self.position[frames]
        at = np.searchsorted(keys, packets, side="right") - 1
        while (early := (at > 0) & (self.pts[keys[at]] > self.pts[packets])).any():
            at = at - early
        return keys[at]


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFacts:
    """Read from the container's packets, in presentation order.

    times: float64 [n], seconds from the first frame, ascending.
    fps: mean frames per second; duration_s: to the end of the last frame.
    stream_index: of the video stream that is meant, among all streams of the container.
    index: of its packets; None where the container gives no timestamps, or gives one twice, so
        that frames must be counted.
    pixel_aspect: width of a pixel over its height, as the file declares it; 1 where it does not, or
        where it is within 1 % of square or beyond belief.
    open_gop: some frames are shown before a keyframe that they follow in the file, so that they
        cannot be decoded after a seek to it.
    """

    times: NDArray[np.float64]
    fps: float
    duration_s: float
    container: str
    codec: str
    stream_index: int
    index: PacketIndex | None
    pixel_aspect: float
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
