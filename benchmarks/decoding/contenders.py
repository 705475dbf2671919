"""The ways to get 12 frames out of a file. Each imports what it needs, and that alone, when built.

All return uint8 RGB [n, height, width, 3] at the video's own size, decoded by one thread.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from benchmarks.decoding.inputs import Clip

SAMPLINGS = ("uniform", "fast", "keyframes")
DECODERS = ("auto", "pyav", "decord", "torchcodec")
PEERS = ("decord", "PyAV loop", "torchcodec", "ffmpeg")


class Contender(Protocol):
    """start_up: CPU-seconds of each call that are its process's own start, to be subtracted."""

    start_up: float

    def __call__(self, clip: Clip) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The frames, and which ones they are said to be."""


def names(*, short: bool) -> list[str]:
    """vidembed in its ways, then the peers."""
    ours = [_ours(s, d) for s in SAMPLINGS for d in DECODERS if not short or d == "auto"]
    if short:
        ours += [_ours("uniform", d) for d in DECODERS[1:]]
    return ours + list(PEERS)


def _ours(sampling: str, decoder: str) -> str:
    return f"vidembed {sampling} {decoder}"


def build(name: str) -> Contender:
    """Raises ImportError, OSError or RuntimeError where it is not to be had here."""
    if name.startswith("vidembed "):
        _, sampling, decoder = name.split()
        return _Vidembed(sampling, decoder)
    maker: Callable[[], Contender] = {
        "decord": _Decord,
        "PyAV loop": _PyavLoop,
        "torchcodec": _Torchcodec,
        "ffmpeg": _Ffmpeg,
    }[name]
    return maker()


class _Vidembed:
    start_up = 0.0

    def __init__(self, sampling: str, decoder: str) -> None:
        from typing import get_args

        import vidembed
        from vidembed.decode import video

        if decoder not in get_args(video.Decoder):
            raise RuntimeError(f"this vidembed has no decoder {decoder}")
        if decoder == "torchcodec":
            from vidembed.decode import torchcodec_reader
            from vidembed.errors import ClipError

            try:
                torchcodec_reader.load("")
            except ClipError as error:
                raise RuntimeError(error.message) from error
        self._read_frames: Any = vidembed.read_frames
        self._sampling, self._decoder = sampling, decoder

    def __call__(self, clip: Clip) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        frames, times = self._read_frames(
            clip.path, count=len(clip.wanted), sampling=self._sampling, decoder=self._decoder
        )
        if self._sampling == "uniform":
            return frames, clip.wanted
        return frames, np.rint(times * clip.fps).astype(np.int64)


class _Decord:
    start_up = 0.0

    def __init__(self) -> None:
        import decord

        self._reader = decord.VideoReader

    def __call__(self, clip: Clip) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        reader = self._reader(clip.path, num_threads=1)
        return reader.get_batch(clip.wanted.tolist()).asnumpy(), clip.wanted


class _PyavLoop:
    """Decode from the start, keep the wanted frames, stop after the last."""

    start_up = 0.0

    def __init__(self) -> None:
        import av

        self._open = av.open

    def __call__(self, clip: Clip) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        wanted, places = np.unique(clip.wanted, return_inverse=True)
        keep, last = set(wanted.tolist()), int(wanted[-1])
        frames = []
        with self._open(clip.path) as container:
            stream = container.streams.best("video")
            stream.thread_type = "NONE"
            stream.codec_context.thread_count = 1
            for k, frame in enumerate(container.decode(stream)):
                if k in keep:
                    frames.append(frame.to_ndarray(format="rgb24"))
                if k == last:
                    break
        return np.stack(frames)[places], clip.wanted


class _Torchcodec:
    start_up = 0.0

    def __init__(self) -> None:
        from torchcodec.decoders import VideoDecoder

        self._decoder = VideoDecoder

    def __call__(self, clip: Clip) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        decoder = self._decoder(
            clip.path, num_ffmpeg_threads=1, seek_mode="exact", dimension_order="NHWC"
        )
        return decoder.get_frames_at(clip.wanted.tolist()).data.numpy(), clip.wanted


class _Ffmpeg:
    """The command: a filter selects the frames, and raw pictures come through a pipe."""

    def __init__(self) -> None:
        command = shutil.which("ffmpeg")
        if command is None:
            raise RuntimeError("no ffmpeg command (apt install ffmpeg)")
        self._command = command
        self.start_up = min(self._cost_of_nothing() for _ in range(9))

    def __call__(self, clip: Clip) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        wanted, places = np.unique(clip.wanted, return_inverse=True)
        which = "+".join(f"eq(n\\,{k})" for k in wanted)
        words = ["-v", "error", "-nostdin", "-threads", "1", "-i", clip.path]
        words += ["-filter_threads", "1", "-vf", f"select={which}"]
        words += f"-fps_mode passthrough -frames:v {len(wanted)} -threads 1".split()
        words += ["-pix_fmt", "rgb24", "-f", "rawvideo", "pipe:1"]
        run = subprocess.run([self._command, *words], stdout=subprocess.PIPE, check=True)
        pixels = np.frombuffer(run.stdout, np.uint8)
        shape = (len(wanted), clip.height, clip.width, 3)
        if pixels.size != np.prod(shape):
            raise ValueError(f"{pixels.size:,} bytes where {int(np.prod(shape)):,} were expected")
        return pixels.reshape(shape)[places], clip.wanted

    def _cost_of_nothing(self) -> float:
        before = cpu_seconds()
        subprocess.run([self._command, "-version"], stdout=subprocess.DEVNULL, check=True)
        return cpu_seconds() - before


def cpu_seconds() -> float:
    """Of this process, all its threads and the processes that it waited for; user and system."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
