"""Open a container and find its video stream, or say what is wrong with the file."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING, Any

import av

from vidembed.access import check_regular
from vidembed.decode.boxes import boxes
from vidembed.errors import ClipError

if TYPE_CHECKING:
    from av.video.stream import VideoStream

# Containers that hold frames. Playlists and scripts (hls, dash, concat, image2 and their like) are
# left out on purpose: they make a decoder open other files that the manifest never named.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,obu,ivf,"
    "flv,asf,ogg,nut,mxf,rm,wtv,dv,gif,apng,y4m,yuv4mpegpipe,vob"
)
OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}


def open_container(path: str, file: IO[bytes] | None = None) -> Any:
    """A video file opened by PyAV: the local one at `path`, or `file`, whose address `path` is then
    only named in messages. Raises ClipError with the class of what is wrong.
    """
    if file is None:
        _look_at(path)
    try:
        return av.open(file or path, options=OPTIONS)
    except PermissionError as error:
        raise ClipError("Forbidden", f"{path}: {error.strerror}") from error
    except av.error.InvalidDataError as error:
        if _moov_is_missing(path, file):
            raise ClipError(
                "Truncated",
                f"{path}: an MP4 without its index (moov): the upload or recording was cut off",
            ) from error
        raise ClipError(
            "Unsupported", f"{path}: not a video container that the decoders know"
        ) from error
    except (av.error.FFmpegError, ValueError) as error:
        raise ClipError("Unsupported", f"{path}: cannot be opened: {error}") from error


def _look_at(path: str) -> None:
    try:
        size = os.stat(path).st_size
    except FileNotFoundError as error:
        raise ClipError("NotFound", f"{path}: no such file") from error
    except PermissionError as error:
        raise ClipError("Forbidden", f"{path}: {error.strerror}") from error
    except (OSError, ValueError) as error:
        raise ClipError("ReadFailed", f"{path}: {error}") from error
    if os.path.isdir(path):
        raise ClipError("Unsupported", f"{path}: a folder, not a video file")
    check_regular(path)
    if size == 0:
        raise ClipError("Empty", f"{path}: the file has 0 bytes")


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


def _moov_is_missing(path: str, file: IO[bytes] | None) -> bool:
    if file is None:
        with open(path, "rb") as local:
            return _moov_is_missing(path, local)
    kinds = [box.kind for box in boxes(file)]
    return bool(kinds) and kinds[0] in (b"ftyp", b"mdat", b"wide", b"free") and b"moov" not in kinds


def _is_cover(stream: VideoStream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _streams(container: Any) -> str:
    kinds = sorted({s.type for s in container.streams if s.type})
    return "it has " + ", ".join(kinds) if kinds else "it has no streams"
