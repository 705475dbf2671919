"""Frames through torchcodec's exact mode, on the processor or on NVDEC, for files it is right on.

torchcodec is an extra, and is imported when a file is read: torch costs 340 MB of memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from vidembed.errors import ClipError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from vidembed.decode.facts import VideoFacts

_BATCH = 16
# Containers that give each frame its time. In AVI it takes the time of decoding for that of
# showing, and in MPEG-TS a seek leads it anywhere.
_CONTAINERS = frozenset({"mov", "matroska"})
# Major versions of libavcodec that torchcodec is built for: ffmpeg 4 to 8.
_LIBAVCODEC = range(58, 63)
_log = logging.getLogger("vidembed.torchcodec")


class TorchcodecDisagreesError(Exception):
    """torchcodec cannot read this file, or sees other frames in it than its packets say."""


def read(
    path: str, facts: VideoFacts, wanted: NDArray[np.int64], device: str = "cpu"
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield (index, upright RGB uint8 [height, width, 3]) for the ascending distinct `wanted`.

    Raises TorchcodecDisagreesError before the first frame where number or times of its frames
    differ from the container's packets, and ClipError `Unsupported` where it is not installed.
    """
    yield from TorchcodecReader(path, facts, device).read(wanted)


class TorchcodecReader:
    """One open file.

    device: where it is decoded, `cpu` or `cuda`; not what was asked for where that is not to be
        had. fallback: why it is not, None where it is.
    """

    def __init__(self, path: str, facts: VideoFacts, device: str = "cpu") -> None:
        self._facts = facts
        self._decoder, self.fallback = _open(path, facts, device)
        self.device = "cpu" if self.fallback else device
        self._check_length()

    def read(self, wanted: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """As the function `read`; a frame is handed out once its own time has been found right."""
        for begin in range(0, len(wanted), _BATCH):
            indices = wanted[begin : begin + _BATCH]
            try:
                batch = self._decoder.get_frames_at(indices.tolist())
                frames = batch.data.cpu().numpy()
            except (RuntimeError, IndexError, ValueError) as error:
                raise TorchcodecDisagreesError(_first_line(error)) from error
            self._check_times(indices, batch.pts_seconds.cpu().numpy())
            yield from zip(indices.tolist(), frames, strict=True)

    def _check_length(self) -> None:
        if self._facts.container not in _CONTAINERS:
            raise TorchcodecDisagreesError(f"{self._facts.container}: it may misplace frames there")
        if self._facts.open_gop:
            raise TorchcodecDisagreesError("an open GOP, in front of whose end it may stop")
        found = len(self._decoder)
        if found != self._facts.n_frames:
            raise TorchcodecDisagreesError(
                f"{found} frames where the packets say {self._facts.n_frames}"
            )

    def _check_times(self, indices: NDArray[np.int64], seconds: NDArray[np.float64]) -> None:
        begin = self._decoder.metadata.begin_stream_seconds
        off = np.abs(seconds - begin - self._facts.times[indices]).max()
        # These are the times of what was decoded; half the shortest frame tells neighbours apart.
        if off > 0.5 * np.diff(self._facts.times).min(initial=1.0 / self._facts.fps):
            raise TorchcodecDisagreesError("its frame times differ from the packets'")


def _open(path: str, facts: VideoFacts, device: str) -> tuple[Any, str | None]:
    """The decoder, and why it is not on the asked-for device (None: it is)."""
    video_decoder = load(path)

    def opened(where: str) -> Any:
        try:
            # Exact: the approximate mode gives wrong frames where the rate varies.
            # One thread: the pool scales by processes.
            return video_decoder(
                path,
                stream_index=facts.stream_index,
                dimension_order="NHWC",
                num_ffmpeg_threads=1,
                device=where,
                seek_mode="exact",
            )
        except (RuntimeError, ValueError) as error:
            raise TorchcodecDisagreesError(_first_line(error)) from error

    if device == "cpu":
        return opened("cpu"), None
    try:
        decoder = opened(device)
    except TorchcodecDisagreesError as error:
        # No GPU, or a build without CUDA. Were the file to blame, the processor will say so.
        why = str(error)
    else:
        if not decoder.cpu_fallback:
            return decoder, None
        # It falls back by itself for what NVDEC does not know, but moves every frame to the GPU.
        why = str(decoder.cpu_fallback)
    decoder = opened("cpu")
    _say_once(facts.codec, why)
    return decoder, why


def load(path: str) -> Any:
    """torchcodec's VideoDecoder; `path` is named where it is missing. Raises ClipError.

    It must be loaded here and nowhere else, or it may crash in a process that has decord.
    """
    # What it conceals is told by libavcodec's log alone, which torchcodec silences unless told.
    os.environ.setdefault("TORCHCODEC_FFMPEG_LOG_LEVEL", "ERROR")
    # decord lends its own libraries' symbols to whatever is loaded: with it in the process, the
    # system's libavcodec would call decord's dav1d, and crash. Bound to its own, it does not.
    mode = os.RTLD_NOW | os.RTLD_LOCAL | getattr(os, "RTLD_DEEPBIND", 0)
    for version in _LIBAVCODEC:
        with contextlib.suppress(OSError):
            ctypes.CDLL(f"libavcodec.so.{version}", mode=mode)
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, OSError, RuntimeError) as error:
        raise ClipError(
            "Unsupported",
            f"{path}: torchcodec cannot be loaded ({_first_line(error)}): "
            "pip install 'vidembed[torchcodec]' and ffmpeg's libraries (apt install ffmpeg)",
        ) from error
    return VideoDecoder


_said: set[tuple[str, str]] = set()


def _say_once(codec: str, why: str) -> None:
    if (codec, why) not in _said:
        _said.add((codec, why))
        _log.warning("%s is decoded on the processor, not on the GPU: %s", codec, why)


def _first_line(error: Exception) -> str:
    """What an error says, without the place in C++ from which it says it."""
    lines = str(error).strip().splitlines()
    return re.sub(r"^.*\.cpp:\d+, ", "", lines[0]) if lines else type(error).__name__
