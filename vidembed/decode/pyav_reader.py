"""Frames through PyAV: only what the plan asks for is decoded, and damage is noticed.

libavcodec conceals what it cannot decode and says so only in its log; that is why it is read here.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

import av
import av.logging
import numpy as np

from vidembed.decode import references
from vidembed.decode.planner import Run, plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from vidembed.decode.container import Opened
    from vidembed.decode.facts import PacketIndex, VideoFacts

    Found = Iterator[tuple[int, NDArray[np.uint8] | None]]
    Pictures = Iterator[tuple[int, Any]]

# A stream that has had none so far has no pictures that can be left out, as good as always.
_JUDGED = 48
# Packets that are read and left alone are cheaper than a seek, up to about so many.
_WORTH_A_SEEK = 16

# Said after a seek into an open GOP, of pictures that were let go before we came.
_GONE_BEFORE = "mmco: unref short failure"

# Without a level no message is kept, and damage would pass unseen.
av.logging.set_level(av.logging.ERROR)
av.logging.set_skip_repeated(False)
# What is not captured goes to this logger; without a handler Python would print it.
logging.getLogger("libav").addHandler(logging.NullHandler())


class PyavReader:
    """Reads frames of one open video. `decoded` counts the packets that were decoded for it."""

    def __init__(self, video: Opened, facts: VideoFacts) -> None:
        self._video, self._facts = video, facts
        self._judge = references.judge(facts.codec, video.stream.codec_context.extradata)
        self._judged, self._some_idle = 0, False
        self.decoded = 0

    def read(self, wanted: NDArray[np.int64], *, square: bool = False) -> Found:
        """Yield (index, upright RGB uint8 [height, width, 3]) for the ascending distinct `wanted`,
        each once; (index, None) where a frame is damaged or missing. What is found at a second
        attempt only, or not at all, comes out of order. square: scale to square pixels.
        """
        index = self._facts.index
        stretch = self._facts.pixel_aspect if square else 1.0
        with av.logging.Capture() as messages:
            if index is None:
                pictures = self._counted(wanted, messages)
            else:
                pictures = self._planned(index, wanted, messages)
            for frame, picture in pictures:
                yield frame, None if picture is None else upright(picture, stretch)

    def _planned(
        self, index: PacketIndex, wanted: NDArray[np.int64], messages: list[Any]
    ) -> Pictures:
        cursor = _Cursor(self._video, index)
        runs = plan(index, wanted)
        retried = False
        for k, run in enumerate(runs):
            missing = set(run.wanted)
            for frame, picture in self._run(index, cursor, run, messages):
                missing.discard(frame)
                yield frame, picture
            if missing and run.start and not retried:
                # Damage, or a keyframe from which nothing can be decoded: only decoding from the
                # very beginning tells. In the second case no other keyframe is believed either.
                retried = True
                cured = len(missing)
                whole = Run(0, run.stop, tuple(sorted(missing)))
                for frame, picture in self._run(index, cursor, whole, messages, everything=True):
                    missing.discard(frame)
                    yield frame, picture
                if len(missing) < cured:
                    rest = _joined(runs[k + 1 :])
                    yield from ((frame, None) for frame in sorted(missing))
                    yield from self._all(index, cursor, rest, messages)
                    return
            yield from ((frame, None) for frame in sorted(missing))

    def _all(self, index: PacketIndex, cursor: _Cursor, run: Run, messages: list[Any]) -> Pictures:
        missing = set(run.wanted)
        if missing:
            for frame, picture in self._run(index, cursor, run, messages, everything=True):
                missing.discard(frame)
                yield frame, picture
        yield from ((frame, None) for frame in sorted(missing))

    def _run(
        self,
        index: PacketIndex,
        cursor: _Cursor,
        run: Run,
        messages: list[Any],
        *,
        everything: bool = False,
    ) -> Pictures:
        """The clean pictures among those that a run wants, as they come."""
        packets = index.position[list(run.wanted)]
        wanted = dict(zip(index.pts[packets].tolist(), run.wanted, strict=True))
        sieve = _Sieve(cursor.number, index, dict(wanted))
        self._video.stream.codec_context.flush_buffers()
        messages.clear()
        for at, packet in cursor.packets(run):
            if not everything and self._is_idle(packet, index, run, at, wanted):
                continue
            pictures = self._decode(packet, messages)
            yield from sieve.clean(pictures, at if self._complains(messages, run) else None)
            messages.clear()
        pictures = self._decode(None, messages)
        yield from sieve.clean(pictures, run.stop if self._complains(messages, run) else None)

    def _complains(self, messages: list[Any], run: Run) -> bool:
        if run.start and self._facts.open_gop:
            return any(_GONE_BEFORE not in text for _, _, text in messages)
        return bool(messages)

    def _is_idle(
        self, packet: Any, index: PacketIndex, run: Run, at: int, wanted: dict[int, int]
    ) -> bool:
        """Whether a packet holds a picture that neither the clip nor another picture wants."""
        if packet.pts in wanted or at == run.start:
            return False
        if packet.pts < index.pts[run.start] and index.keyframe[run.start]:
            # Shown before the keyframe, it may refer to what was before; what follows must not
            # refer to it.
            return True
        if index.lone is not None:
            return bool(index.lone[at])
        if self._judge is None:
            return False
        idle = self._judge.unreferenced(memoryview(packet))
        self._judged += 1
        self._some_idle = self._some_idle or idle
        if self._judged == _JUDGED and not self._some_idle:
            self._judge = None
        return idle

    def _decode(self, packet: Any, messages: list[Any]) -> list[Any]:
        self.decoded += packet is not None
        try:
            frames: list[Any] = self._video.stream.codec_context.decode(packet)
        except av.error.EOFError:
            return []
        except av.error.FFmpegError as error:
            messages.append((av.logging.ERROR, self._facts.codec, str(error)))
            return []
        return frames

    def _counted(self, wanted: NDArray[np.int64], messages: list[Any]) -> Pictures:
        """Without timestamps: everything from the beginning, counted in the order of showing."""
        targets = wanted.tolist()
        counted, damaged = 0, False
        self._video.rewind()
        for packet in _then_flush(self._video):
            for picture in self._decode(packet, messages):
                damaged = damaged and not (picture.key_frame and not picture.is_corrupt)
                damaged = damaged or picture.is_corrupt or bool(messages)
                if targets and counted == targets[0]:
                    yield targets.pop(0), None if damaged else picture
                counted += 1
            damaged = damaged or bool(messages)
            messages.clear()
            if not targets:
                break
        yield from ((frame, None) for frame in targets)


def _then_flush(video: Opened) -> Iterator[Any]:
    with contextlib.suppress(av.error.FFmpegError):
        yield from video.packets()
    yield None


def _joined(runs: list[Run]) -> Run:
    """One run from the very beginning that has all that these have."""
    stop = max((run.stop for run in runs), default=0)
    return Run(0, stop, tuple(frame for run in runs for frame in run.wanted))


class _Cursor:
    """Where in the file we are, in packets of the index."""

    def __init__(self, video: Opened, index: PacketIndex) -> None:
        self._video, self._index = video, index
        self.number = {pts: at for at, pts in enumerate(index.pts.tolist())}
        self._packets: Iterator[Any] = iter(())
        self._next = len(index.pts)

    def packets(self, run: Run) -> Iterator[tuple[int, Any]]:
        """(number, packet) of a run's packets; fewer where the file does not have them."""
        if not self._next <= run.start <= self._next + _WORTH_A_SEEK:
            self._move(run.start)
        with contextlib.suppress(av.error.FFmpegError):
            for packet in self._packets:
                at = self.number.get(packet.pts)
                if at is None:
                    continue
                self._next = at + 1
                if at >= run.start:
                    yield at, packet
                if at >= run.stop:
                    return

    def _move(self, to: int) -> None:
        """Move to a packet, or as little before it as the container allows."""
        index = self._index
        # MPEG-TS has no index: a seek there is a guess. By times of decoding most containers land
        # a keyframe too early; by times of showing MPEG-PS may land too late.
        if to and self._video.format != "mpegts":
            for clock in (index.pts[to], index.dts[to]):
                known = clock != np.iinfo(np.int64).min
                if known and self._seek(int(clock)) and self._peek() <= to:
                    return
        self._video.rewind()
        self._packets = self._video.packets()

    def _seek(self, clock: int) -> bool:
        try:
            self._video.container.seek(clock, stream=self._video.stream, backward=True)
        except av.error.FFmpegError:
            return False
        self._packets = self._video.packets()
        return True

    def _peek(self) -> int:
        """The number of the packet that comes next; it is kept."""
        with contextlib.suppress(av.error.FFmpegError):
            for packet in self._packets:
                at = self.number.get(packet.pts)
                if at is not None:
                    self._packets = _chain(packet, self._packets)
                    self._next = at
                    return at
        return len(self._index.pts)


