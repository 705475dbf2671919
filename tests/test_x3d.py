"""X3D: pytorchvideo's files, and the vectors their networks give."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.goldens import seeded
from tests.goldens.oracles import x3d as oracle
from vidembed.encode import registry
from vidembed.encode.x3d import layout
from vidembed.encode.x3d.model import X3d
from vidembed.errors import WeightsError
from vidembed.pixels import prepare

GOLDENS = Path(__file__).parent / "goldens"
NAMES = list(oracle.CLIPS)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def goldens():
    return {name: dict(np.load(GOLDENS / f"{name}.npz")) for name in NAMES}


@pytest.fixture(scope="module")
def states(goldens):
    """State dicts as the official files have them."""
    found = {}
    for name, golden in goldens.items():
        arrays = oracle.weights(shapes_of(golden))
        found[name] = {k: torch.from_numpy(np.asarray(v)) for k, v in arrays.items()}
    return found


@pytest.fixture(scope="module")
def files(states, tmp_path_factory):
    folder = tmp_path_factory.mktemp("x3d")
    return {name: write(folder / f"{name}.pyth", state) for name, state in states.items()}


@pytest.fixture(scope="module")
def encoders(files):
    return {name: load(name, path) for name, path in files.items()}


def shapes_of(golden):
    return {k: tuple(v) for k, v in json.loads(str(golden["shapes"])).items()}


def write(path, state):
    torch.save({"model_state": state, "epoch": 299, "cfg": "TRAIN: {}"}, path)
    return str(path)


def load(name, path, **options):
    return registry.load_encoder(name, path, device="cpu", **options)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def refusal(name, path, state):
    write(path, state)
    with pytest.raises(WeightsError) as caught:
        registry.describe(name, str(path))
    return str(caught.value)


# What the vectors are


@pytest.mark.parametrize("name", NAMES)
def test_vectors_are_the_reference_s_from_frames_of_odd_sizes(name, encoders, goldens):
    # The crop is larger than in training: of 2 x 2 or 3 x 3 places the mean is taken after ReLU.
    assert math.prod(goldens[name]["positions"]) > 1
    clips = [seeded.clip(*clip)[None] for clip in oracle.CLIPS[name][0]]
    found = np.concatenate([encoders[name].encode_video(clip) for clip in clips])
    expected = unit(goldens[name]["vectors"])
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert seeded.relative_error(found, expected) < 1e-5
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_the_goldens_of_different_clips_differ(goldens):
    for name in ("x3d_xs", "x3d_m"):
        first, second = unit(goldens[name]["vectors"])
        assert np.linalg.norm(first - second) > 0.05


def test_raw_vectors_keep_their_length(files, goldens):
    raw = load("x3d_m_raw", files["x3d_m"])
    found = raw.encode_video(seeded.clip(*oracle.CLIPS["x3d_m"][0][0])[None])
    assert seeded.relative_error(found, goldens["x3d_m"]["vectors"][:1]) < 1e-5
    assert np.linalg.norm(found) > 2
    assert raw.spec.metric == "L2"


def test_normalised_and_raw_vectors_of_one_file_have_different_fingerprints(files):
    specs = [registry.describe(name, files["x3d_m"]) for name in ("x3d_m", "x3d_m_raw")]
    assert specs[0].fingerprint != specs[1].fingerprint
    assert specs[0].digest == specs[1].digest


def test_a_clip_of_several_windows_is_the_mean_of_their_raw_vectors(encoders, goldens):
    encoder = encoders["x3d_xs"]
    clips = [seeded.clip(*clip) for clip in oracle.CLIPS["x3d_xs"][0]]
    windows = np.concatenate([prepare(clip, encoder.spec.clip.resize) for clip in clips])
    expected = unit(goldens["x3d_xs"]["vectors"].mean(axis=0, keepdims=True))
    assert seeded.relative_error(encoder.encode_video(windows[None]), expected) < 1e-5


def test_a_clip_s_vector_does_not_depend_on_its_batch(encoders, goldens):
    encoder = encoders["x3d_xs"]
    clips = [seeded.clip(*clip) for clip in oracle.CLIPS["x3d_xs"][0]]
    ready = [prepare(clip, encoder.spec.clip.resize) for clip in clips]
    expected = unit(goldens["x3d_xs"]["vectors"])
    # More than go through the network at once, and no multiple of that.
    together = encoder.encode_video(np.stack(ready * 5 + ready[:1]))
    assert seeded.relative_error(together[:2], expected) < 1e-5
    assert seeded.relative_error(together[-1:], expected[:1]) < 1e-5


def test_half_precision_stays_close(files, goldens):
    encoder = load("x3d_xs", files["x3d_xs"], dtype="bfloat16")
    clips = [seeded.clip(*clip)[None] for clip in oracle.CLIPS["x3d_xs"][0]]
    found = np.concatenate([encoder.encode_video(clip) for clip in clips])
    assert found.dtype == np.float32
    assert (found * unit(goldens["x3d_xs"]["vectors"])).sum(axis=1).min() > 0.999


def test_nothing_in_gives_nothing_out(encoders):
    assert encoders["x3d_m"].encode_video(np.zeros((0, 16, 9, 9, 3), np.uint8)).shape == (0, 2048)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((1, 15, 8, 8, 3), np.uint8), "takes 16 frames a clip, or windows .* got 15"),
        (np.zeros((1, 20, 8, 8, 3), np.uint8), "takes 16 frames a clip, or windows .* got 20"),
        (np.zeros((16, 8, 8, 3), np.uint8), r"expected uint8 RGB .* got uint8 \(16, 8, 8, 3\)"),
        (np.zeros((1, 16, 8, 8, 3), np.float64), r"got float64 \(1, 16, 8, 8, 3\)"),
        (np.zeros((1, 16, 8, 8, 3), np.float32), r"resized to 256 x 256, got float32"),
    ],
)
def test_frames_of_another_kind_or_number_are_refused_with_what_came(frames, message, encoders):
    with pytest.raises(ValueError, match=message):
        encoders["x3d_m"].encode_video(frames)


def test_texts_are_refused(encoders):
    with pytest.raises(ValueError, match="x3d_m has no text tower"):
        encoders["x3d_m"].encode_text(["a dog"])


# What a checkpoint is


@pytest.mark.parametrize(
    ("name", "parameters", "tensors"),
    [("x3d_xs", 3_794_274, 563), ("x3d_s", 3_794_274, 563), ("x3d_m", 3_794_274, 563),
     ("x3d_l", 6_153_384, 1141)],
)  # fmt: skip
def test_shapes_are_those_of_the_reference_and_of_the_module(name, parameters, tensors, goldens):
    architecture = layout.ARCHITECTURES[name]
    expected = layout.shapes_of(architecture, 400)
    assert expected == shapes_of(goldens[name])
    assert len(expected) == tensors
    with torch.device("meta"):
        module = X3d(architecture, 400)
    assert {k: tuple(v.shape) for k, v in module.state_dict().items()} == expected
    counted = sum(p.numel() for p in module.parameters())
    assert counted == parameters == goldens[name]["parameters"]


@pytest.mark.parametrize(
    ("name", "pool"),
    [("x3d_xs", (4, 5, 5)), ("x3d_s", (13, 5, 5)), ("x3d_m", (16, 7, 7)), ("x3d_l", (16, 10, 10))],
)
def test_the_head_s_window_is_that_of_the_crop_of_training(name, pool):
    assert layout.ARCHITECTURES[name].pool == pool


def test_missing_and_unexpected_tensors_are_listed(tmp_path, states):
    state = dict(states["x3d_m"])
    del state["blocks.2.res_blocks.0.branch1_norm.running_var"]
    state["blocks.1.res_blocks.0.branch1_norm.weight"] = torch.zeros(24)
    text = refusal("x3d_m", tmp_path / "wrong.pyth", state)
    assert "1 missing: blocks.2.res_blocks.0.branch1_norm.running_var" in text
    assert "1 unexpected: blocks.1.res_blocks.0.branch1_norm.weight" in text


def test_a_tensor_of_another_shape_is_named_with_both_shapes(tmp_path, states):
    state = states["x3d_m"] | {"blocks.5.pool.post_conv.weight": torch.zeros(2048, 432)}
    text = refusal("x3d_m", tmp_path / "wrong.pyth", state)
    assert "post_conv.weight has shape (2048, 432), expected (2048, 432, 1, 1, 1)" in text


def test_a_file_of_another_depth_is_refused(files):
    with pytest.raises(WeightsError, match="unexpected"):
        registry.describe("x3d_m", files["x3d_l"])
    with pytest.raises(WeightsError, match="missing"):
        registry.describe("x3d_l", files["x3d_m"])


def test_safetensors_are_read_too(tmp_path, states):
    from safetensors.torch import save_file

    save_file(states["x3d_xs"], tmp_path / "model.safetensors")
    spec = registry.describe("x3d_xs", str(tmp_path / "model.safetensors"))
    assert (spec.dim, spec.metric, spec.architecture) == (2048, "COSINE", "X3D-XS")
    assert (spec.context_length, str(spec.counts)) == (0, "4")


def test_weights_are_asked_for_with_the_command_that_gets_them():
    for name in layout.ARCHITECTURES:
        with pytest.raises(WeightsError, match=rf"{name} needs --weights\. `curl -LO https://"):
            registry.describe(name)


# What a clip is


@pytest.mark.parametrize(
    ("name", "frames", "seconds", "side"),
    [
        ("x3d_xs", 4, 1.6, 182),
        ("x3d_s", 13, 2.6, 182),
        ("x3d_m", 16, 16 * 5 / 30, 256),
        ("x3d_m_raw", 16, 16 * 5 / 30, 256),
        ("x3d_l", 16, 16 * 5 / 30, 356),
    ],
)
def test_presets_are_the_protocols_of_published_numbers(name, frames, seconds, side):
    row = registry.entry(name)
    assert list(row.presets) == ["towhee", "zoo"]
    towhee, zoo = (preset.clip for preset in row.presets.values())
    assert (towhee.sampling.windows, towhee.sampling.count) == (1, frames)
    assert towhee.sampling.seconds is None
    assert (zoo.sampling.windows, zoo.sampling.count) == (10, frames)
    assert zoo.sampling.seconds == pytest.approx(seconds)
    for clip in (towhee, zoo):
        assert (clip.resize.short_side, clip.resize.crop) == (side, side)
        assert clip.resize.interpolation == "torch_bilinear"
        assert type(clip).parse(json.loads(json.dumps(clip.describe()))) == clip
