"""The words that decode and encode share: which frames a clip has, and how they are prepared.

Facts only, without cost: no weights, no torch, no decoder is needed to know them.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

SamplingKind = Literal[
    "uniform", "nearest", "first", "fps", "ffmpeg_fps", "clip4clip", "fast", "keyframes"
]
Aspect = Literal["coded", "display"]
Pad = Literal["repeat", "mask", "black"]
Placement = Literal["ends", "parts", "grid"]
Fit = Literal["crop", "squash", "square"]
Scaler = Literal[
    "bicubic",
    "bilinear",
    "lanczos",
    "cv2_bilinear",
    "torch_bilinear",
    "torch_bilinear_uint8",
    "torch_antialias_bilinear",
    "torch_antialias_bicubic",
]
Offset = Literal["round", "floor", "even", "halves"]
PixelType = Literal["uint8", "float32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Which frames of a window make a clip.

    kind:
        `uniform`: of n frames in presentation order the indices `int(linspace(0, n - 1, count))`.
        `nearest`: `int(k * n / count)`, which leaves the last frames out.
        `first`: the first `count`; of fewer, each as often as it takes, and the last less often.
        `fps`: a grid of one frame every 1/fps seconds, `uniform` over it where it is longer.
        `ffmpeg_fps`: the same grid, from the start that is asked for, with the frames that ffmpeg's
        filter of that name takes, the last whose time rounds to a point or before it; its first
        `count`.
        `clip4clip`: the extractor of the CLIP4Clip paper, with its own integer arithmetic.
        `fast`: each index of `uniform` moved within half its slot, (n - 1) / (count - 1) / 2
        frames, to the one that costs least to decode.
        `keyframes`: for each index of `uniform` the nearest keyframe of the window; `fast` where
        the window has none.
    count: frames in a clip, or in each of its windows.
    fps: frames per second of the grid of `fps`, `ffmpeg_fps` and `clip4clip`.
    pad: where there are fewer frames than count, `repeat` the last one, `mask`: zeros after
        normalisation that the encoder leaves out, or `black`: black frames that count.
    windows, seconds, tail: a clip of several views. `windows` windows of `seconds` each are spread
        evenly over the video or segment, the first at its start and the last so that it ends `tail`
        seconds before its end; a single one lies in the middle. Each has `count` frames by `kind`,
        and the encoder's vector is the mean over the windows. seconds None: one window, the whole.
    placement: `ends` is the rule above. `parts`, pytorchvideo's: what a window leaves of the video
        is cut into `windows` equal parts and a window begins with each, so that the last one ends
        before the video does. `grid`, torchvision's: the whole video becomes a grid of one frame
        every 1/fps seconds, of which each window is `count` neighbours; the first window begins
        with the grid and the last ends with it, the others begin on the point before their place.
    rule: the number of the rule by which the kind chose its frames, where that was another one than
        today's: of runs of before.
    """

    kind: SamplingKind
    count: int
    fps: float = 1.0
    pad: Pad = "repeat"
    windows: int = 1
    seconds: float | None = None
    tail: float = 0.0
    placement: Placement = "ends"
    rule: int | None = None

    @property
    def total(self) -> int:
        """Frames that cross from decode to encode for one clip."""
        return self.count * self.windows

    def starts(self, begin: float, end: float) -> list[float]:
        """Where the windows of [begin, end) seconds begin."""
        room = max(0.0, end - begin - (self.seconds or end - begin) - self.tail)
        if self.placement == "parts":
            return [begin + room * k / self.windows for k in range(self.windows)]
        if self.windows == 1:
            return [begin + room / 2]
        return [begin + room * k / (self.windows - 1) for k in range(self.windows)]

    def __post_init__(self) -> None:
        if self.windows < 1 or (self.windows > 1 and (self.seconds is None or self.pad == "mask")):
            raise ValueError("several windows need their length in seconds, and cannot be masked")
        if self.count < 1:
            raise ValueError(f"a clip has at least one frame, got count={self.count}")
        if self.fps <= 0:
            raise ValueError(f"fps must be above 0, got {self.fps}")
        if self.placement == "grid" and (self.kind != "fps" or self.seconds is None):
            raise ValueError("windows of a grid need kind fps, and their length in seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """How a decoded frame becomes the encoder's input of `crop` x `crop` pixels.

    fit: `crop` scales the short side to `short_side`, then crops the centre; `squash` scales both
        sides to `crop`; `square` crops the largest square from the centre, then scales it.
    interpolation: whose arithmetic scales. `bicubic`, `bilinear`, `lanczos`: Pillow's, which look
        at all pixels that an output pixel covers. `cv2_bilinear`: OpenCV's fixed-point one.
        `torch_bilinear`: torch's between four neighbours, whose float32 result is not rounded;
        `torch_bilinear_uint8`: the same, rounded.
        `torch_antialias_bilinear`, `torch_antialias_bicubic`: torch's of bytes, which torchvision
        and so transformers' video processors use; like Pillow's, with coarser weights.
    offset: of a crop whose margin is odd: rounded half to even, as torchvision does, or down, as
        transformers does. `even`: down to an even number, as ffmpeg's crop does where the colours
        of 2 x 2 pixels are stored as one; `halves`: half the frame less half the crop, each down.
    """

    short_side: int
    crop: int
    interpolation: Scaler = "bicubic"
    fit: Fit = "crop"
    offset: Offset = "round"

    @property
    def pixel_type(self) -> PixelType:
        """Of what comes out: 0 to 255 either way."""
        return "float32" if self.interpolation == "torch_bilinear" else "uint8"


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
        """Frames (those of all windows, one after the other), height, width, channels of a clip;
        RGB, 0 to 255.
        """
        return (self.sampling.total, self.resize.crop, self.resize.crop, 3)

    @property
    def tensor(self) -> tuple[tuple[int, int, int, int], PixelType]:
        """Shape and type of a clip's pixels on their way from decode to encode."""
        return self.shape, self.resize.pixel_type

    @property
    def nbytes(self) -> int:
        """Bytes of a clip's pixels."""
        return math.prod(self.shape) * (4 if self.resize.pixel_type == "float32" else 1)

    def describe(self) -> dict[str, Any]:
        """As plain values: part of the fingerprint, and what `run.json` shows.

        What came after the first release is left out at its default: fingerprints stay.
        """
        plain = asdict(self)
        for part, defaults in _LATER.items():
            for name, default in defaults.items():
                if plain[part][name] == default:
                    del plain[part][name]
        rule = plain["sampling"].pop("rule") or _RULES.get(self.sampling.kind, 1)
        if rule != 1:
            plain["sampling"]["rule"] = rule
        return plain

    @classmethod
    def parse(cls, description: dict[str, Any]) -> ClipSpec:
        """What `describe` described."""
        sampling = dict(description["sampling"])
        rule = sampling.pop("rule", 1)
        is_todays = rule == _RULES.get(sampling["kind"], 1)
        return cls(
            sampling=Sampling(**sampling, rule=None if is_todays else rule),
            resize=Resize(**description["resize"]),
            aspect=description["aspect"],
        )


_LATER: dict[str, dict[str, Any]] = {
    "sampling": {"windows": 1, "seconds": None, "tail": 0.0, "placement": "ends"},
    "resize": {"fit": "crop", "offset": "round"},
}

# Which frames they take has changed since: the runs of before were sampled otherwise.
_RULES: dict[SamplingKind, int] = {"fast": 2, "keyframes": 2}


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