def _chain(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


class _Sieve:
    """Lets the wanted pictures through, each once, and no damaged one."""

    def __init__(self, number: dict[int, int], index: PacketIndex, wanted: dict[int, int]) -> None:
        self._number, self._index, self._wanted = number, index, wanted
        self._complaints: list[int] = []

    def clean(self, pictures: list[Any], complaint: int | None) -> Pictures:
        """complaint: the packet at which the decoder complained, if it did."""
        if complaint is not None:
            self._complaints.append(complaint)
        for picture in pictures:
            if picture.is_corrupt and picture.pts in self._number:
                self._complaints.append(self._number[picture.pts])
            frame = self._wanted.get(picture.pts)
            if frame is not None and not self._is_damaged(picture):
                del self._wanted[picture.pts]
                yield frame, picture

    def _is_damaged(self, picture: Any) -> bool:
        """Damage goes on to all that follows in the order of decoding, until a keyframe; what is
        shown before that keyframe may still refer to the damage.
        """
        at = self._number[picture.pts]
        before = [c for c in self._complaints if c <= at]
        if not before:
            return False
        since = slice(max(before), at + 1)
        fresh = self._index.keyframe[since] & (self._index.pts[since] <= picture.pts)
        # The keyframe that was itself complained about is no fresh start.
        return not fresh[1:].any()


def upright(frame: Any, pixel_aspect: float = 1.0) -> NDArray[np.uint8]:
    """RGB uint8 [height, width, 3] of a decoded picture, turned as its display matrix says; its
    width is scaled by `pixel_aspect` first.
    """
    width = max(1, round(frame.width * pixel_aspect))
    # Bicubic as ffmpeg and decord have it: at odd sizes, and beyond 8 bits, it differs. PyAV's own
    # default of several threads costs ten times as much on small pictures.
    converted = frame.reformat(width=width, format="rgb24", interpolation="BICUBIC", threads=1)
    pixels: NDArray[np.uint8] = converted.to_ndarray()
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels
