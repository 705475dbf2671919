"""The reader of the extra `torchcodec`: the right frames, or a refusal."""

from __future__ import annotations

import dataclasses
import logging
import sys

import numpy as np
import pytest

from tests.helpers.videos import flip_bytes, frame_number, has_encoder, write_video
from vidembed.decode import torchcodec_reader
from vidembed.decode.torchcodec_reader import TorchcodecDisagreesError, TorchcodecReader, read
from vidembed.decode.video import probe
from vidembed.errors import ClipError

IRREGULAR = [0.0, 0.04, 0.2, 0.24, 0.5, 0.52, 1.0, 1.5, 1.54, 2.0]
FILES = {
    "h264.mp4": {},
    "h264-b.mkv": {"b_frames": 3},
    "h264-one-gop.mp4": {"gop": 250, "b_frames": 2},
    "h264-444-odd.mp4": {"pix_fmt": "yuv444p", "size": (161, 121)},
    "hevc.mp4": {"codec": "hevc"},
    "vp9.webm": {"codec": "vp9"},
    "av1.mp4": {"codec": "av1"},
    "irregular.mp4": {"times": IRREGULAR, "frames": 10},
    "irregular-b.mkv": {"times": IRREGULAR, "frames": 10, "b_frames": 2},
    "turned-90.mp4": {"rotation": 90},
    "turned-180.mp4": {"rotation": 180},
    "turned-270.mov": {"rotation": 270, "b_frames": 2},
    "two-streams.mkv": {"extra_video": True},
    "one-frame.mp4": {"frames": 1},
}


@pytest.fixture(scope="module")
def _installed():
    try:
        torchcodec_reader.load("")
    except ClipError as error:
        pytest.skip(error.message)


installed = pytest.mark.usefixtures("_installed")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")

    def found(name: str):
        given = {"frames": 40} | FILES[name]
        if not has_encoder(given.get("codec", "h264")):
            pytest.skip(f"this build of PyAV has no encoder for {given['codec']}")
        path = folder / name
        return path if path.exists() else write_video(path, **given)

    return found


def numbers(path, wanted, device: str = "cpu") -> list[int]:
    indices = np.asarray(wanted, np.int64)
    found = list(read(str(path), probe(str(path)), indices, device))
    assert [index for index, _ in found] == indices.tolist()
    assert all(frame.dtype == np.uint8 and frame.flags.c_contiguous for _, frame in found)
    return [frame_number(frame) for _, frame in found]


@installed
@pytest.mark.parametrize("name", FILES)
def test_the_frames_that_were_asked_for(name, file):
    path = file(name)
    count = probe(str(path)).n_frames
    assert count == FILES[name].get("frames", 40)
    for wanted in (
        np.arange(count),
        np.unique(np.linspace(0, count - 1, 7).astype(int)),
        [count // 2],
    ):
        assert numbers(path, wanted) == list(wanted)


@installed
def test_a_decoder_that_brings_its_own_libraries_does_no_harm(file):
    """decord lends its symbols to all: libavcodec would call another dav1d than its own."""
    pytest.importorskip("decord")
    assert numbers(file("av1.mp4"), [0, 39]) == [0, 39]


@installed
@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("open.mp4", {"codec_options": {"x264-params": "open-gop=1:keyint=12"}, "b_frames": 2}),
        ("b.avi", {"codec": "mpeg4", "b_frames": 2}),
        ("b.ts", {"b_frames": 2}),
    ],
)
def test_files_that_it_may_read_wrongly_are_refused(name, given, tmp_path):
    path = write_video(tmp_path / name, frames=40, **given)
    with pytest.raises(TorchcodecDisagreesError):
        numbers(path, [0])


@installed
def test_another_number_of_frames_is_refused(file):
    path = file("h264.mp4")
    facts = probe(str(path))
    fewer = dataclasses.replace(facts, times=facts.times[:-1])
    with pytest.raises(TorchcodecDisagreesError, match="40 frames where the packets say 39"):
        next(read(str(path), fewer, np.array([0])))


@installed
def test_other_times_are_refused(file):
    path = file("irregular.mp4")
    facts = probe(str(path))
    regular = dataclasses.replace(facts, times=np.linspace(0, facts.times[-1], facts.n_frames))
    with pytest.raises(TorchcodecDisagreesError, match="times differ"):
        next(read(str(path), regular, np.arange(facts.n_frames)))


@installed
def test_damage_is_refused_or_told_in_the_log(tmp_path, capfd):
    path = flip_bytes(write_video(tmp_path / "damaged.mp4", frames=60, b_frames=2))
    with pytest.raises(TorchcodecDisagreesError) as caught:
        numbers(path, np.arange(60))
    assert ".cpp" not in str(caught.value)
    numbers(path, [0])
    assert "Invalid NAL" in capfd.readouterr().err


@installed
def test_a_file_that_it_cannot_open_is_refused(file, tmp_path):
    facts = probe(str(file("h264.mp4")))
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(TorchcodecDisagreesError):
        next(read(str(tmp_path / "text.mp4"), facts, np.array([0])))


@installed
def test_without_a_gpu_the_processor_decodes_and_says_so_once(file, caplog, monkeypatch):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.setattr(torchcodec_reader, "_said", set())
    path = str(file("h264.mp4"))
    with caplog.at_level(logging.WARNING, "vidembed.torchcodec"):
        assert numbers(path, [0, 13, 39], "cuda") == [0, 13, 39]
        reader = TorchcodecReader(path, probe(path), "cuda")
    assert reader.device == "cpu"
    assert reader.fallback
    (record,) = caplog.records
    assert record.getMessage().startswith("h264 is decoded on the processor, not on the GPU: ")
    assert TorchcodecReader(path, probe(path)).fallback is None


@installed
def test_on_a_gpu_the_same_frames(file):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this machine has no GPU")
    path = str(file("h264.mp4"))
    assert numbers(path, [0, 13, 39], "cuda") == [0, 13, 39]


def test_without_it_the_remedy_is_named(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    path = str(file("h264.mp4"))
    with pytest.raises(
        ClipError, match=r"pip install 'vidembed\[torchcodec\]' and ffmpeg"
    ) as caught:
        next(read(path, probe(path), np.array([0])))
    assert caught.value.kind == "Unsupported"
    assert path in caught.value.message
