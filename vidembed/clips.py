"""The words that decode and encode share: which frames a clip has, and how they are prepared.

Facts only, without cost: no weights, no torch, no decoder is needed to know them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

SamplingKind = Literal["uniform", "fps", "clip4clip", "fast", "keyframes"]
Aspect = Literal["coded", "display"]
Interpolation = Literal["bicubic", "bilinear"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Which frames of a window make a clip.

    kind:
        `uniform`: of n frames in presentation order the indices `int(linspace(0, n - 1, count))`.
        `fps`: a grid of one frame every 1/fps seconds, `uniform` over it where it is longer.
        `clip4clip`: the extractor of the CLIP4Clip paper, with its own integer arithmetic.
        `fast`: each index of `uniform` moved within half its slot, (n - 1) / (count - 1) / 2
        frames, to the one that costs least to decode.
        `keyframes`: for each index of `uniform` the nearest keyframe of the window; `fast` where
        the window has none.
    count: frames in a clip.
    fps: frames per second of the grid of `fps` and `clip4clip`.
    pad: where there are fewer frames than count, `repeat` the last one, or `mask`: zeros after
        normalisation that the encoder leaves out.
    """

    kind: SamplingKind
    count: int
    fps: float = 1.0
    pad: Literal["repeat", "mask"] = "repeat"

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"a clip has at least one frame, got count={self.count}")
        if self.fps <= 0:
            raise ValueError(f"fps must be above 0, got {self.fps}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """How a decoded frame becomes the encoder's input: short side to `short_side` pixels with
    Pillow's `interpolation`, then a centre crop of `crop` x `crop`.

    The long side is `int(short_side * long / short)`; the crop's offset is rounded half to even,
    as torchvision does (Pillow-based processors that floor differ by one pixel at some sizes).
    """

    short_side: int
    crop: int
    interpolation: Interpolation = "bicubic"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSpec:
    """What an encoder wants to be given for one clip.

    aspect: `coded` takes pixels as they are stored, as the encoders' official code does; `display`
        makes them square first, where a file says that they are not (anamorphic video).
    """

    sampling: Sampling
    resize: Resize
    aspect: Aspect = "coded"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Frames, height, width, channels of a clip; uint8 RGB."""
        return (self.sampling.count, self.resize.crop, self.resize.crop, 3)

    def describe(self) -> dict[str, Any]:
        """As plain values: part of the fingerprint, and what `run.json` shows."""
        return asdict(self)

    @classmethod
    def parse(cls, description: dict[str, Any]) -> ClipSpec:
        """What `describe` described."""
        return cls(
            sampling=Sampling(**description["sampling"]),
            resize=Resize(**description["resize"]),
            aspect=description["aspect"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmentation:
    """How a video is cut into segments: none, or windows of `seconds` every `stride` seconds."""

    seconds: float | None = None
    stride: float | None = None

    def windows(self, start: float, end: float) -> list[tuple[float, float]]:
        """The segments of [start, end) in seconds, in order; always at least one.

        A segment starts every `stride` as long as at least half a segment is left, and the last
        one takes what remains, so that nothing is left out when stride <= seconds:

            |----|----|----|--    becomes    |----|----|------|
            |----|----|----|---   becomes    |----|----|----|---|
        """
        if self.seconds is None:
            return [(start, end)]
        stride = self.stride or self.seconds
        windows: list[tuple[float, float]] = []
        k = 0
        while k == 0 or end - (start + k * stride) >= self.seconds / 2:
            begin = start + k * stride
            windows.append((begin, min(begin + self.seconds, end)))
            k += 1
        if stride <= self.seconds:
            windows[-1] = (windows[-1][0], end)
        return windows


def segment_id(video_id: str, segment: int, segmentation: Segmentation) -> str:
    """The primary key of one row: `video_id`, or `video_id#k` where videos are cut."""
    return video_id if segmentation.seconds is None else f"{video_id}#{segment}"
