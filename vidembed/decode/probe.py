"""Read a container's packets without decoding: is it a video, and where are its frames?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from vidembed.decode.facts import VideoFacts
from vidembed.errors import ClipError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.video.stream import VideoStream

# Containers that hold frames. Playlists and scripts (hls, dash, concat, image2 and their like) are
# left out on purpose: they make a decoder open other files that the manifest never named.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,obu,ivf,"
    "flv,asf,ogg,nut,mxf,rm,wtv,dv,gif,apng,y4m,yuv4mpegpipe,vob"
)
OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}

MAX_FRAMES = 5_000_000
MAX_PIXELS = 8192 * 8192


def open_container(path: str) -> Any:
    """A local file opened by PyAV. Raises ClipError with the class of what is wrong."""
    try:
        size = os.stat(path).st_size
    except FileNotFoundError as error:
        raise ClipError("NotFound", f"{path}: no such file") from error
    except PermissionError as error:
        raise ClipError("Forbidden", f"{path}: {error.strerror}") from error
    except OSError as error:
        raise ClipError("ReadFailed", f"{path}: {error.strerror}") from error
    if os.path.isdir(path):
        raise ClipError("Unsupported", f"{path}: a folder, not a video file")
    if size == 0:
        raise ClipError("Empty", f"{path}: the file has 0 bytes")
    try:
        return av.open(path, options=OPTIONS)
    except PermissionError as error:
        raise ClipError("Forbidden", f"{path}: {error.strerror}") from error
    except av.error.InvalidDataError as error:
        if _moov_is_missing(path):
            raise ClipError(
                "Truncated",
                f"{path}: an MP4 without its index (moov): the upload or recording was cut off",
            ) from error
        raise ClipError(
            "Unsupported", f"{path}: not a video container that the decoders know"
        ) from error
    except (av.error.FFmpegError, ValueError) as error:
        raise ClipError("Unsupported", f"{path}: cannot be opened: {error}") from error


def video_stream(container: Any, path: str) -> VideoStream:
    """The stream that a player would show: the best one that is not cover art."""
    streams = [s for s in container.streams.video if not _is_cover(s)]
    if not streams:
        raise ClipError("NoVideoStream", f"{path}: no video stream ({_streams(container)})")
    best = container.streams.best("video")
    stream: VideoStream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise ClipError("Unsupported", f"{path}: no decoder for the codec of its video stream")
    return stream


def probe(path: str) -> VideoFacts:
    """Facts of a local video file, from its packets alone. Raises ClipError."""
    with open_container(path) as container:
        stream = video_stream(container, path)
        context = stream.codec_context
        if context.width * context.height > MAX_PIXELS:
            raise ClipError(
                "TooLarge", f"{path}: {context.width}x{context.height} is over {MAX_PIXELS} pixels"
            )
        packets = _packets(container, stream, path)
        pts, known = packets.pts, packets.known
        time_base = float(stream.time_base or 0)
        fps = float(stream.average_rate or stream.guessed_rate or 0) or 25.0
        times = (pts - pts[0]) * time_base if known and time_base else np.arange(len(pts)) / fps
        frame_s = packets.last_duration * time_base if known else 0.0
        return VideoFacts(
            times=times.astype(np.float64),
            pts=pts if known else None,
            fps=fps,
            duration_s=float(times[-1] + (frame_s or 1.0 / fps)),
            container=container.format.name.partition(",")[0],
            codec=context.name,
            stream_index=stream.index,
            open_gop=packets.open_gop,
        )


@dataclass(frozen=True, slots=True)
class _Packets:
    """pts: of the frames that will be shown, sorted; known: whether they are trustworthy as keys;
    last_duration: of the last one, in time base units, 0 unknown.
    """

    pts: np.ndarray[Any, np.dtype[np.int64]]
    known: bool
    last_duration: int
    open_gop: bool


def _packets(container: Any, stream: VideoStream, path: str) -> _Packets:
    times: list[int] = []
    known = True
    duration = 0
    open_gop = False
    keyframe: int | None = None
    try:
        for packet in _shown(container, stream, path):
            if packet.pts is None:
                known = False
            times.append(packet.pts if packet.pts is not None else len(times))
            duration = packet.duration or duration
            if packet.is_keyframe:
                keyframe = times[-1]
            open_gop = open_gop or (keyframe is not None and times[-1] < keyframe)
            if len(times) > MAX_FRAMES:
                raise ClipError("TooLarge", f"{path}: more than {MAX_FRAMES:,} frames")
    except av.error.FFmpegError as error:
        raise ClipError(
            "Truncated", f"{path}: unreadable after {len(times)} frames: {error.strerror}"
        ) from error
    if not times:
        raise ClipError("Empty", f"{path}: its video stream has no frames")
    declared = stream.frames
    if container.format.name.startswith("mov") and _is_cut(path, declared, len(times)):
        raise ClipError(
            "Truncated", f"{path}: {len(times)} of {declared} declared frames are there"
        )
    pts = np.sort(np.array(times, np.int64))
    if len(pts) > 1 and not (np.diff(pts) > 0).all():
        known = False
    return _Packets(pts, known, duration, open_gop)


def _shown(container: Any, stream: VideoStream, path: str) -> Iterator[Any]:
    """The packets of frames that will be shown, as the file has them: in the order of decoding."""
    for packet in container.demux(stream):
        # Without bytes: the flush. To be discarded: before an edit list's start.
        if packet.size and not packet.is_discard:
            if packet.is_corrupt:
                raise ClipError("Truncated", f"{path}: the data of a frame is cut off")
            yield packet


def _is_cut(path: str, declared: int, found: int) -> bool:
    """Whether a file ends before its index says. Fewer packets alone do not tell: an edit list
    leaves some out. The media data box that reaches beyond the end of the file does.
    """
    if not declared or found >= declared:
        return False
    size = os.path.getsize(path)
    return any(end > size for kind, _, end in _boxes(path) if kind == b"mdat")


def _boxes(path: str) -> list[tuple[bytes, int, int]]:
    """The top-level boxes of an ISO media file: kind, start, end (bytes)."""
    found: list[tuple[bytes, int, int]] = []
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        position = 0
        while position + 8 <= size and len(found) < 4096:
            file.seek(position)
            head = file.read(16)
            length, kind = int.from_bytes(head[:4], "big"), head[4:8]
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            elif length == 0:
                length = size - position
            if length < 8:
                break
            found.append((kind, position, position + length))
            position += length
    return found


def _moov_is_missing(path: str) -> bool:
    kinds = [kind for kind, _, _ in _boxes(path)]
    return bool(kinds) and kinds[0] in (b"ftyp", b"mdat", b"wide", b"free") and b"moov" not in kinds


def _is_cover(stream: VideoStream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _streams(container: Any) -> str:
    kinds = sorted({s.type for s in container.streams if s.type})
    return "it has " + ", ".join(kinds) if kinds else "it has no streams"
