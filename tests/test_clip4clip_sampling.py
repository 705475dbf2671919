"""Which frames CLIP4Clip's two presets see: the paper's extractor, and Towhee's operator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import vidembed
from tests.goldens.recipes import FILES
from tests.helpers import checkpoints as make
from tests.helpers.videos import frame_numbers, write_video
from vidembed.clips import Sampling
from vidembed.decode.facts import VideoFacts
from vidembed.decode.sampling import sample
from vidembed.encode import registry
from vidembed.errors import ConfigError

ROW = registry.entry("clip4clip")
PAPER, TOWHEE = ROW.presets["paper"].clip.sampling, ROW.presets["towhee"].clip.sampling


@pytest.fixture(scope="module")
def goldens():
    return np.load(Path(__file__).parent / "goldens" / "clip_frames.npz")


@pytest.mark.parametrize("name", FILES)
def test_the_paper_s_frames_are_those_that_opencv_reads(name, tmp_path, goldens):
    path = write_video(tmp_path / "v.mp4", **FILES[name])
    frames, _ = vidembed.read_frames(str(path), count=10_000, sampling="clip4clip")
    assert frame_numbers(frames) == goldens[name].tolist()


@pytest.mark.parametrize("name", FILES)
def test_of_more_than_twelve_seconds_the_paper_takes_twelve_evenly(name, tmp_path, goldens):
    # slice_framepos 2, the setting of the README for every data set.
    path = write_video(tmp_path / "v.mp4", **FILES[name])
    frames, _ = vidembed.read_frames(str(path), count=12, sampling="clip4clip")
    read = goldens[name]
    kept = read if len(read) <= 12 else read[np.linspace(0, len(read) - 1, 12, dtype=int)]
    assert frame_numbers(frames) == kept.tolist()


def facts(frames: int, fps: float) -> VideoFacts:
    return VideoFacts(
        times=np.arange(frames) / fps,
        fps=fps,
        duration_s=frames / fps,
        container="mov",
        codec="h264",
        stream_index=0,
        index=None,
        pixel_aspect=1.0,
        open_gop=False,
    )


@pytest.mark.parametrize(
    ("frames", "fps", "paper"),
    [
        (300, 30.0, range(0, 300, 30)),
        (300, 30000 / 1001, range(0, 291, 29)),
        # 24 seconds, of which int(linspace(0, 23, 12)) are taken.
        (600, 25.0, [k * 25 for k in (0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 23)]),
        (330, 30.0, range(0, 330, 30)),
        (361, 30.0, [k * 30 for k in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12)]),
        (360, 30.0, range(0, 360, 30)),
        (1, 30.0, [0]),
    ],
)
def test_the_paper_s_arithmetic_by_hand(frames, fps, paper):
    found = sample(PAPER, facts(frames, fps), 0, frames)
    assert found.tolist() == list(paper)


@pytest.mark.parametrize(
    ("frames", "fps", "rate", "first"),
    [
        (100, 25.0, 3.0, [0, 8, 16, 25, 33, 41, 50, 58, 66, 75, 83, 91]),
        (50, 25.0, 2.0, [0, 12, 25, 37]),
        (20, 10.0, 30.0, list(range(20))),
    ],
)
def test_several_frames_a_second_lie_an_integer_step_apart(frames, fps, rate, first):
    # interval fps // rate, and the first `rate` of them within each second.
    dense = Sampling(kind="clip4clip", count=10_000, fps=rate, pad="mask")
    assert sample(dense, facts(frames, fps), 0, frames).tolist() == first


@pytest.mark.parametrize("fps", [29.97, 30.0, 59.94, 24.0])
def test_towhee_s_preset_spreads_twelve_over_all_frames_at_any_rate(fps):
    expected = [299 * k // 11 for k in range(12)]
    assert sample(TOWHEE, facts(300, fps), 0, 300).tolist() == expected
    assert expected[0] == 0
    assert expected[-1] == 299


def test_the_two_presets_see_other_frames_and_make_other_fingerprints(tmp_path):
    clip = facts(300, 30000 / 1001)
    assert sample(PAPER, clip, 0, 300).tolist() != sample(TOWHEE, clip, 0, 300).tolist()
    path = str(make.write_reference(tmp_path / "w.bin", make.reference_state()))
    paper, towhee = (registry.describe("clip4clip", path, name) for name in ("paper", "towhee"))
    assert paper.fingerprint != towhee.fingerprint


# Presets with either layout


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder, state = tmp_path_factory.mktemp("places"), make.reference_state()
    return {
        "reference": str(make.write_reference(folder / "pytorch_model.bin.1", state)),
        "hugging face": str(make.write_hugging_face(folder / "hf", state)),
    }


@pytest.mark.parametrize(
    ("layout", "preset", "kind", "pad"),
    [
        ("reference", None, "clip4clip", "mask"),
        ("reference", "paper", "clip4clip", "mask"),
        ("reference", "towhee", "uniform", "repeat"),
        ("hugging face", None, "uniform", "repeat"),
        ("hugging face", "paper", "clip4clip", "mask"),
        ("hugging face", "towhee", "uniform", "repeat"),
    ],
)
def test_a_preset_holds_for_files_of_both_layouts(layout, preset, kind, pad, places):
    spec = registry.describe("clip4clip", places[layout], preset)
    sampling = spec.clip.sampling
    assert (sampling.kind, sampling.pad, sampling.count) == (kind, pad, 12)
    assert (spec.clip.resize.short_side, spec.clip.resize.crop) == (make.IMAGE, make.IMAGE)


def test_texts_are_read_as_the_weights_were_trained_whatever_the_preset(places):
    # A run does not remember its preset: what texts become must not depend on it.
    for preset in (None, "paper", "towhee"):
        reference = registry.describe("clip4clip", places["reference"], preset)
        hugging_face = registry.describe("clip4clip", places["hugging face"], preset)
        assert (reference.context_length, hugging_face.context_length) == (32, 77)


def test_both_layouts_give_one_vector_under_one_preset(places):
    draw = np.random.default_rng(3)
    frames = draw.integers(0, 256, (2, 12, 20, 30, 3), np.uint8)
    for preset, valid in (("paper", [12, 5]), ("towhee", None)):
        found = [
            registry.load_encoder("clip4clip", place, device="cpu", preset=preset)
            for place in places.values()
        ]
        one, other = (encoder.encode_video(frames, valid) for encoder in found)
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_an_unknown_preset_is_refused_with_those_there_are(places):
    with pytest.raises(ConfigError, match="no preset 'mine'; there are: paper, towhee"):
        registry.describe("clip4clip", places["reference"], "mine")
