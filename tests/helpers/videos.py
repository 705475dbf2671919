"""Real video files whose frames say which frame they are, and ways to damage them.

Each frame carries its number as 16 big black or white blocks in its centred square, so that the
number survives compression, resizing and a centre crop. A frame turned by 90 degrees does not
read: the blocks hold a checksum.
"""

from __future__ import annotations

import io
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_GRID = 4
_NUMBER_BITS = 10


def numbered_frame(number: int, width: int = 160, height: int = 120) -> np.ndarray:
    """uint8 RGB [height, width, 3] that `frame_number` reads."""
    if not 0 <= number < 1 << _NUMBER_BITS:
        raise ValueError(f"a frame's number has {_NUMBER_BITS} bits, got {number}")
    word = number << 6 | _check(number)
    bits = [word >> k & 1 for k in range(_GRID * _GRID)]
    frame = np.full((height, width, 3), (90, 120, 150), np.uint8)
    for k, (rows, columns) in enumerate(_blocks(height, width)):
        frame[rows, columns] = 235 if bits[k] else 20
    return frame


def frame_number(rgb: np.ndarray) -> int:
    """The number of a frame of any size; -1 where the blocks do not add up."""
    word = 0
    for k, (rows, columns) in enumerate(_blocks(*rgb.shape[:2])):
        block = rgb[rows, columns]
        h, w = block.shape[:2]
        inside = block[h // 4 : h - h // 4, w // 4 : w - w // 4]
        word |= int(inside.mean() > 127) << k
    number = word >> 6
    return number if word & 63 == _check(number) else -1


def frame_numbers(frames: np.ndarray) -> list[int]:
    return [frame_number(frame) for frame in frames]


def _check(number: int) -> int:
    return (number * 47 + 21) % 64


def _blocks(height: int, width: int) -> list[tuple[slice, slice]]:
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    edges = [round(k * side / _GRID) for k in range(_GRID + 1)]
    return [
        (slice(top + edges[i], top + edges[i + 1]), slice(left + edges[j], left + edges[j + 1]))
        for i in range(_GRID)
        for j in range(_GRID)
    ]


_CODECS = {
    "h264": "libx264",
    "hevc": "libx265",
    "mpeg4": "mpeg4",
    "vp9": "libvpx-vp9",
    "av1": "libsvtav1",
}


def has_encoder(codec: str) -> bool:
    try:
        av.Codec(_CODECS[codec], "w")
    except ValueError:
        return False
    return True


def write_video(
    path: Path,
    *,
    frames: int = 30,
    codec: str = "h264",
    fps: int | Fraction = 24,
    size: tuple[int, int] = (160, 120),
    gop: int = 12,
    b_frames: int = 0,
    pix_fmt: str = "yuv420p",
    rotation: int = 0,
    times: Sequence[float] | None = None,
    first: int = 0,
    extra_video: bool = False,
    audio: bool = False,
    codec_options: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write frames `first`, `first` + 1, … to `path`, whose suffix says the container.

    size: width, height as shown. rotation: the display matrix turns what is stored by so many
    degrees. times: seconds of each frame, for a variable frame rate. extra_video: a second video
    stream, smaller and of other numbers. audio: a stream of silence beside it. codec_options: of
    the encoder; options: of the container's writer.
    """
    with av.open(str(path), "w", options=options or {}) as container:
        stream = _video_stream(container, codec, Fraction(fps), gop, b_frames)
        stream.width, stream.height = size if rotation % 180 == 0 else size[::-1]
        stream.pix_fmt = pix_fmt
        stream.codec_context.options |= codec_options or {}
        if rotation:
            stream.set_display_rotation(rotation)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        other = None
        if extra_video:
            other = _video_stream(container, codec, Fraction(fps), gop, 0)
            other.width, other.height, other.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("aac", rate=16000, layout="mono") if audio else None
        for k in range(frames):
            pixels = numbered_frame(first + k, *size)
            # The display matrix turns what is stored; stored is what the turn makes upright.
            stored = np.ascontiguousarray(np.rot90(pixels, -rotation // 90 % 4))
            pts = None if times is None else round(times[k] * 1000)
            container.mux(stream.encode(_frame(stored, pts)))
            if other is not None:
                container.mux(other.encode(_frame(numbered_frame(1000 - k, 64, 48), None)))
        if sound is not None:
            _silence(container, sound, frames / float(fps))
        for each in (stream, other, sound):
            if each is not None:
                container.mux(each.encode())
    return path


def _video_stream(container, codec: str, rate: Fraction, gop: int, b_frames: int):
    stream = container.add_stream(_CODECS[codec], rate=rate)
    stream.codec_context.gop_size = gop
    stream.codec_context.max_b_frames = b_frames
    stream.codec_context.thread_count = 1
    stream.codec_context.options = {
        "h264": {"preset": "veryfast", "crf": "23", "bf": str(b_frames), "sc_threshold": "0"},
        "hevc": {
            "preset": "ultrafast",
            "crf": "23",
            "x265-params": f"log-level=none:pools=1:frame-threads=1:keyint={gop}:"
            f"bframes={b_frames}",
        },
        "mpeg4": {"qscale": "4", "bf": str(b_frames)},
        "vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "30"},
        "av1": {"preset": "12", "crf": "35", "svtav1-params": "lp=1"},
    }[codec]
    return stream


def _frame(pixels: np.ndarray, pts: int | None):
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    if pts is not None:
        frame.pts, frame.time_base = pts, Fraction(1, 1000)
    return frame


def _silence(container, stream, seconds: float) -> None:
    for _ in range(max(1, int(seconds * 16000 / 1024))):
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))


def write_audio_only(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        _silence(container, stream, 1.0)
        container.mux(stream.encode())
    return path


def write_audio_with_cover(path: Path) -> Path:
    """A song with a picture, as players tag them: its only video stream is the cover."""
    picture = io.BytesIO()
    Image.fromarray(numbered_frame(7)).save(picture, "JPEG")
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=16000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 160, 120, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        container.start_encoding()
        packet = av.Packet(picture.getvalue())
        packet.stream, packet.pts, packet.dts, packet.time_base = cover, 0, 0, Fraction(1, 1)
        packet.is_keyframe = True
        container.mux(packet)
        _silence(container, sound, 1.0)
        container.mux(sound.encode())
    return path


def truncate(path: Path, share: float = 0.6) -> Path:
    """Cut the file off, as a broken upload does."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def flip_bytes(path: Path, share: float = 0.5, count: int = 600) -> Path:
    """Overwrite bytes in the middle of the media data (`mdat`), or of the file."""
    data = bytearray(path.read_bytes())
    begin, end = mdat(bytes(data))
    middle = begin + int((end - begin) * share)
    noise = np.random.default_rng(3).integers(0, 256, count, np.uint8).tobytes()
    stop = min(end, middle + count)
    data[middle:stop] = noise[: stop - middle]
    path.write_bytes(bytes(data))
    return path


def mdat(data: bytes) -> tuple[int, int]:
    """Where the media data of an MP4 begins and ends; the whole of any other file."""
    at = 0
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if kind == b"mdat":
            return at + 8, min(len(data), at + length)
        if length < 8:
            break
        at += length
    return 0, len(data)


def without_index(path: Path) -> Path:
    """Cut off before `moov`, as a recording whose camera lost power."""
    data = path.read_bytes()
    path.write_bytes(data[: mdat(data)[1]])
    return path
