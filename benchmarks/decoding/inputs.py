"""The videos that are measured: clips that somebody names, and generated ones.

Each generated frame carries its number as ten black or white squares in its upper left corner.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

COUNT = 12
FPS = 25
FRAMES = 10 * FPS
_BITS = 10
SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m4v"})
_SIZES = {"240p": (426, 240), "720p": (1280, 720), "1080p": (1920, 1080)}
_ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {"preset": "medium", "crf": "20"}),
    "hevc": ("libx265", {"preset": "fast", "crf": "22", "x265-params": "log-level=none"}),
    "vp9": ("libvpx-vp9", {"deadline": "good", "cpu-used": "4", "crf": "28", "row-mt": "1"}),
    "av1": ("libsvtav1", {"preset": "8", "crf": "30"}),
}


@dataclass(frozen=True, slots=True)
class Clip:
    """A video to be measured.

    width, height: pixels, upright. frames: how many its container shows, and keyframes among them.
    size: bytes. generated: whether its frames carry numbers. wanted: the 12 frames that everybody
    is asked for, `int(linspace(0, frames - 1, 12))`.
    """

    name: str
    path: str
    codec: str
    width: int
    height: int
    fps: float
    frames: int
    keyframes: int
    size: int
    generated: bool

    @property
    def wanted(self) -> NDArray[np.int64]:
        return np.linspace(0, self.frames - 1, COUNT).astype(np.int64)


def describe(path: Path, *, generated: bool, name: str | None = None) -> Clip:
    """From the packets. Raises an error of PyAV, or ValueError where it holds no video."""
    with av.open(str(path)) as container:
        stream: Any = container.streams.best("video")
        if stream is None:
            raise ValueError("no video stream")
        # What an edit list leaves out is marked to be discarded.
        shown = [p for p in container.demux(stream) if p.size and not p.is_discard]
        if not shown:
            raise ValueError("no frames")
        context = stream.codec_context
        size = (context.width, context.height)
        return Clip(
            name or path.stem,
            str(path),
            context.codec.canonical_name,
            *(size[::-1] if _is_turned(path) else size),
            float(stream.average_rate or 0),
            len(shown),
            sum(p.is_keyframe for p in shown),
            path.stat().st_size,
            generated,
        )


def _is_turned(path: Path) -> bool:
    """Whether a player turns its frames by a quarter."""
    with av.open(str(path)) as container:
        return next(container.decode(container.streams.best("video"))).rotation % 180 != 0


def folder(path: Path) -> tuple[list[Clip], dict[str, str]]:
    """The clips of a folder, and why others are none: by file name."""
    clips, refused = [], {}
    for file in sorted(path.iterdir()):
        if file.suffix.lower() in SUFFIXES:
            name = f"{path.name}/{file.name}"
            try:
                clips.append(describe(file, generated=False, name=name))
            except (av.error.FFmpegError, ValueError) as error:
                refused[name] = str(error)
    return clips, refused


def generate(cache: Path, *, short: bool) -> list[Clip]:
    """The generated clips, made where they are not yet."""
    wanted = [("h264", size, gop) for size in _SIZES for gop in (12, 48, 250)]
    wanted += [(codec, "720p", 48) for codec in ("hevc", "vp9", "av1")]
    if short:
        wanted = [("h264", "240p", 48), ("h264", "720p", 250), ("h264", "1080p", 48)]
        wanted += [("hevc", "720p", 48)]
    return draw(cache, wanted)


def draw(cache: Path, wanted: list[tuple[str, str, int]]) -> list[Clip]:
    """Clips by codec, size and frames a keyframe, made where they are not yet."""
    target = cache / "clips"
    target.mkdir(parents=True, exist_ok=True)
    clips = []
    for codec, size, gop in wanted:
        suffix = ".webm" if codec == "vp9" else ".mp4"
        path = target / f"{codec}-{size}-gop{gop}{suffix}"
        if not path.exists():
            print(f"generating {path.name}", flush=True)
            part = path.with_name("part-" + path.name)
            _write(part, codec, _SIZES[size], gop)
            part.rename(path)
        clips.append(describe(path, generated=True))
    return clips


def number(frame: NDArray[np.uint8]) -> int:
    """Which frame of a generated clip this is."""
    side = _side(frame.shape[0])
    inner = slice(side // 4, side - side // 4)
    squares = [frame[inner, k * side : (k + 1) * side][:, inner] for k in range(_BITS)]
    return sum(int(square.mean() > 127) << k for k, square in enumerate(squares))


def _side(height: int) -> int:
    return height // 20


def _write(path: Path, codec: str, size: tuple[int, int], gop: int) -> None:
    encoder, options = _ENCODERS[codec]
    # A short GOP with two B-frames in a row, the longer ones with three.
    b_frames = 2 if gop == 12 else 3
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(encoder, rate=FPS)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = gop
        if codec == "hevc":
            # A closed GOP, as streaming has it.
            params = f"{options['x265-params']}:keyint={gop}:bframes={b_frames}:open-gop=0"
            options = options | {"x265-params": params}
        elif codec == "h264":
            stream.codec_context.max_b_frames = b_frames
            options = options | {"bf": str(b_frames), "keyint_min": str(gop), "sc_threshold": "0"}
        stream.codec_context.options = options
        scene = _Scene(*size)
        for k in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(scene.frame(k), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    if hasattr(os, "sched_setscheduler"):
        # SVT-AV1, run by root, leaves the calling thread a real-time one, and all that it starts.
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


class _Scene:
    """A camera that pans and zooms over noise of all scales, shapes that move, grain: hard enough
    to compress that the bit rate is a film's, not a test card's.
    """

    def __init__(self, width: int, height: int) -> None:
        self._size = (width, height)
        rng = np.random.default_rng(width)
        wide, high = width * 2, height * 2
        canvas = np.zeros((high, wide, 3), np.float32)
        scale = 4
        while scale <= height:
            coarse = rng.normal(size=(high // scale + 2, wide // scale + 2, 3)).astype(np.float32)
            for c in range(3):
                layer = Image.fromarray(coarse[..., c]).resize(
                    (wide, high), Image.Resampling.BICUBIC
                )
                canvas[..., c] += np.asarray(layer) * scale**0.6
            scale *= 2
        canvas = (canvas - canvas.mean()) / canvas.std() * 45 + 120
        self._canvas = Image.fromarray(canvas.clip(0, 255).astype(np.uint8))
        self._grain = (rng.normal(size=(height + 64, width + 64, 1)) * 2.5).astype(np.int16)
        self._shapes = [(rng.uniform(0, 1, 6), rng.integers(0, 256, 3)) for _ in range(8)]

    def frame(self, k: int) -> NDArray[np.uint8]:
        width, height = self._size
        t = k / FRAMES * 2 * np.pi
        zoom = 1.2 + 0.25 * np.sin(t)
        wide, high = width * zoom, height * zoom
        left = (2 * width - wide) * (0.5 + 0.45 * np.sin(t + 1))
        top = (2 * height - high) * (0.5 + 0.45 * np.sin(2 * t))
        box = (left, top, left + wide, top + high)
        picture = self._canvas.resize(self._size, Image.Resampling.BILINEAR, box=box)
        self._draw_shapes(ImageDraw.Draw(picture), t)
        x, y = k * 37 % 64, k * 23 % 64
        grain = self._grain[y : y + height, x : x + width]
        pixels = (np.asarray(picture, np.int16) + grain).clip(0, 255).astype(np.uint8)
        side = _side(height)
        for bit in range(_BITS):
            pixels[:side, bit * side : (bit + 1) * side] = 235 if k >> bit & 1 else 20
        return pixels

    def _draw_shapes(self, draw: Any, t: float) -> None:
        width, height = self._size
        for (a, b, c, d, e, f), colour in self._shapes:
            x = width * (a + 0.3 * np.sin(t * (1 + int(3 * c)) + 6 * d))
            y = height * (0.15 + 0.8 * b + 0.2 * np.cos(t * (1 + int(3 * d)) + 6 * c))
            r = height * (0.03 + 0.09 * e)
            shape = draw.ellipse if f < 0.5 else draw.rectangle
            shape((x - r, y - r, x + r, y + r), fill=tuple(colour.tolist()))
