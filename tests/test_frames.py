"""The right frame for every index, over the ways in which the world writes videos.

Each frame carries its number, so a wrong frame is a wrong number; and whatever is asked for with
it, a frame has the pixels that it has where every frame is decoded one after the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation
from PIL import Image

import vidembed
from tests.helpers import boxes
from tests.helpers.decoding import read_indices
from tests.helpers.videos import (
    COLOURS,
    drawn_colours,
    frame_number,
    frame_numbers,
    has_encoder,
    write_colours,
    write_packed_avi,
    write_video,
)
from vidembed.decode.video import probe
from vidembed.errors import ClipError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

N = 36
IRREGULAR = [0.0, 0.04, 0.2, 0.24, 0.5, 0.52, 1.0, 1.5, 1.54, 2.0, 2.1, 2.2, 2.25, 3.0]
DECODERS = ["auto", "pyav", "decord"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """given: to `write_video`. then: what is done to the file. numbers: the frames that are shown,
    where not all are. shape: height, width of a frame as it is stored, upright.
    """

    given: dict[str, Any] = field(default_factory=dict)
    then: Callable[[Path], object] | None = None
    numbers: Sequence[int] | None = None
    shape: tuple[int, int] = (120, 160)


def packed(path: Path) -> None:
    write_packed_avi(path, N)


def case(then=None, numbers=None, shape=(120, 160), **given) -> Case:
    return Case(given=given, then=then, numbers=numbers, shape=shape)


def x264(**words) -> dict[str, str]:
    return {"x264-params": ":".join(f"{k.replace('_', '-')}={v}" for k, v in words.items())}


def x265(words: str) -> dict[str, str]:
    return {"x265-params": f"log-level=none:pools=1:frame-threads=1:{words}"}


def edited(*segments):
    return lambda path: boxes.edit(path, segments, fps=24)


PYRAMID = x264(b_pyramid="normal", b_adapt=0, ref=4)
OPEN = x264(open_gop=1)
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
ALTERNATE = {"deadline": "good", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "16"}
WIDE = Fraction(4, 3)
SMALL = (160, 120)
SHARP = {"movie_timescale": "24000"}

CASES = {
    # H.264: what refers to what
    "h264.mp4": case(),
    "h264-b.mp4": case(b_frames=2),
    "h264-b-pyramid.mp4": case(b_frames=7, gop=48, codec_options=PYRAMID),
    "h264-b-pyramid-strict.mkv": case(
        b_frames=5, gop=24, codec_options=x264(b_pyramid="strict", b_adapt=0)
    ),
    "h264-b-adaptive.mp4": case(b_frames=5, gop=250, codec_options=x264(b_adapt=2)),
    "h264-b-no-pyramid.mp4": case(b_frames=3, codec_options=x264(b_pyramid="none", b_adapt=0)),
    "h264-one-gop.mp4": case(gop=250, b_frames=2),
    "h264-gop-48.mkv": case(gop=48, frames=60, b_frames=3),
    "h264-intra.mp4": case(gop=1),
    "h264-open-gop.mp4": case(b_frames=2, codec_options=OPEN),
    "h264-open-gop-short.mkv": case(b_frames=3, gop=5, codec_options=OPEN),
    "h264-intra-refresh.mp4": case(
        gop=12, b_frames=2, codec_options=x264(intra_refresh=1, b_pyramid="none")
    ),
    "h264-intra-refresh.mkv": case(gop=10, codec_options=x264(intra_refresh=1)),
    "h264-baseline.mp4": case(codec_options={"profile": "baseline"}),
    "h264-slices.mp4": case(b_frames=2, codec_options=x264(slices=4)),
    "h264-weighted.mp4": case(b_frames=3, gop=48, codec_options=x264(weightp=2, weightb=1)),
    "h264-many-references.mp4": case(b_frames=3, gop=48, codec_options=x264(ref=8)),
    "h264-interlaced.mp4": case(size=(160, 128), shape=(128, 160), codec_options=x264(tff=1)),
    "h264-interlaced-b.ts": case(
        size=(160, 128), shape=(128, 160), b_frames=2, codec_options=x264(bff=1)
    ),
    "h264-delimiters.mp4": case(b_frames=2, codec_options=x264(aud=1, repeat_headers=1)),
    # H.264: kinds of pixels
    "h264-10bit.mp4": case(pix_fmt="yuv420p10le", b_frames=2),
    "h264-422.mp4": case(pix_fmt="yuv422p"),
    "h264-444.mp4": case(pix_fmt="yuv444p", b_frames=2),
    "h264-444-odd.mp4": case(pix_fmt="yuv444p", size=(161, 119), shape=(119, 161)),
    "h264-full-range.mp4": case(pix_fmt="yuvj420p"),
    "h264-grey.mkv": case(pix_fmt="gray"),
    # H.264: containers
    "h264-b.mov": case(b_frames=2),
    "h264-b.mkv": case(b_frames=3),
    "h264.avi": case(),
    "h264-b.avi": case(b_frames=2),
    "h264-b.ts": case(b_frames=2),
    "h264-one-gop.ts": case(b_frames=2, gop=250),
    "h264-b.flv": case(b_frames=2),
    "h264-b.h264": case(b_frames=2, fps=25),
    "h264.nut": case(b_frames=2),
    "h264-29.97.mov": case(fps=Fraction(30000, 1001)),
    "h264-faststart.mp4": case(b_frames=2, options={"movflags": "faststart"}),
    "h264-fragmented.mp4": case(b_frames=2, options=FRAGMENTS),
    "h264-fragmented-base.mp4": case(
        b_frames=2, options={"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    ),
    "h264-fragmented-after-moov.mp4": case(b_frames=2, options={"movflags": "frag_keyframe"}),
    "h264-fragmented-every-frame.mp4": case(
        b_frames=2, options={"movflags": "frag_every_frame+empty_moov"}
    ),
    "h264-fragmented-delayed.mp4": case(
        b_frames=2, options={"movflags": "frag_keyframe+delay_moov+dash"}
    ),
    "h264-negative-offsets.mp4": case(b_frames=2, options={"movflags": "negative_cts_offsets"}),
    "h264-long-offsets.mp4": case(boxes.with_long_offsets, b_frames=2),
    "h264-compact-sizes.mp4": case(boxes.with_compact_sizes, b_frames=2),
    "h264-packed-index.mov": case(boxes.with_packed_index, b_frames=2),
    "h264-long-media-box.mp4": case(boxes.with_long_media_box, b_frames=2),
    "h264-open-media-box.mp4": case(
        boxes.with_open_media_box, b_frames=2, options={"movflags": "faststart"}
    ),
    "h264-free-boxes.mp4": case(boxes.with_free_boxes, b_frames=2),
    "h264-piped.mkv": case(b_frames=2, seekable=False),
    "h264-piped.flv": case(b_frames=2, seekable=False),
    "h264-live.mkv": case(b_frames=2, seekable=False, options={"live": "1"}),
    # Other codecs
    "hevc.mp4": case(codec="hevc"),
    "hevc-10bit.mkv": case(codec="hevc", pix_fmt="yuv420p10le", b_frames=2),
    "hevc-pyramid.mp4": case(
        codec="hevc", codec_options=x265("keyint=24:bframes=6:b-adapt=0:rc-lookahead=20")
    ),
    "hevc-open-gop.mp4": case(codec="hevc", b_frames=4, gop=5),
    "hevc-open-gop.mkv": case(codec="hevc", b_frames=2),
    "hevc-closed-gop.mp4": case(
        codec="hevc", codec_options=x265("keyint=12:bframes=3:no-open-gop=1")
    ),
    "hevc-layers.mp4": case(
        codec="hevc", codec_options=x265("keyint=24:bframes=4:temporal-layers=2")
    ),
    "hevc-b.ts": case(codec="hevc", b_frames=2),
    "hevc.hevc": case(codec="hevc", b_frames=2, fps=25),
    "vp9.webm": case(codec="vp9"),
    "vp9-one-gop.mkv": case(codec="vp9", gop=250),
    "vp9-hidden-frames.webm": case(codec="vp9", gop=24, frames=48, codec_options=ALTERNATE),
    "vp9-odd.webm": case(codec="vp9", size=(161, 119), shape=(119, 161)),
    "vp9.mp4": case(codec="vp9"),
    "vp8.webm": case(codec="vp8"),
    "vp8-hidden-frames.webm": case(codec="vp8", gop=24, frames=48, codec_options=ALTERNATE),
    "av1.mkv": case(codec="av1"),
    "av1.mp4": case(codec="av1", gop=24),
    "av1-10bit.mp4": case(codec="av1", pix_fmt="yuv420p10le"),
    "av1.ivf": case(codec="av1"),
    "mpeg4.mp4": case(codec="mpeg4"),
    "mpeg4-b.mp4": case(codec="mpeg4", b_frames=2, gop=5),
    "mpeg4.avi": case(codec="mpeg4"),
    "mpeg4-b.avi": case(codec="mpeg4", b_frames=2),
    "mpeg4-b-packed.avi": case(packed, codec="mpeg4"),
    "mpeg2.ts": case(codec="mpeg2"),
    "mpeg2-b.ts": case(codec="mpeg2", b_frames=2),
    "mpeg2-b.vob": case(codec="mpeg2", b_frames=2),
    "mpeg2-interlaced.ts": case(
        codec="mpeg2", b_frames=2, codec_options={"flags": "+ildct+ilme", "top": "1"}
    ),
    "mjpeg.avi": case(codec="mjpeg", pix_fmt="yuvj420p"),
    "mjpeg.mov": case(codec="mjpeg", pix_fmt="yuvj422p"),
    "prores.mov": case(codec="prores", pix_fmt="yuv422p10le"),
    "animation.mov": case(codec="qtrle", pix_fmt="rgb24"),
    "moving.gif": case(codec="gif", pix_fmt="rgb8", fps=25),
    "huffyuv.avi": case(codec="huffyuv", pix_fmt="yuv422p"),
    "ffv1.mkv": case(codec="ffv1", pix_fmt="yuv420p", size=(161, 119), shape=(119, 161)),
    "ffv1-rgb.mkv": case(codec="ffv1", pix_fmt="bgr0"),
    "sorenson.flv": case(codec="flv"),
    "wmv2.asf": case(codec="wmv2"),
    # Shown turned, or with pixels that are not square
    "turned-90.mp4": case(rotation=90),
    "turned-180.mp4": case(rotation=180, b_frames=2),
    "turned-270.mov": case(rotation=270, b_frames=2),
    "turned-90.mkv": case(rotation=90),
    "portrait.mp4": case(size=(90, 160), shape=(160, 90)),
    "sar-4-3.mp4": case(sar=WIDE, stored=SMALL, size=(213, 120)),
    "sar-4-3.mkv": case(sar=WIDE, stored=SMALL, size=(213, 120)),
    "sar-4-3.ts": case(sar=WIDE, stored=SMALL, size=(213, 120), b_frames=2),
    "sar-4-3.avi": case(codec="mpeg4", sar=WIDE, stored=SMALL, size=(213, 120)),
    "sar-2-1.mp4": case(sar=Fraction(2), stored=SMALL, size=(320, 120)),
    "sar-1-2.mp4": case(sar=Fraction(1, 2), stored=SMALL, size=(80, 120)),
    "sar-203-200.mp4": case(sar=Fraction(203, 200), stored=SMALL, size=(162, 120)),
    "sar-201-200.mp4": case(sar=Fraction(201, 200)),
    "sar-1-1.mp4": case(sar=Fraction(1)),
    "sar-5-1.mp4": case(sar=Fraction(5)),
    "sar-1-5.mp4": case(sar=Fraction(1, 5)),
    "sar-turned.mp4": case(sar=WIDE, stored=SMALL, size=(120, 213), rotation=90, shape=(160, 120)),
    "sar-container-s-word.mp4": case(
        lambda path: boxes.with_pixel_shape(path, 2, 1), sar=WIDE, stored=SMALL, size=(320, 120)
    ),
    # Clocks
    "irregular.mp4": case(times=IRREGULAR, frames=14),
    "irregular-b.mkv": case(times=IRREGULAR, frames=14, b_frames=2),
    "irregular-b.mp4": case(times=IRREGULAR, frames=14, b_frames=3),
    "irregular.webm": case(codec="vp9", times=IRREGULAR, frames=14),
    "later.mp4": case(start=10, b_frames=2),
    "later.mkv": case(start=10, b_frames=2),
    "later.ts": case(start=10, b_frames=2),
    "later.webm": case(codec="vp9", start=10),
    "later-fragmented.mp4": case(start=10, b_frames=2, options=FRAGMENTS),
    "clock-turns-over.ts": case(start=95443, b_frames=2, fps=25),
    "no-edit-list.mp4": case(b_frames=2, options={"use_editlist": "0"}),
    # Edit lists
    "cut-start-at-keyframe.mp4": case(edited((12, 24)), numbers=range(12, 36), options=SHARP),
    "cut-start-b.mp4": case(edited((7, 29)), numbers=range(7, 36), b_frames=2, options=SHARP),
    "cut-start-one-gop.mp4": case(
        edited((20, 16)), numbers=range(20, 36), b_frames=3, gop=250, options=SHARP
    ),
    "cut-end.mp4": case(edited((0, 20)), numbers=range(20), options=SHARP),
    "cut-end-b.mp4": case(edited((0, 20)), numbers=range(20), b_frames=3, options=SHARP),
    "cut-both-b.mp4": case(edited((5, 22)), numbers=range(5, 27), b_frames=2, options=SHARP),
    "cut-both-hevc.mp4": case(
        edited((5, 22)), numbers=range(5, 27), codec="hevc", b_frames=2, options=SHARP
    ),
    "cut-both-open-gop.mp4": case(
        edited((5, 22)), numbers=range(5, 27), b_frames=2, codec_options=OPEN, options=SHARP
    ),
    "cut-both-vp9.mp4": case(edited((5, 22)), numbers=range(5, 27), codec="vp9", options=SHARP),
    "delayed.mp4": case(edited((None, 12), (0, 36)), b_frames=2, options=SHARP),
    "delayed-and-cut.mp4": case(
        edited((None, 12), (6, 18)), numbers=range(6, 24), b_frames=2, options=SHARP
    ),
    "two-parts.mp4": case(
        edited((0, 10), (20, 10)), numbers=[*range(10), *range(20, 30)], options=SHARP
    ),
    "two-parts-b.mp4": case(
        edited((2, 10), (19, 10)),
        numbers=[*range(2, 12), *range(19, 29)],
        b_frames=2,
        options=SHARP,
    ),
    # Few, and company
    "one-frame.mp4": case(frames=1),
    "one-frame.webm": case(frames=1, codec="vp9"),
    "one-frame.ts": case(frames=1),
    "five-frames.mp4": case(frames=5, b_frames=2),
    "sound.mp4": case(audio=True, b_frames=2),
    "longer-sound.mp4": case(audio=4.0, b_frames=2),
    "longer-sound.mkv": case(audio=4.0, b_frames=2),
    "sound.ts": case(audio=True, b_frames=2),
    "two-streams.mp4": case(extra_video=True, b_frames=2),
    "two-streams.mkv": case(extra_video=True),
    "two-streams.ts": case(extra_video=True),
}


# Which frames are asked for decides what is sought and what is left out.
WANTED = {
    "first": lambda n: [0],
    "last": lambda n: [n - 1],
    "all": range,
    "uniform": lambda n: np.linspace(0, n - 1, 12).astype(int),
    "every third": lambda n: range(0, n, 3),
    "middle": lambda n: [n // 2 + n // 8],
    "run": lambda n: range(n // 2, min(n, n // 2 + 5)),
    "late": lambda n: [max(0, n - 7), max(0, n - 2)],
    "random": lambda n: np.random.default_rng(n).permutation(n)[: (n + 2) // 3],
    "random few": lambda n: np.random.default_rng(n + 1).permutation(n)[:4],
}


SAMPLINGS = ["uniform", "fps", "clip4clip", "fast", "keyframes"]


# Files of which no edit list leaves frames out and whose pixels are square.
def plainly_decodable(name: str) -> bool:
    each = CASES[name]
    return each.numbers is None and each.given.get("sar") is None


ALIKE = [
    "h264-b.mp4",
    "h264-444-odd.mp4",
    "h264-422.mp4",
    "h264-full-range.mp4",
    "hevc.mp4",
    "vp9.webm",
    "vp9-odd.webm",
    "av1.mp4",
    "turned-90.mp4",
]


@pytest.fixture(scope="session")
def frames_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("frames")


@pytest.fixture(scope="session")
def file(frames_folder):
    """The generated file of that name, made once."""

    def found(name: str) -> Path:
        path = frames_folder / name
        if not path.exists():
            each = CASES[name]
            given = {"frames": N} | each.given
            if not has_encoder(given.get("codec", "h264")):
                pytest.skip(f"this build of PyAV has no encoder for {given['codec']}")
            write_video(path, **given)
            if each.then is not None:
                each.then(path)
        return path

    return found


def shown(name: str) -> list[int]:
    each = CASES[name]
    return list(range(each.given.get("frames", N)) if each.numbers is None else each.numbers)


def read(path: Path, wanted: Sequence[int], decoder: str) -> np.ndarray:
    indices = np.unique(np.asarray(wanted, np.int64))
    found = list(read_indices(str(path), indices, decoder))
    assert [index for index, _ in found] == indices.tolist()
    return np.stack([frame for _, frame in found])


@pytest.mark.parametrize("name", CASES)
def test_facts_tell_number_and_times_of_the_frames_that_are_shown(name, file):
    each = CASES[name]
    facts = probe(str(file(name)))
    n = len(shown(name))
    assert facts.n_frames == n
    rate = float(each.given.get("fps", 24))
    times = each.given.get("times", np.arange(n) / rate)
    np.testing.assert_allclose(facts.times, times, atol=1e-3)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", CASES)
def test_the_frames_that_were_asked_for_with_the_pixels_of_a_full_decode(name, decoder, file):
    path = file(name)
    numbers = shown(name)
    whole = read_or_refused(path, range(len(numbers)), decoder)
    for words, rule in WANTED.items():
        indices = np.unique(np.asarray(list(rule(len(numbers))), np.int64))
        frames = read_or_refused(path, indices, decoder)
        if frames is None:
            continue
        assert frames.dtype == np.uint8
        assert frames.shape[1:] == (*CASES[name].shape, 3)
        assert numbers_of(frames, name) == [numbers[i] for i in indices], words
        assert whole is None or difference(frames, whole[indices]) == 0, words


@pytest.mark.parametrize("name", CASES)
def test_every_sampling_gives_the_frames_of_the_times_that_it_says(name, file):
    path = file(name)
    numbers = shown(name)
    clock = probe(str(path)).times
    whole = read(path, range(len(numbers)), "pyav")
    for kind in SAMPLINGS:
        for count in (1, 4, 12):
            frames, times = vidembed.read_frames(str(path), count, kind, fps=3)
            indices = np.abs(clock[None, :] - times[:, None]).argmin(axis=1)
            assert len(frames) == len(times) <= count, kind
            assert (np.diff(indices) >= 0).all(), kind
            assert numbers_of(frames, name) == [numbers[i] for i in indices], kind
            assert difference(frames, whole[indices]) == 0, kind


@pytest.mark.parametrize("name", [name for name in CASES if plainly_decodable(name)])
def test_pyav_gives_the_pixels_of_a_plain_decode(name, file):
    expected = plain_decode(file(name))
    frames = read(file(name), range(len(expected)), "pyav")
    assert difference(frames, expected) == 0


@pytest.mark.parametrize("name", ALIKE)
def test_both_decoders_give_the_same_pixels(name, file):
    indices = np.arange(0, N, 5)
    one, other = (read(file(name), indices, decoder) for decoder in ("pyav", "decord"))
    assert difference(one, other) == 0


def numbers_of(frames: np.ndarray, name: str) -> list[int]:
    """What is squeezed into the stored pixels is stretched first."""
    size = CASES[name].given.get("size", SMALL)
    return [frame_number(np.asarray(Image.fromarray(frame).resize(size))) for frame in frames]


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("sar-")])
def test_pixels_that_are_not_square_are_made_square_where_that_is_asked_for(name, file):
    frames, times = vidembed.read_frames(str(file(name)), count=N, aspect="display")
    width, height = CASES[name].given.get("size", SMALL)
    assert frames.shape == (N, height, width, 3)
    assert frame_numbers(frames) == list(range(N))
    np.testing.assert_allclose(times, np.arange(N) / 24, atol=1e-3)


def difference(one: np.ndarray, other: np.ndarray) -> int:
    """The largest of any pixel."""
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other).max())


def read_or_refused(path: Path, wanted: Sequence[int], decoder: str) -> np.ndarray | None:
    """None where decord says that it cannot: nobody else may."""
    try:
        return read(path, wanted, decoder)
    except ClipError as error:
        if decoder == "decord" and re.match("(Unsupported|Corrupt): .*decord", str(error)):
            return None
        raise


def plain_decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        frames = []
        for frame in container.decode(stream):
            rgb = frame.to_ndarray(format="rgb24", interpolation=Interpolation.BICUBIC, threads=1)
            frames.append(np.rot90(rgb, frame.rotation // 90 % 4))
    return np.stack(frames)


# Colours

COLOURED = [
    ("h264.mp4", {}),
    ("h264-10bit.mp4", {"pix_fmt": "yuv420p10le"}),
    ("hevc.mkv", {"codec": "hevc"}),
    ("hevc-10bit.mp4", {"codec": "hevc", "pix_fmt": "yuv420p10le"}),
    ("vp9.webm", {"codec": "vp9"}),
    ("av1.mp4", {"codec": "av1"}),
]


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", ["601", "709", "2020"])
@pytest.mark.parametrize(("name", "given"), COLOURED, ids=[name for name, _ in COLOURED])
def test_colours_are_those_that_were_drawn(name, given, matrix, full, decoder, tmp_path):
    path = write_colours(tmp_path / name, matrix, full=full, **given)
    frames, _ = vidembed.read_frames(str(path), count=2, decoder=decoder)
    for frame in frames:
        assert np.abs(drawn_colours(frame) - COLOURS).max() <= 6


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize(("codec", "full"), [("h264", False), ("h264", True), ("mpeg4", False)])
def test_a_file_that_does_not_say_is_taken_for_bt_601(codec, full, decoder, tmp_path):
    path = write_colours(tmp_path / "plain.mp4", "601", full=full, codec=codec, tagged=False)
    frames, _ = vidembed.read_frames(str(path), count=1, decoder=decoder)
    assert np.abs(drawn_colours(frames[0]) - COLOURS).max() <= 6
