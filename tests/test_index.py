"""What is known before anything is decoded: the packet index, from moov and from packets."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conftest import SHARED
from tests.helpers.videos import write_video
from vidembed.decode import mp4
from vidembed.decode.video import open_video, probe

PLAIN = {
    "h264.mp4": {},
    "h264-b.mp4": {"b_frames": 3},
    "h264-b-faststart.mp4": {"b_frames": 3, "options": {"movflags": "faststart"}},
    "h264-one-gop.mov": {"gop": 250, "b_frames": 2},
    "open-gop.mp4": {"b_frames": 2, "codec_options": {"x264-params": "open-gop=1"}},
    "29.97.mov": {"fps": 30, "b_frames": 2},
    "hevc.mp4": {"codec": "hevc", "b_frames": 2},
    "av1.mp4": {"codec": "av1"},
    "mpeg4.mp4": {"codec": "mpeg4", "b_frames": 2},
    "audio.mp4": {"audio": True},
    "irregular.mp4": {"times": [k * 0.04 + (k % 3) * 0.007 for k in range(40)]},
    "late.mp4": {"start": 3.0},
}
OTHER = {
    "fragmented.mp4": {"options": {"movflags": "frag_keyframe+empty_moov"}},
    "h264-b.mkv": {"b_frames": 2},
}


def facts_of(path, *, thorough: bool = False):
    with open_video(str(path), thorough=thorough) as video:
        return video.facts


def assert_the_packets_agree(path) -> None:
    """With what the moov box alone says, and what it says with the bytes of each sample."""
    quick, seen = facts_of(path), facts_of(path, thorough=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mp4, "read_samples", lambda *_: None)
        packets = facts_of(path, thorough=True)
    for found in (quick, seen):
        np.testing.assert_allclose(found.times, packets.times, atol=1e-9)
        assert found.duration_s == pytest.approx(packets.duration_s)
        assert found.open_gop == packets.open_gop
        for name in ("frame", "keyframe", "pts", "dts"):
            a, b = getattr(found.index, name), getattr(packets.index, name)
            assert np.array_equal(a, b), name
    assert np.array_equal(seen.index.lone, packets.index.lone)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("indexed")

    def made(name: str):
        path = folder / name
        if not path.exists():
            write_video(path, frames=40, **{**PLAIN, **OTHER}[name])
        return path

    return made


@pytest.mark.parametrize("name", PLAIN)
def test_the_moov_box_says_what_the_packets_say(name, file):
    with file(name).open("rb") as data:
        assert mp4.read_samples(data, 1, 1000) is not None
    assert_the_packets_agree(file(name))


@pytest.mark.parametrize("name", OTHER)
def test_without_a_plain_moov_box_the_packets_are_asked(name, file):
    with file(name).open("rb") as data:
        assert mp4.read_samples(data, 1, 1000) is None
    assert probe(str(file(name))).n_frames == 40


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real videos are not at hand")
def test_the_moov_boxes_of_real_videos_say_what_their_packets_say():
    paths = [*SHARED.glob("videos/*.mp4"), *SHARED.glob("awkward/*.m[op][v4]")]
    for path in paths:
        if path.name != "corrupted.mp4":
            assert_the_packets_agree(path)


def test_a_table_of_more_samples_than_allowed_is_not_expanded(file):
    with file("h264.mp4").open("rb") as data:
        assert mp4.read_samples(data, 1, 39) is None


def test_a_moov_box_whose_tables_contradict_each_other_is_left_to_the_demuxer(file, tmp_path):
    data = bytearray(file("h264-b.mp4").read_bytes())
    for kind in (b"stts", b"ctts", b"stsc", b"stco", b"stsz", b"elst", b"mdhd", b"tkhd"):
        at = data.index(kind) + 4
        for offset in range(0, 20, 3):
            spoilt = bytearray(data)
            spoilt[at + offset] ^= 0xFF
            path = tmp_path / "spoilt.mp4"
            path.write_bytes(spoilt)
            with path.open("rb") as file_:
                found = mp4.read_samples(file_, 1, 1000)
            assert found is None or len(found.size) <= 1000


def test_only_pictures_that_others_refer_to_are_kept_from_being_skipped(file):
    for name, some in (("h264-b.mp4", True), ("hevc.mp4", True), ("h264.mp4", False)):
        with open_video(str(file(name)), thorough=True) as video:
            lone = video.facts.index.lone
        assert lone is not None
        assert lone.any() == some
        assert not lone[video.facts.index.keyframe].any()


def test_a_codec_whose_pictures_cannot_be_judged_says_nothing_of_them(tmp_path):
    path = write_video(tmp_path / "a.webm", frames=10, codec="vp9")
    with open_video(str(path), thorough=True) as video:
        assert video.facts.index.lone is None
