"""The facts of a video from its container: of which frames it consists, and when they are shown."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from vidembed.decode import mp4, references
from vidembed.decode.container import ends_early
from vidembed.decode.facts import PacketIndex, VideoFacts
from vidembed.errors import ClipError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    from vidembed.decode.container import Opened
    from vidembed.decode.limits import Limits

_UNKNOWN = np.iinfo(np.int64).min


class NotInPlaceError(Exception):
    """A remote file whose index cannot be had without reading it as a whole: copy it first."""


def read_facts(video: Opened, limits: Limits, *, thorough: bool) -> VideoFacts:
    """Facts of an open video. Decodes nothing, and leaves the container wherever it likes.

    thorough: look into every packet, for pictures that no other one refers to and for keyframes
    that are none. Raises ClipError, and NotInPlaceError.
    """
    stream, path = video.stream, video.path
    _refuse_giants(stream, path, limits)
    if thorough and video.in_place:
        raise NotInPlaceError
    packets = _from_moov(video, limits, thorough=thorough)
    if packets is None:
        if video.in_place:
            raise NotInPlaceError
        packets = _from_packets(video, limits, thorough=thorough)
    packets = packets.from_the_first_keyframe()
    time_base = float(stream.time_base or 0)
    fps = float(stream.average_rate or stream.guessed_rate or 0) or 25.0
    index = packets.index()
    shown = np.sort(packets.pts[packets.shown])
    if index is not None and time_base:
        times = (shown - shown[0]) * time_base
        last = packets.last_duration * time_base or 1.0 / fps
    else:
        times, last = np.arange(len(shown)) / fps, 1.0 / fps
    if times[-1] + last > limits.duration_s:
        raise ClipError(
            "TooLarge",
            f"{path}: {(times[-1] + last) / 3600:.1f} hours; at most "
            f"{limits.duration_s / 3600:g} (--max-hours)",
        )
    return VideoFacts(
        times=times.astype(np.float64),
        fps=fps,
        duration_s=float(times[-1] + last),
        container=video.format,
        codec=_codec(stream),
        stream_index=stream.index,
        index=index if time_base else None,
        pixel_aspect=_pixel_aspect(stream),
        open_gop=packets.open_gop,
    )


def _refuse_giants(stream: VideoStream, path: str, limits: Limits) -> None:
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > limits.pixels:
        raise ClipError(
            "TooLarge",
            f"{path}: {width}x{height}; at most {limits.pixels / 1e6:g} megapixels "
            "(--max-megapixels)",
        )


def _too_many(path: str, limits: Limits) -> ClipError:
    return ClipError("TooLarge", f"{path}: more than {limits.frames:,} frames (--max-video-frames)")


def _pixel_aspect(stream: VideoStream) -> float:
    ratio = float(stream.sample_aspect_ratio or 1)
    # Encoders round: 64:51 pixels are meant, 4095:4096 are an accident.
    return ratio if 0.25 <= ratio <= 4 and abs(ratio - 1) > 0.01 else 1.0


def _codec(stream: VideoStream) -> str:
    # Of the format, not of the decoder that happens to be built in (libdav1d for av1).
    return str(stream.codec_context.codec.canonical_name)


@dataclass(frozen=True, slots=True)
class _Packets:
    """In the order of decoding; see PacketIndex. trusted: whether the pts can be; entered: whether
    decoding can begin at every keyframe, as far as is known.
    """

    pts: NDArray[np.int64]
    dts: NDArray[np.int64]
    shown: NDArray[np.bool_]
    keyframe: NDArray[np.bool_]
    lone: NDArray[np.bool_] | None
    last_duration: int
    trusted: bool
    entered: bool = True

    def from_the_first_keyframe(self) -> _Packets:
        """Without the frames that nobody can decode: those in front of the first keyframe, where a
        recording begins in the middle of a stream.
        """
        keys = np.flatnonzero(self.keyframe)
        if not len(keys) or not self.trusted:
            return self
        after = np.arange(len(self.pts)) >= keys[0]
        return replace(self, shown=self.shown & after & (self.pts >= self.pts[keys[0]]))

    def index(self) -> PacketIndex | None:
        if not self.trusted or len(np.unique(self.pts)) < len(self.pts):
            return None
        frame = np.full(len(self.pts), -1, np.int64)
        shown = np.flatnonzero(self.shown)
        frame[shown[np.argsort(self.pts[shown], kind="stable")]] = np.arange(len(shown))
        return PacketIndex(
            pts=self.pts, dts=self.dts, frame=frame, keyframe=self.keyframe, lone=self.lone
        )

    @property
    def open_gop(self) -> bool:
        keys = np.where(self.keyframe, self.pts, _UNKNOWN)
        latest = np.maximum.accumulate(keys)
        return not self.entered or bool((self.pts < latest)[self.shown].any())


def _from_moov(video: Opened, limits: Limits, *, thorough: bool) -> _Packets | None:
    """What the packets would say, without a demuxer reading them, which costs twice as much where
    each is looked into, and far more where none is; None where that is not certain.
    """
    if video.format != "mov":
        return None
    stream = video.stream
    samples = mp4.read_samples(video.data, stream.id, limits.frames)
    if samples is None:
        return None
    end = video.data.seek(0, os.SEEK_END)
    missing = int((samples.offset + samples.size > end).sum())
    if missing:
        raise _cut(video.path, len(samples.size) - missing, len(samples.size))
    first = next(video.packets(), None)
    if first is None or not _is_first(first, samples, stream):
        video.rewind()
        return None
    lone, entered = _seen(video, samples) if thorough else (None, True)
    # The demuxer's clock differs by a constant: the edit list's, and one for negative shifts.
    return _Packets(
        pts=samples.cts + (first.pts - samples.cts[0]),
        dts=samples.dts + (first.dts - samples.dts[0]),
        shown=np.ones(len(samples.size), bool),
        keyframe=samples.sync,
        lone=lone,
        last_duration=samples.last_duration,
        trusted=True,
        entered=entered,
    )


def _seen(video: Opened, samples: mp4.Samples) -> tuple[NDArray[np.bool_] | None, bool]:
    """`lone` and `entered` of _Packets, from the bytes of each sample. Raises ClipError."""
    look = references.judge(_codec(video.stream), video.stream.codec_context.extradata)
    if look is None:
        return None, True
    descriptor, entered = video.data.fileno(), True
    lone = np.empty(len(samples.size), bool)
    places = zip(samples.size.tolist(), samples.offset.tolist(), samples.sync.tolist(), strict=True)
    for at, (size, offset, is_keyframe) in enumerate(places):
        data = memoryview(os.pread(descriptor, size, offset))
        if len(data) < size:
            raise _cut(video.path, at, len(lone))
        lone[at] = look.unreferenced(data)
        entered = entered and (not is_keyframe or look.is_entered(data))
    return lone, entered


def _is_first(packet: Any, samples: mp4.Samples, stream: VideoStream) -> bool:
    return (
        packet.pts is not None
        and packet.dts is not None
        and packet.pos == samples.offset[0]
        and packet.size == samples.size[0]
        and not packet.is_discard
        and len(stream.index_entries) == len(samples.size)
    )


def _from_packets(video: Opened, limits: Limits, *, thorough: bool) -> _Packets:
    stream, path = video.stream, video.path
    codec = _codec(stream)
    look = references.judge(codec, stream.codec_context.extradata) if thorough else None
    rows: list[tuple[int, int, bool, bool]] = []
    alone: list[bool] = []
    # AVI has no times of showing; what is made up there is in the order of decoding.
    trusted, entered = video.format != "avi", True
    duration, latest = 0, _UNKNOWN
    try:
        for packet in _whole(video):
            pts = packet.pts
            if pts is None:
                trusted, pts = False, len(rows)
            dts = packet.dts if packet.dts is not None else _UNKNOWN
            rows.append((pts, dts, not packet.is_discard, packet.is_keyframe))
            if look is not None:
                alone.append(look.unreferenced(memoryview(packet)))
                entered = entered and (
                    not packet.is_keyframe or look.is_entered(memoryview(packet))
                )
            if pts >= latest:
                latest, duration = pts, packet.duration or duration
            if len(rows) > limits.frames:
                raise _too_many(path, limits)
    except av.error.FFmpegError as error:
        raise ClipError(
            "Truncated", f"{path}: unreadable after {len(rows)} frames: {error.strerror}"
        ) from error
    table = np.array(rows, np.int64).reshape(-1, 4)
    shown = table[:, 2].astype(bool)
    if not shown.any():
        raise ClipError("Empty", f"{path}: its video stream has no frames")
    if _lacks_frames(video, len(rows)):
        raise _cut(path, len(rows), stream.frames)
    return _Packets(
        pts=table[:, 0],
        dts=table[:, 1],
        shown=shown,
        keyframe=table[:, 3].astype(bool),
        lone=np.array(alone, bool) if look is not None else None,
        last_duration=duration,
        trusted=trusted,
        entered=entered,
    )


def _whole(video: Opened) -> Iterator[Any]:
    """The packets, none of which may be cut off."""
    for packet in video.packets():
        if packet.is_corrupt:
            raise ClipError("Truncated", f"{video.path}: the data of a frame is cut off")
        yield packet


def _cut(path: str, found: int, declared: int) -> ClipError:
    return ClipError(
        "Truncated", f"{path}: the file ends early; {found} of {declared or '?'} frames are there"
    )


def _lacks_frames(video: Opened, found: int) -> bool:
    """Whether a file ends before its index says. Fewer packets alone do not tell: an edit list
    leaves some out. What reaches beyond the end of the file does.
    """
    declared = video.stream.frames
    return (not declared or found < declared) and ends_early(video.data)
