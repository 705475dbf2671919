"""Decoding: which frame comes back for which index, over the files that the world has.

Every generated frame carries its number, so a wrong frame is a wrong number.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import vidembed
from tests.helpers import videos as make
from tests.helpers.decoding import read_indices
from tests.helpers.videos import frame_number, frame_numbers, write_video
from vidembed.clips import Sampling, Segmentation
from vidembed.decode.limits import Limits
from vidembed.decode.video import open_video, plan_clips, probe, read_frames
from vidembed.errors import FAILURES, ClipError

AWKWARD = Path(__file__).resolve().parents[2] / "shared" / "data" / "awkward"
IRREGULAR = [0.0, 0.04, 0.2, 0.24, 0.5, 0.52, 1.0, 1.5, 1.54, 2.0]

OPEN_H264 = {"x264-params": "open-gop=1"}
FILES = {
    "h264.mp4": {},
    "h264-b.mp4": {"b_frames": 2},
    "h264-b.mkv": {"b_frames": 3},
    "h264-intra.mp4": {"gop": 1},
    "h264-one-gop.mp4": {"gop": 250, "b_frames": 2},
    "h264-444-odd.mp4": {"pix_fmt": "yuv444p", "size": (161, 121)},
    "h264-full-range.mp4": {"pix_fmt": "yuvj420p"},
    "h264-10bit.mp4": {"pix_fmt": "yuv420p10le"},
    "h264.avi": {},
    "h264-b.ts": {"b_frames": 2},
    "h264.flv": {},
    "h264-29.97.mov": {"fps": Fraction(30000, 1001)},
    "h264-fragmented.mp4": {"options": {"movflags": "frag_keyframe+empty_moov"}},
    "h264-open-gop.mp4": {"b_frames": 2, "codec_options": OPEN_H264},
    "h264-open-gop.mkv": {"b_frames": 3, "codec_options": OPEN_H264, "gop": 5},
    "hevc.mp4": {"codec": "hevc"},
    "hevc-open-gop.mp4": {"codec": "hevc", "b_frames": 4, "gop": 5},
    "hevc-open-gop.mkv": {"codec": "hevc", "b_frames": 2},
    "hevc-10bit.mkv": {"codec": "hevc", "pix_fmt": "yuv420p10le"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg4-b.avi": {"codec": "mpeg4", "b_frames": 2},
    "mpeg4-b.mp4": {"codec": "mpeg4", "b_frames": 2, "gop": 5},
    "vp9.webm": {"codec": "vp9"},
    "vp9.mkv": {"codec": "vp9", "gop": 30},
    "av1.mkv": {"codec": "av1"},
    "av1.mp4": {"codec": "av1"},
    "irregular.mp4": {"times": IRREGULAR, "frames": 10},
    "irregular-b.mkv": {"times": IRREGULAR, "frames": 10, "b_frames": 2},
    "turned-90.mp4": {"rotation": 90},
    "turned-180.mp4": {"rotation": 180},
    "turned-270.mov": {"rotation": 270, "b_frames": 2},
    "two-streams.mp4": {"extra_video": True},
    "two-streams.mkv": {"extra_video": True},
    "with-sound.mp4": {"audio": True},
    "with-sound.ts": {"audio": True},
    "portrait.mp4": {"size": (90, 160)},
    "one-frame.mp4": {"frames": 1},
}
# Which frames are asked for decides what is sought: few, many, near the end, in the middle.
WANTED = {
    "spread": lambda n: np.unique(np.linspace(0, n - 1, 7).astype(int)),
    "all": np.arange,
    "late": lambda n: np.unique(np.clip([n * 2 // 3, n - 2, n - 1], 0, None)),
    "middle": lambda n: np.array([n // 2 + n // 8]),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def file(folder):
    """The generated file of that name, made once."""

    def found(name: str) -> Path:
        path = folder / name
        if not path.exists():
            given = {"frames": 40} | FILES[name]
            if not make.has_encoder(given.get("codec", "h264")):
                pytest.skip(f"this build of PyAV has no encoder for {given['codec']}")
            write_video(path, **given)
        return path

    return found


def numbers(path: Path, wanted, decoder="auto") -> list[int]:
    indices = np.asarray(wanted, np.int64)
    found = list(read_indices(str(path), indices, decoder))
    assert [index for index, _ in found] == indices.tolist()
    return [frame_number(frame) for _, frame in found]


def failure(path: Path, **options) -> ClipError:
    with pytest.raises(ClipError) as caught:
        read_frames(str(path), **options)
    assert caught.value.kind in FAILURES
    assert str(path) in caught.value.message
    return caught.value


# The right frames


@pytest.mark.parametrize("name", FILES)
def test_auto_gives_the_frames_that_were_asked_for(name, file):
    path = file(name)
    count = probe(str(path)).n_frames
    assert count == FILES[name].get("frames", 40)
    for wanted in (rule(count) for rule in WANTED.values()):
        assert numbers(path, wanted) == wanted.tolist()


@pytest.mark.parametrize("name", FILES)
def test_pyav_alone_gives_the_frames_that_were_asked_for(name, file):
    path = file(name)
    for wanted in (rule(probe(str(path)).n_frames) for rule in WANTED.values()):
        assert numbers(path, wanted, "pyav") == wanted.tolist()


@pytest.mark.parametrize("name", FILES)
def test_decord_alone_gives_the_right_frames_or_says_that_it_cannot(name, file):
    path = file(name)
    for wanted in (rule(probe(str(path)).n_frames) for rule in WANTED.values()):
        try:
            found = numbers(path, wanted, "decord")
        except ClipError as error:
            said = str(error)
        else:
            said = ""
            assert found == wanted.tolist()
        assert not said or re.match("(Unsupported|Corrupt): .*decord", said)


@pytest.mark.parametrize(
    "name", ["h264.mp4", "h264-b.mkv", "h264-full-range.mp4", "hevc.mp4", "vp9.webm", "av1.mp4"]
)
def test_decord_reads_ordinary_files(name, file):
    assert numbers(file(name), [0, 13, 39], "decord") == [0, 13, 39]


@pytest.mark.parametrize(
    "name", ["hevc-open-gop.mkv", "h264-open-gop.mp4", "mpeg4-b.mp4", "mpeg4-b.avi", "h264-b.ts"]
)
def test_files_that_decord_reads_wrongly_are_refused_by_it_with_the_way_out(name, file):
    with pytest.raises(ClipError, match="decord"):
        numbers(file(name), np.arange(40), "decord")


@pytest.mark.parametrize("name", ["h264-b.mp4", "hevc.mp4", "vp9.webm", "turned-90.mp4"])
def test_both_decoders_give_the_same_pixels(name, file):
    path = str(file(name))
    one, _ = read_frames(path, count=5, decoder="decord")
    other, _ = read_frames(path, count=5, decoder="pyav")
    assert one.dtype == other.dtype == np.uint8
    # The two hold different versions of the colour conversion; both round.
    assert np.abs(one.astype(int) - other.astype(int)).max() <= 3


def test_an_index_that_misleads_a_seek_is_not_taken_for_damage(tmp_path):
    """In MPEG-TS a seek lands anywhere."""
    path = write_video(tmp_path / "long.ts", frames=200, gop=50, b_frames=2)
    for first in (1, 49, 50, 99, 130, 199):
        assert numbers(path, [first]) == [first]


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
@pytest.mark.parametrize("name", ["turned-90.mp4", "turned-180.mp4", "turned-270.mov"])
def test_a_turned_video_comes_back_upright(name, decoder, file):
    frames, _ = read_frames(str(file(name)), count=3, decoder=decoder)
    assert frames.shape == (3, 120, 160, 3)
    assert frame_numbers(frames) == [0, 19, 39]


# What is known before decoding


def test_facts_of_an_ordinary_file(file):
    facts = probe(str(file("h264-b.mp4")))
    assert (facts.n_frames, facts.codec, facts.container) == (40, "h264", "mov")
    assert facts.fps == pytest.approx(24)
    assert facts.duration_s == pytest.approx(40 / 24)
    np.testing.assert_allclose(facts.times, np.arange(40) / 24, atol=1e-4)
    assert not facts.open_gop


def test_a_rate_that_is_no_whole_number_is_kept(file):
    assert probe(str(file("h264-29.97.mov"))).fps == pytest.approx(30000 / 1001)


def test_times_of_a_variable_rate_are_the_file_s_own(file):
    np.testing.assert_allclose(probe(str(file("irregular.mp4"))).times, IRREGULAR, atol=1e-3)
    np.testing.assert_allclose(probe(str(file("irregular-b.mkv"))).times, IRREGULAR, atol=1e-3)


def test_times_begin_at_the_first_frame_whatever_the_container_s_clock(file):
    facts = probe(str(file("h264-b.ts")))
    assert facts.times[0] == 0
    assert facts.times[24] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    "name", ["hevc-open-gop.mp4", "h264-open-gop.mkv", "mpeg4-b.mp4", "hevc-open-gop.mkv"]
)
def test_an_open_gop_is_seen_in_the_packets(name, file):
    assert probe(str(file(name))).open_gop


def test_between_takes_the_frames_that_begin_in_the_window(file):
    facts = probe(str(file("h264.mp4")))
    assert facts.between(0.5, 1.0) == (12, 24)
    assert facts.between(0, 99) == (0, 40)
    assert facts.between(0.51, 0.53) == (13, 13)
    # A tenth is no exact fraction; a frame that begins on the edge is in.
    assert facts.between(0.1 + 0.2 + 0.2, 0.6) == (12, 15)


# Windows and segments


def plans(path: Path, window=(None, None), seconds=None, count=4, **sampling):
    spec = Sampling(kind=sampling.pop("kind", "uniform"), count=count, **sampling)
    return plan_clips(probe(str(path)), spec, Segmentation(seconds=seconds), window)


def test_a_window_limits_the_frames(file):
    (plan,) = plans(file("h264.mp4"), (0.5, 1.0))
    assert (plan.start_s, plan.end_s) == (0.5, 1.0)
    assert plan.indices.tolist() == [12, 15, 19, 23]


def test_a_window_beyond_the_end_is_cut_at_the_end(file):
    (plan,) = plans(file("h264.mp4"), (1.5, 99.0))
    assert plan.end_s == pytest.approx(40 / 24)
    assert plan.indices.tolist() == [36, 37, 38, 39]


def test_a_window_shorter_than_a_frame_is_the_frame_that_is_showing(file):
    (plan,) = plans(file("h264.mp4"), (0.51, 0.53))
    assert plan.indices.tolist() == [12] * 4


@pytest.mark.parametrize("window", [(5.0, 6.0), (40 / 24, None)])
def test_a_window_outside_the_video_is_empty_and_says_so(window, file):
    with pytest.raises(ClipError, match=r"lies outside the video of 1\.667 s") as caught:
        plans(file("h264.mp4"), window)
    assert caught.value.kind == "Empty"


def test_segments_of_a_window_are_cut_from_its_start(file):
    found = plans(file("h264.mp4"), (0.5, 1.5), seconds=0.5, count=2)
    assert [(p.start_s, p.end_s) for p in found] == [(0.5, 1.0), (1.0, 1.5)]
    assert [p.indices.tolist() for p in found] == [[12, 23], [24, 35]]


# read_frames


def test_read_frames_returns_upright_frames_and_their_times(file):
    frames, times = vidembed.read_frames(str(file("h264-b.mp4")), count=5)
    assert frames.shape == (5, 120, 160, 3)
    assert frames.dtype == np.uint8
    assert frame_numbers(frames) == [0, 9, 19, 29, 39]
    np.testing.assert_allclose(times, np.array([0, 9, 19, 29, 39]) / 24, atol=1e-4)


def test_read_frames_repeats_where_there_are_fewer(file):
    frames, times = read_frames(str(file("irregular.mp4")), count=12)
    assert frame_numbers(frames) == [0, 0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 9]
    assert len(times) == 12


def test_read_frames_at_a_rate_takes_what_is_on_screen(file):
    frames, _ = read_frames(str(file("irregular.mp4")), count=9, sampling="fps", fps=4)
    assert frame_numbers(frames) == [0, 3, 4, 5, 6, 6, 7, 8, 9]


def test_read_frames_as_clip4clip_returns_only_what_there_is(file):
    frames, times = read_frames(str(file("h264.mp4")), count=12, sampling="clip4clip")
    assert frame_numbers(frames) == [0, 24]
    np.testing.assert_allclose(times, [0, 1], atol=1e-4)


def test_an_address_may_be_spelled_as_a_file_url(file):
    frames, _ = read_frames(f"file://{file('h264.mp4')}", count=1)
    assert frame_numbers(frames) == [0]


# What is wrong with a file


def test_files_that_hold_no_video_have_their_class(tmp_path):
    (tmp_path / "text.mp4").write_text("<html>404 Not Found</html>" * 50)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    make.write_audio_only(tmp_path / "sound.m4a")
    (tmp_path / "folder.mp4").mkdir()
    kinds = {p.name: failure(p).kind for p in tmp_path.iterdir()}
    assert kinds == {
        "text.mp4": "Unsupported",
        "empty.mp4": "Empty",
        "noise.mp4": "Unsupported",
        "sound.m4a": "NoVideoStream",
        "folder.mp4": "Unsupported",
    }
    assert failure(tmp_path / "absent.mp4").kind == "NotFound"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
def test_a_file_that_may_not_be_read_is_forbidden(tmp_path):
    path = write_video(tmp_path / "mine.mp4", frames=2)
    path.chmod(0)
    assert failure(path).kind == "Forbidden"


def test_a_playlist_is_not_followed(tmp_path, file):
    """It would open files that the manifest never named."""
    target = file("h264-b.ts")
    for name, text in {
        "list.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n",
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n",
        "concat.mp4": f"ffconcat version 1.0\nfile {target}\n",
    }.items():
        (tmp_path / name).write_text(text)
        assert failure(tmp_path / name).kind == "Unsupported"


def test_the_picture_of_a_song_is_no_video(tmp_path):
    path = make.write_audio_with_cover(tmp_path / "song.mp4")
    error = failure(path)
    assert error.kind == "NoVideoStream"
    assert "it has audio" in error.message


def test_a_recording_without_its_index_is_truncated(tmp_path):
    path = make.without_index(write_video(tmp_path / "cut.mp4", frames=40))
    error = failure(path)
    assert error.kind == "Truncated"
    assert "moov" in error.message


@pytest.mark.parametrize("decoder", ["auto", "decord", "pyav"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_a_file_that_was_cut_off_is_truncated_and_not_sampled_short(share, decoder, tmp_path):
    options = {"movflags": "faststart"}
    path = write_video(tmp_path / "cut.mp4", frames=60, options=options)
    assert failure(make.truncate(path, share), decoder=decoder).kind == "Truncated"


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg4"])
def test_damage_in_the_middle_is_noticed_or_gives_the_right_frames(codec, tmp_path):
    """Wrong frames unnoticed are the one outcome that must not be."""
    noticed = 0
    for seed, share in enumerate((0.2, 0.4, 0.6, 0.8)):
        path = write_video(tmp_path / f"{seed}.mp4", frames=60, codec=codec, gop=12, b_frames=2)
        make.flip_bytes(path, share)
        try:
            frames, _ = read_frames(str(path), count=12)
        except ClipError as error:
            noticed += error.kind in ("Corrupt", "Truncated")
        else:
            expected = np.linspace(0, 59, 12).astype(int).tolist()
            found = frame_numbers(frames)
            # libavcodec's HEVC decoder shows some damage as a spoilt picture without a word.
            spoilt = {-1} if codec == "hevc" else set()
            assert [n for n in found if n not in spoilt] == [
                e for n, e in zip(found, expected, strict=True) if n not in spoilt
            ]
    assert noticed


@pytest.mark.parametrize("first", ["av", "decord"])
def test_damage_is_noticed_whichever_decoder_was_loaded_first(first, tmp_path):
    """They share symbols where decord came first, and its complaints go another way."""
    path = write_video(tmp_path / "start.mp4", frames=48, gop=12)
    make.flip_bytes(path, 0.106, 40)
    code = (
        f"import sys, {first}; from vidembed.decode.video import read_frames\n"
        "try: read_frames(sys.argv[1])\n"
        "except Exception as error: print(error.kind)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "Corrupt\n"


def test_damage_that_a_decoder_conceals_is_noticed(tmp_path):
    """Three bytes that leave a stream which decodes, with a spoilt picture, and with no error."""
    path = write_video(tmp_path / "concealed.mp4", frames=48, gop=12)
    make.flip_bytes(path, 0.22, 3)
    assert failure(path, count=12, decoder="pyav").kind == "Corrupt"
    assert failure(path, count=12).kind == "Corrupt"


def test_frames_before_the_damage_are_still_good(tmp_path):
    path = write_video(tmp_path / "late.mp4", frames=60, gop=12)
    make.flip_bytes(path, 0.8)
    assert numbers(path, [0, 7, 13]) == [0, 7, 13]
    assert failure(path, count=12).kind == "Corrupt"


@pytest.mark.parametrize(
    ("limits", "word"),
    [
        (Limits(pixels=1000), "160x120"),
        (Limits(frames=1), "--max-video-frames"),
        (Limits(duration_s=0.05), "--max-hours"),
    ],
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_video_beyond_a_limit_is_refused_before_it_is_decoded(limits, word, suffix, tmp_path):
    path = write_video(tmp_path / f"small.{suffix}", frames=2)
    with pytest.raises(ClipError) as caught, open_video(str(path), limits=limits):
        pass
    assert caught.value.kind == "TooLarge"
    assert word in caught.value.message


def test_a_fault_of_a_remote_file_names_its_address_and_leaves_no_copy(tmp_path, monkeypatch):
    import fsspec

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/bad.mp4", b"not a video" * 100)
    with pytest.raises(ClipError, match=r"memory://bad\.mp4: not a video container"):
        read_frames("memory://bad.mp4")
    with pytest.raises(ClipError, match=r"memory://absent\.mp4: nothing there") as caught:
        read_frames("memory://absent.mp4")
    assert caught.value.kind == "NotFound"
    assert list(tmp_path.iterdir()) == []


def test_a_remote_file_is_decoded_from_a_copy_that_is_removed(tmp_path, monkeypatch, file):
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.pipe_file("/good.mp4", file("h264.mp4").read_bytes())
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    frames, _ = read_frames("memory://good.mp4", count=2)
    assert frame_numbers(frames) == [0, 39]
    assert list(tmp_path.iterdir()) == []


def test_decoders_print_nothing_where_they_recover(tmp_path):
    path = write_video(tmp_path / "late.mp4", frames=60, gop=12)
    make.flip_bytes(path, 0.8)
    code = (
        "import sys; from vidembed.decode.video import read_frames\n"
        "try: read_frames(sys.argv[1])\n"
        "except Exception as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("Corrupt: ")
    assert done.stderr == ""


# Files of the world, where they are at hand


@pytest.mark.skipif(not AWKWARD.is_dir(), reason="the awkward files are not at hand")
class TestAwkwardFiles:
    @pytest.mark.parametrize("decoder", ["auto", "pyav"])
    def test_turned_phone_videos_show_the_same_upright_picture(self, decoder):
        shapes = {}
        for turn in (0, 90, 180, 270):
            frames, _ = read_frames(str(AWKWARD / f"rot_{turn}.mov"), count=3, decoder=decoder)
            shapes[turn] = frames.shape[1:3]
        assert shapes == {0: (320, 568), 90: (568, 320), 180: (320, 568), 270: (568, 320)}

    @pytest.mark.parametrize(
        ("name", "count", "shape"),
        [
            ("unordered.mov", 4, (50, 50)),
            ("av1_video.mkv", 125, (360, 640)),
            ("h264_10bits.mp4", 30, (200, 200)),
            ("h265_10bits.mp4", 30, (200, 200)),
            ("h265_video.mp4", 10, (128, 128)),
            ("mpeg4.avi", 150, (270, 480)),
        ],
    )
    def test_they_decode(self, name, count, shape):
        path = str(AWKWARD / name)
        assert probe(path).n_frames == count
        frames, times = read_frames(path)
        assert frames.shape == (12, *shape, 3)
        assert (np.diff(times) >= 0).all()

    def test_damage_in_the_middle_is_named(self):
        assert failure(AWKWARD / "corrupted.mp4").kind in ("Corrupt", "Truncated")
