"""One video to the frames of its clips: probe, sample, read with the decoder that is right."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import av.logging
import numpy as np

from vidembed import sources
from vidembed.clips import Sampling
from vidembed.decode import decord_reader, probe, pyav_reader
from vidembed.decode.sampling import sample
from vidembed.errors import ClipError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from vidembed.clips import Segmentation
    from vidembed.decode.facts import VideoFacts

Decoder = Literal["auto", "decord", "pyav"]

MAX_BYTES = 64 << 30
# Containers for which decord's frame index is right once its number of frames agrees with the
# packets'. It cannot read MPEG-TS, and misplaces the frames of AVI files with B-frames.
_DECORD_CONTAINERS = frozenset({"mov", "matroska"})


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """The frames of one segment: indices int64 [at most count], start and end in seconds."""

    start_s: float
    end_s: float
    indices: NDArray[np.int64]


def plan_clips(
    facts: VideoFacts,
    sampling: Sampling,
    segmentation: Segmentation,
    window: tuple[float | None, float | None],
) -> list[ClipPlan]:
    """The clips of a video, or of its part between `window`'s start and end in seconds.

    Raises ClipError `Empty` where the window lies outside the video or holds no frame.
    """
    start = max(0.0, window[0] or 0.0)
    end = facts.duration_s if window[1] is None else min(window[1], facts.duration_s)
    if start >= end:
        raise ClipError(
            "Empty",
            f"the window {start:g} to {window[1] if window[1] is not None else 'end'} s lies "
            f"outside the video of {facts.duration_s:.3f} s",
        )
    clips = []
    for begin, stop in segmentation.windows(start, end):
        first, last = facts.between(begin, stop)
        if first == last:
            # Shorter than a frame's time on screen: the frame that is showing.
            first = max(0, first - 1)
            last = first + 1
        clips.append(ClipPlan(begin, stop, sample(sampling, facts, first, last)))
    return clips


def read_indices(
    path: str, facts: VideoFacts, wanted: NDArray[np.int64], decoder: Decoder = "auto"
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield (index, upright RGB uint8 [height, width, 3]) for ascending distinct indices.

    `auto` is decord where it is proven right for the file, PyAV elsewhere; when decord stumbles,
    what is left is read by PyAV, whose word on what is wrong is final. Raises ClipError.
    """
    at = 0
    if decoder == "decord" or (decoder == "auto" and facts.container in _DECORD_CONTAINERS):
        try:
            with _complaints() as complained:
                for index, frame in decord_reader.read(path, facts, wanted):
                    if complained():
                        break
                    yield index, frame
                    at += 1
        except decord_reader.DecordDisagreesError as error:
            if decoder == "decord":
                raise ClipError("Unsupported", f"{path}: decord: {error}; try pyav") from error
        if decoder == "decord" and at < len(wanted):
            raise ClipError("Corrupt", f"{path}: decord met damaged data")
    if at < len(wanted):
        yield from pyav_reader.read(path, facts, wanted[at:])


@contextmanager
def local_copy(uri: str, max_bytes: int = MAX_BYTES) -> Iterator[str]:
    """The path of a local file with `uri`'s bytes; a remote one is fetched and removed again."""
    if sources.is_local(uri):
        yield sources.local_path(uri)
        return
    with tempfile.TemporaryDirectory(prefix="vidembed-") as folder:
        suffix = os.path.splitext(sources.display_name(uri))[1]
        path = os.path.join(folder, "video" + suffix)
        sources.fetch(uri, path, max_bytes)
        try:
            yield path
        except ClipError as error:
            # The user knows the address, not our copy's path.
            raise ClipError(error.kind, error.message.replace(path, uri)) from error


def read_frames(
    uri: str,
    count: int = 12,
    sampling: Literal["uniform", "fps", "clip4clip"] = "uniform",
    decoder: Decoder = "auto",
    *,
    fps: float = 1.0,
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Frames of a video file or address, upright, at their own size.

    Returns uint8 RGB [n, height, width, 3] and float64 [n], seconds from the first frame. n is
    `count`, or less where `clip4clip` finds fewer. Raises ClipError.

    It runs in this process: a file that hangs or crashes a decoder does so here. The job decodes
    in a child process that it can kill.
    """
    with local_copy(uri) as path:
        facts = probe.probe(path)
        pad: Literal["mask", "repeat"] = "mask" if sampling == "clip4clip" else "repeat"
        spec = Sampling(kind=sampling, count=count, fps=fps, pad=pad)
        indices = sample(spec, facts, 0, facts.n_frames)
        distinct, inverse = np.unique(indices, return_inverse=True)
        frames = [frame for _, frame in read_indices(path, facts, distinct, decoder)]
        return np.stack(frames)[inverse], facts.times[indices]


# A line of libavcodec's log; and one that is a complaint: by a codec, none of the harmless ones.
_LOG_LINE = re.compile(rb"\[\w+ @ 0x[0-9a-f]+\]")
_COMPLAINT = re.compile(
    rb"\[(?!in |out |swscaler |Parsed_|auto_)\w+ @ 0x[0-9a-f]+\] "
    rb"(?!Reinit context|Increasing reorder buffer|Video uses a non-standard)"
)


@contextmanager
def _complaints() -> Iterator[_Check]:
    """Whether libavcodec has complained since.

    decord hands out concealed or repeated frames for damaged data without a word; the only trace
    is the log line that its own libavcodec writes to file descriptor 2. Where decord was loaded
    before PyAV, the two share libavcodec's symbols, and PyAV catches the line instead.
    """
    saved = os.dup(2)
    with tempfile.TemporaryFile() as log, av.logging.Capture(local=False) as caught:
        os.dup2(log.fileno(), 2)
        check = _Check(log.fileno(), caught)
        try:
            yield check
        finally:
            os.dup2(saved, 2)
            check.pass_on(saved)
            os.close(saved)


class _Check:
    def __init__(self, log: int, caught: list[Any]) -> None:
        self._log, self._caught = log, caught

    def __call__(self) -> bool:
        return bool(self._caught) or bool(_COMPLAINT.search(self._text()))

    def pass_on(self, to: int) -> None:
        """What others of this process wrote meanwhile goes where they meant it to go."""
        lines = self._text().splitlines(keepends=True)
        if others := b"".join(line for line in lines if not _LOG_LINE.search(line)):
            os.write(to, others)

    def _text(self) -> bytes:
        size = os.fstat(self._log).st_size
        return os.pread(self._log, min(size, 1 << 20), 0) if size else b""
