"""Real video files whose frames say which frame they are, and ways to damage them.

Each frame carries its number as 16 big black or white blocks in its centred square, so that the
number survives compression, resizing and a centre crop. A frame turned by 90 degrees does not
read: the blocks hold a checksum.
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
from PIL import Image

from tests.helpers.priority import kept_ordinary

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


# The encoder of each codec, where it is not named like the codec.
_ENCODERS = {
    "h264": "libx264",
    "hevc": "libx265",
    "mpeg2": "mpeg2video",
    "vp8": "libvpx",
    "vp9": "libvpx-vp9",
    "av1": "libsvtav1",
    "prores": "prores_ks",
}


def has_encoder(codec: str) -> bool:
    try:
        av.Codec(_ENCODERS.get(codec, codec), "w")
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
    stored: tuple[int, int] | None = None,
    sar: Fraction | None = None,
    times: Sequence[float] | None = None,
    start: float = 0,
    first: int = 0,
    extra_video: bool = False,
    audio: bool | float = False,
    seekable: bool = True,
    codec_options: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write frames `first`, `first` + 1, … to `path`, whose suffix says the container.

    size: width, height as shown. rotation: the display matrix turns what is stored by so many
    degrees. stored: width, height that what is drawn is squeezed into; sar: what the file says of a
    pixel's shape. times: seconds of each frame, for a variable frame rate. start: the container's
    clock at the first frame.
    extra_video: a second video stream, smaller and of other numbers. audio: a stream of silence
    beside it, of so many seconds. seekable: whether the writer may go back to fill in lengths.
    codec_options: of the encoder; options: of the container's writer.
    """
    rate = Fraction(fps)
    clock = Fraction(1, 1000) if times is not None else 1 / rate
    stored = stored or (size if rotation % 180 == 0 else size[::-1])
    with kept_ordinary(), _container(path, options or {}, seekable=seekable) as container:
        stream = _video_stream(container, codec, rate, gop, b_frames)
        stream.width, stream.height = stored
        stream.pix_fmt = pix_fmt
        stream.codec_context.options |= codec_options or {}
        stream.codec_context.time_base = clock
        if sar is not None:
            stream.codec_context.sample_aspect_ratio = sar
        if rotation:
            stream.set_display_rotation(rotation)
        other = None
        if extra_video:
            other = _video_stream(container, codec, rate, gop, 0)
            other.width, other.height, other.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("aac", rate=16000, layout="mono") if audio else None
        for k in range(frames):
            # The display matrix turns what is stored; stored is what the turn makes upright.
            pixels = np.rot90(numbered_frame(first + k, *size), -rotation // 90 % 4)
            frame = av.VideoFrame.from_ndarray(_squeezed(pixels, stored), format="rgb24")
            frame.pts = round((start + (k / rate if times is None else times[k])) / clock)
            frame.time_base = clock
            container.mux(stream.encode(frame))
            if other is not None:
                small = av.VideoFrame.from_ndarray(numbered_frame(1000 - k, 64, 48), format="rgb24")
                container.mux(other.encode(small))
        if sound is not None:
            _silence(container, sound, frames / float(fps) if audio is True else float(audio))
        for each in (stream, other, sound):
            if each is not None:
                container.mux(each.encode())
    return path


@contextmanager
def _container(path: Path, options: dict[str, str], *, seekable: bool):
    if seekable:
        with av.open(str(path), "w", options=options) as container:
            yield container
        return
    names = {".mkv": "matroska", ".mp4": "mp4", ".flv": "flv"}
    with (
        path.open("wb") as file,
        av.open(_Pipe(file.write), "w", format=names[path.suffix], options=options) as container,
    ):
        yield container


class _Pipe:
    """A file without `seek`, as PyAV sees it."""

    def __init__(self, write) -> None:
        self.write = write


def _squeezed(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if pixels.shape[1::-1] == size:
        return np.ascontiguousarray(pixels)
    return np.asarray(Image.fromarray(pixels).resize(size))


_OPTIONS = {
    "mpeg4": {"qscale": "4"},
    "mpeg2": {"qscale": "4"},
    "flv": {"qscale": "4"},
    "vp8": {"deadline": "realtime", "cpu-used": "8", "crf": "10", "b": "500k"},
    "vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "30"},
    "av1": {"preset": "12", "crf": "35", "svtav1-params": "lp=1"},
}


def _video_stream(container, codec: str, rate: Fraction, gop: int, b_frames: int):
    stream = container.add_stream(_ENCODERS.get(codec, codec), rate=rate)
    context = stream.codec_context
    context.gop_size = gop
    context.max_b_frames = b_frames
    context.thread_count = 1
    if codec == "h264":
        own = {"preset": "veryfast", "crf": "23", "bf": str(b_frames), "sc_threshold": "0"}
    elif codec == "hevc":
        words = f"log-level=none:pools=1:frame-threads=1:keyint={gop}:bframes={b_frames}"
        own = {"preset": "ultrafast", "crf": "23", "x265-params": words}
    else:
        own = dict(_OPTIONS.get(codec, {}))
    context.options = own
    return stream


def write_packed_avi(path: Path, frames: int) -> Path:
    """MPEG-4 with B-frames as DivX wrote it into AVI: a B-frame lies in one chunk with the frame
    that it follows in the file, and an empty frame stands in its place.
    """
    plain = write_video(path, frames=frames, codec="mpeg4", b_frames=1, codec_options=_STRICT_B)
    with av.open(str(plain)) as container:
        chunks = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    head, picture, rest = chunks[0].partition(_PICTURE)
    packed = [head + b"\0\0\1\xb2DivX503b1393p" + picture + rest]
    for at in range(1, len(chunks)):
        if _is_b(chunks[at]):
            packed[-1] += chunks[at]
            packed.append(_EMPTY_PICTURE)
        else:
            packed.append(chunks[at])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        container.start_encoding()
        for k, data in enumerate(packed):
            packet = av.Packet(data)
            packet.stream, packet.pts, packet.dts = stream, k, k
            packet.time_base = Fraction(1, 24)
            packet.is_keyframe = _PICTURE in data and data.split(_PICTURE)[1][0] >> 6 == 0
            container.mux(packet)
    return path


_PICTURE = b"\0\0\1\xb6"
# Coded as P, at no time of its own, "not coded"; at 24 frames a second the time takes five bits.
_EMPTY_PICTURE = _PICTURE + b"\x50\x4f"
_STRICT_B = {"b_strategy": "0"}


def _is_b(chunk: bytes) -> bool:
    return chunk.partition(_PICTURE)[2][0] >> 6 == 2


COLOURS = (
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 255),
    (0, 0, 0),
    (128, 128, 128),
    (200, 80, 40),
    (40, 120, 220),
)
# The weights of red and blue in luma, and what a file calls them.
_MATRICES = {"601": (0.299, 0.114, 5), "709": (0.2126, 0.0722, 1), "2020": (0.2627, 0.0593, 9)}


def write_colours(
    path: Path,
    matrix: str,
    *,
    full: bool,
    codec: str = "h264",
    pix_fmt: str = "yuv420p",
    tagged: bool = True,
) -> Path:
    """`COLOURS` in two rows, made YCbCr by the standards' own formulas; two frames of 160x120."""
    tag = _MATRICES[matrix][2]
    chroma_range, depth = (2 if full else 1), 10 if "10" in pix_fmt else 8
    planes = _planes(matrix, full=full, depth=depth)
    with kept_ordinary(), av.open(str(path), "w") as container:
        stream = _video_stream(container, codec, Fraction(24), 12, 0)
        stream.width, stream.height, stream.pix_fmt = 160, 120, pix_fmt
        context = stream.codec_context
        context.options |= {"qscale": "2"} if codec == "mpeg4" else {"crf": "5"}
        context.color_range = chroma_range if tagged or full else 0
        if tagged:
            context.colorspace = tag
        for _ in range(2):
            frame = av.VideoFrame.from_ndarray(planes, format=pix_fmt)
            frame.color_range = context.color_range
            if tagged:
                frame.colorspace = tag
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _planes(matrix: str, *, full: bool, depth: int) -> np.ndarray:
    """4:2:0, the three planes below one another, as PyAV takes them."""
    red, blue, _ = _MATRICES[matrix]
    most = (1 << depth) - 1
    scale = 1 << (depth - 8)
    luma, cb, cr = np.zeros((120, 160)), np.zeros((60, 80)), np.zeros((60, 80))
    for k, colour in enumerate(COLOURS):
        i, j = divmod(k, 4)
        r, g, b = (value / 255 for value in colour)
        y = red * r + (1 - red - blue) * g + blue * b
        u, v = (b - y) / (2 - 2 * blue), (r - y) / (2 - 2 * red)
        luma[i * 60 : i * 60 + 60, j * 40 : j * 40 + 40] = (
            y * most if full else (16 + 219 * y) * scale
        )
        for plane, value in ((cb, u), (cr, v)):
            plane[i * 30 : i * 30 + 30, j * 20 : j * 20 + 20] = 128 * scale + value * (
                most if full else 224 * scale
            )
    flat = np.concatenate([plane.ravel() for plane in (luma, cb, cr)])
    samples = np.clip(np.rint(flat), 0, most).astype(np.uint8 if depth == 8 else np.uint16)
    return samples.reshape(180, 160)


def drawn_colours(rgb: np.ndarray) -> np.ndarray:
    """The mean of each of `COLOURS`' patches, away from their edges."""
    return np.array(
        [
            rgb[i * 60 + 15 : i * 60 + 45, j * 40 + 10 : j * 40 + 30].reshape(-1, 3).mean(0)
            for i in range(2)
            for j in range(4)
        ]
    )


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


def write_heavy_video(path: Path, *, frames: int, gop: int, index_in_front: bool = True) -> Path:
    """Numbered frames under so much noise that a second of them has megabytes."""
    options = {"movflags": "faststart"} if index_in_front else {}
    noise = np.random.default_rng(5)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        stream.codec_context.gop_size = gop
        stream.codec_context.options = {"preset": "ultrafast", "crf": "12", "sc_threshold": "0"}
        for number in range(frames):
            pixels = numbered_frame(number, 640, 480).astype(np.int16)
            pixels += noise.integers(-60, 61, pixels.shape, np.int16)
            frame = av.VideoFrame.from_ndarray(pixels.clip(0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
