"""Open a container and find its video stream, or say what is wrong with the file."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING, Any

import av

from vidembed.access import check_regular
from vidembed.decode.boxes import boxes, segment_end
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


# Formats that can be trusted to go back to their first packet. Of others the first packets may be
# lost: MPEG-TS whose clock turns over, streams without a container.
_REWINDABLE = frozenset({"mov", "matroska"})


class Opened:
    """A video file that PyAV has open: the local one at `path`, or `file`, whose address `path` is
    then only named in messages.

    container, stream: PyAV's; format: the first of the container's names; data: the same bytes
    once more, to be read at will. in_place: they come over a network. Raises ClipError with the
    class of what is wrong.
    """

    container: Any
    stream: VideoStream

    def __init__(self, path: str, file: IO[bytes] | None = None) -> None:
        if file is None:
            _look_at(path)
        self.path, self._file = path, file
        self.in_place = file is not None
        self.data: IO[bytes] = open(path, "rb") if file is None else file  # noqa: SIM115
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        self.format: str = self.container.format.name.partition(",")[0]

    def close(self) -> None:
        if hasattr(self, "container"):
            self.container.close()
        if not self.in_place:
            self.data.close()

    def rewind(self) -> None:
        """To the first packet again, with a decoder that has seen nothing."""
        if self.format in _REWINDABLE:
            self.container.seek(0)
            return
        self.container.close()
        self._open()

    def packets(self) -> Iterator[Any]:
        """The video stream's packets that hold data, from where the container is.

        Raises PyAV's FFmpegError, also where a stream turns up that the header does not name.
        """
        try:
            for packet in self.container.demux(self.stream):
                if packet.size:
                    yield packet
        except IndexError as error:
            raise av.error.InvalidDataError(0, "a stream that the header does not name") from error

    def _open(self) -> None:
        self.container = _container(self.path, self._file)
        self.stream = _video_stream(self)
        context = self.stream.codec_context
        # One thread: the pool scales by processes, and messages stay beside their frame.
        context.thread_type = "NONE"
        context.thread_count = 1


def _container(path: str, file: IO[bytes] | None) -> Any:
    try:
        if file is not None:
            file.seek(0)
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


def _video_stream(video: Opened) -> VideoStream:
    """The stream that a player would show: the best one that is not cover art."""
    container, path = video.container, video.path
    streams = [s for s in container.streams.video if not _is_cover(s)]
    if not streams:
        if container.format.name.startswith("mov") and ends_early(video.data):
            raise ClipError("Truncated", f"{path}: its index (moov) is cut off")
        raise ClipError("NoVideoStream", f"{path}: no video stream ({_streams(container)})")
    best = container.streams.best("video")
    stream: VideoStream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise ClipError("Unsupported", f"{path}: no decoder for the codec of its video stream")
    return stream


def ends_early(file: IO[bytes]) -> bool:
    """Whether an ISO media or Matroska file ends before a part of it that it has begun."""
    size = file.seek(0, os.SEEK_END)
    kinds = (b"mdat", b"moof", b"moov")
    return any(box.end > size for box in boxes(file) if box.kind in kinds) or (
        segment_end(file) > size
    )


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
