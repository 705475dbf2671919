"""One video to the frames of its clips: open, plan, read with the decoder that was asked for."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Literal, TypeVar, cast

import numpy as np

from vidembed import sources
from vidembed.clips import Sampling
from vidembed.decode.complaints import complaints
from vidembed.decode.container import Opened
from vidembed.decode.index import NotInPlaceError, read_facts
from vidembed.decode.limits import Limits
from vidembed.decode.pyav_reader import PyavReader
from vidembed.decode.sampling import sample
from vidembed.errors import ClipError
from vidembed.ranged import NoRangesError, open_ranged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from vidembed.access import Access
    from vidembed.clips import Aspect, SamplingKind, Segmentation
    from vidembed.decode.facts import VideoFacts

    Frames = Iterator[tuple[int, NDArray[np.uint8]]]

Decoder = Literal["auto", "decord", "pyav", "torchcodec"]
T = TypeVar("T")


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


class Video:
    """An open video file. `path`: its path or address, for messages; `facts` are its own;
    `decoded` counts the packets decoded so far; `on_gpu`: whether NVDEC does it.
    """

    on_gpu = False

    def __init__(self, opened: Opened, limits: Limits, *, thorough: bool) -> None:
        self.path, self._is_local = opened.path, not opened.in_place
        self.facts = read_facts(opened, limits, thorough=thorough)
        self._reader = PyavReader(opened, self.facts)

    @property
    def decoded(self) -> int:
        return self._reader.decoded

    def read(
        self,
        wanted: NDArray[np.int64],
        decoder: Decoder = "auto",
        aspect: Aspect = "coded",
        device: Literal["cpu", "cuda"] = "cpu",
    ) -> Iterator[tuple[int, NDArray[np.uint8] | None]]:
        """Yield (index, upright RGB uint8 [height, width, 3]) for ascending distinct indices, each
        once; (index, None) for a frame that is damaged or missing. They come in order where the
        file is sound; otherwise what was found at a second attempt, or not at all, comes later.

        `auto` is PyAV, which decodes only what it must. device: of torchcodec. Raises ClipError
        `Unsupported` where another decoder does not see the frames that the container says there
        are, `Corrupt` where it meets damage.
        """
        if decoder in ("auto", "pyav"):
            yield from self._reader.read(wanted, square=aspect == "display")
            return
        if not self._is_local:
            raise ClipError("Unsupported", f"{self.path}: {decoder} reads local files; try pyav")
        if aspect == "display" and self.facts.pixel_aspect != 1:
            raise ClipError(
                "Unsupported", f"{self.path}: {decoder} keeps pixels as coded; try pyav"
            )
        read = self._decord if decoder == "decord" else self._torchcodec
        with complaints() as complained:
            for index, frame in read(wanted, device):
                if complained():
                    # From which frame on it does not say.
                    message = f"{self.path}: {decoder} met damaged data; try pyav"
                    raise ClipError("Corrupt", message)
                yield index, frame

    # These are imported where they are used: both lend their own libav to whatever comes after.

    def _decord(self, wanted: NDArray[np.int64], _device: str) -> Frames:
        from vidembed.decode import decord_reader

        try:
            yield from decord_reader.read(self.path, self.facts, wanted)
        except decord_reader.DecordDisagreesError as error:
            raise ClipError("Unsupported", f"{self.path}: decord: {error}; try pyav") from error

    def _torchcodec(self, wanted: NDArray[np.int64], device: str) -> Frames:
        from vidembed.decode import torchcodec_reader

        try:
            reader = torchcodec_reader.TorchcodecReader(self.path, self.facts, device)
            self.on_gpu = reader.device != "cpu"
            yield from reader.read(wanted)
        except torchcodec_reader.TorchcodecDisagreesError as error:
            raise ClipError("Unsupported", f"{self.path}: torchcodec: {error}; try pyav") from error


@contextmanager
def open_video(
    path: str,
    file: IO[bytes] | None = None,
    limits: Limits | None = None,
    *,
    thorough: bool = False,
) -> Iterator[Video]:
    """The local file at `path`, or `file`, whose address `path` is. Raises ClipError.

    thorough: look into every packet first, as `fast` sampling needs it, and decoders that seek by
    themselves. Raises NotInPlaceError where `file` would have to be read as a whole.
    """
    with closing(Opened(path, file)) as opened:
        yield Video(opened, limits or Limits(), thorough=thorough)


def probe(path: str) -> VideoFacts:
    """Facts of a local video file, from its index alone. Raises ClipError."""
    with open_video(path) as video:
        return video.facts


@dataclass(slots=True, kw_only=True)
class Visit:
    """How a video is opened, wherever it is.

    access: whose address it is; None where the user named it. thorough: see `open_video`; it takes
    a local file. `fetched` counts the bytes that came from a remote source, `waited` the seconds
    that it took; `state` tells what was there from what may be there later: see `sources.state`.
    """

    limits: Limits = field(default_factory=Limits)
    access: Access | None = None
    thorough: bool = False
    fetched: int = 0
    waited: float = 0.0
    state: str | None = None

    @classmethod
    def to(
        cls,
        samplings: Sequence[SamplingKind],
        decoder: Decoder,
        limits: Limits | None = None,
        access: Access | None = None,
    ) -> Visit:
        """As these samplings and this decoder need it."""
        thorough = "fast" in samplings or decoder not in ("auto", "pyav")
        return cls(limits=limits or Limits(), access=access, thorough=thorough)

    def of(self, uri: str, use: Callable[[Video], T]) -> T:
        """What `use` makes of the video at `uri`.

        A remote one is read in place where its index lets the wanted frames be found; `use` may
        then be called again, with a copy. Raises ClipError, also `Forbidden` and `TooLarge`.
        """
        if sources.is_local(uri):
            if self.access is not None:
                self.access.check(uri)
            self.state = sources.state(uri)
            return self._local(sources.local_path(uri), use)
        if not self.thorough:
            try:
                return self._in_place(uri, use)
            except (NoRangesError, NotInPlaceError):
                pass
        return self._copy(uri, use)

    def _local(self, path: str, use: Callable[[Video], T]) -> T:
        size = os.path.getsize(path) if os.path.isfile(path) else 0
        if size > self.limits.file_bytes:
            raise ClipError(
                "TooLarge", f"{path}: more than {self.limits.file_bytes:,} bytes (--max-gigabytes)"
            )
        with open_video(path, limits=self.limits, thorough=self.thorough) as video:
            return use(video)

    def _in_place(self, uri: str, use: Callable[[Video], T]) -> T:
        with open_ranged(uri, max_bytes=self.limits.file_bytes, access=self.access) as file:
            self.state = sources.remote_state(file.size, file.version)
            try:
                with open_video(file.name, cast("IO[bytes]", file), self.limits) as video:
                    return use(video)
            finally:
                self.fetched += file.fetched
                self.waited += file.waited

    def _copy(self, uri: str, use: Callable[[Video], T]) -> T:
        with tempfile.TemporaryDirectory(prefix="vidembed-") as folder:
            suffix = os.path.splitext(sources.display_name(uri))[1]
            path = os.path.join(folder, "video" + suffix)
            # Before it is copied: what comes in between is then seen as a change.
            self.state = self.state or sources.state(uri, self.access)
            began = time.monotonic()
            self.fetched += sources.fetch(uri, path, self.limits.file_bytes, self.access)
            self.waited += time.monotonic() - began
            try:
                return self._local(path, use)
            except ClipError as error:
                # The user knows the address, not our copy's path.
                shown = sources.shown(uri)
                raise ClipError(error.kind, error.message.replace(path, shown)) from error


def read_frames(
    uri: str,
    count: int = 12,
    sampling: Literal["uniform", "fps", "clip4clip", "fast", "keyframes"] = "uniform",
    decoder: Decoder = "auto",
    *,
    fps: float = 1.0,
    aspect: Aspect = "coded",
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Frames of a video file or address, upright, at their own size.

    Returns uint8 RGB [n, height, width, 3] and float64 [n], seconds from the first frame. n is
    `count`, or less where `clip4clip` finds fewer. aspect: `coded` gives the pixels as they are
    stored, as the encoders' official code does; `display` makes them square. Raises ClipError.

    It runs in this process: a file that hangs or crashes a decoder does so here. The job decodes
    in a child process that it can kill.
    """
    pad: Literal["mask", "repeat"] = "mask" if sampling == "clip4clip" else "repeat"
    spec = Sampling(kind=sampling, count=count, fps=fps, pad=pad)

    def read(video: Video) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        indices = sample(spec, video.facts, 0, video.facts.n_frames)
        distinct = np.unique(indices)
        frames: dict[int, NDArray[np.uint8]] = {}
        for index, frame in video.read(distinct, decoder, aspect):
            if frame is None:
                raise damaged(video.path, [index], len(distinct))
            frames[index] = frame
        return np.stack([frames[k] for k in indices.tolist()]), video.facts.times[indices]

    return Visit.to([sampling], decoder).of(uri, read)


def damaged(path: str, frames: list[int], wanted: int) -> ClipError:
    """The failure of a clip some of whose frames are damaged or missing."""
    return ClipError(
        "Corrupt",
        f"{path}: {len(frames)} of {wanted} frames cannot be decoded cleanly, the first is "
        f"frame {frames[0]} (--min-frames accepts clips with fewer)",
    )
