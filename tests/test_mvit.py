"""MViT: pytorchvideo's and torchvision's files, and the vectors their networks give."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.goldens import seeded
from tests.goldens.oracles import mvit as oracle
from vidembed.encode import registry
from vidembed.encode.mvit import layout
from vidembed.encode.mvit.model import Mvit
from vidembed.errors import WeightsError
from vidembed.pixels import prepare

GOLDENS = Path(__file__).parent / "goldens"
NAMES = list(oracle.CLIPS)
# Of the preset whose scaling the golden was made with.
PRESETS = {
    "mvit_base_16x4": "towhee",
    "mvit_base_32x3": "zoo",
    "mvit_v1_b": "torchvision",
    "mvit_v2_s": "torchvision",
}


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
    """State dicts as the official files have them, made on first use."""
    return Made(lambda name: state_of(goldens[name]))


@pytest.fixture(scope="module")
def files(states, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mvit")
    return Made(lambda name: write(folder / f"{name}.pth", states[name]))


@pytest.fixture(scope="module")
def encoders(files):
    return Made(lambda name: load(name, files[name], preset=PRESETS[name]))


class Made(dict):
    """A dictionary whose values are made when they are asked for."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def __missing__(self, name):
        self[name] = self.make(name)
        return self[name]


def state_of(golden):
    shapes = {k: tuple(v) for k, v in json.loads(str(golden["shapes"])).items()}
    return {k: torch.from_numpy(v) for k, v in oracle.weights(shapes).items()}


def write(path, state):
    """pytorchvideo wraps its tensors, beside what else its training kept; torchvision does not."""
    wrapped = {"model_state": state, "epoch": 199, "cfg": "TRAIN: {}"}
    torch.save(wrapped if "norm_embed.weight" in state else state, path)
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
    clips = [seeded.clip(*clip)[None] for clip in oracle.CLIPS[name][0]]
    found = np.concatenate([encoders[name].encode_video(clip) for clip in clips])
    expected = unit(goldens[name]["vectors"])
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert seeded.relative_error(found, expected) < 1e-5
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_the_goldens_of_different_clips_differ(goldens):
    for name in ("mvit_base_16x4", "mvit_v2_s"):
        first, second = unit(goldens[name]["vectors"])
        assert first @ second < 0.8


@pytest.mark.parametrize(
    ("row", "origin", "label"),
    [
        ("mvit_base_16x4", "mvit_v1_b", "MViT-B 16 (torchvision)"),
        ("mvit_v1_b", "mvit_base_16x4", "MViT-B 16 (pytorchvideo)"),
    ],
)
def test_a_file_is_told_by_its_names_and_keeps_its_own_epsilon_in_either_row(
    row, origin, label, files, goldens
):
    way = registry.entry(origin).presets[PRESETS[origin]].clip
    encoder = registry.load(registry.describe(row, files[origin]).prepared(way), "cpu")
    found = encoder.encode_video(seeded.clip(*oracle.CLIPS[origin][0][0])[None])
    assert seeded.relative_error(found, unit(goldens[origin]["vectors"])[:1]) < 1e-5
    assert encoder.spec.architecture == label


def test_a_clip_s_vector_does_not_depend_on_its_batch(encoders, goldens):
    encoder = encoders["mvit_v2_s"]
    clips = [seeded.clip(*clip) for clip in oracle.CLIPS["mvit_v2_s"][0]]
    resize = encoder.spec.clip.resize
    together = encoder.encode_video(np.stack([prepare(clip, resize) for clip in clips]))
    assert seeded.relative_error(together, unit(goldens["mvit_v2_s"]["vectors"])) < 1e-5


@pytest.mark.parametrize("name", ["mvit_base_16x4", "mvit_v2_s"])
def test_half_precision_stays_close(name, files, goldens):
    encoder = load(name, files[name], dtype="bfloat16", preset=PRESETS[name])
    found = encoder.encode_video(seeded.clip(*oracle.CLIPS[name][0][0])[None])
    assert found.dtype == np.float32
    assert found[0] @ unit(goldens[name]["vectors"])[0] > 0.99


def test_nothing_in_gives_nothing_out(encoders):
    frames = np.zeros((0, 16, 224, 224, 3), np.uint8)
    assert encoders["mvit_base_16x4"].encode_video(frames).shape == (0, 768)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((1, 15, 8, 8, 3), np.uint8), "takes 16 frames a clip, or windows .* got 15"),
        (np.zeros((1, 17, 8, 8, 3), np.uint8), "takes 16 frames a clip, or windows .* got 17"),
        (np.zeros((16, 8, 8, 3), np.uint8), r"expected uint8 RGB .* got uint8 \(16, 8, 8, 3\)"),
        (np.zeros((1, 16, 8, 8, 3), np.float64), r"got float64 \(1, 16, 8, 8, 3\)"),
        (np.zeros((1, 16, 8, 8, 3), np.float32), r"resized to 224 x 224, got float32"),
    ],
)
def test_frames_of_another_kind_or_number_are_refused_with_what_came(frames, message, encoders):
    with pytest.raises(ValueError, match=message):
        encoders["mvit_base_16x4"].encode_video(frames)


def test_texts_are_refused(encoders):
    with pytest.raises(ValueError, match="mvit_base_16x4 has no text tower"):
        encoders["mvit_base_16x4"].encode_text(["a dog"])


# What a checkpoint is


@pytest.mark.parametrize(
    ("name", "parameters"),
    # torchvision's meta and the count of pytorchvideo's network.
    [
        ("mvit_base_16x4", 36_610_672),
        ("mvit_base_32x3", 36_611_440),
        ("mvit_v1_b", 36_610_672),
        ("mvit_v2_s", 34_537_744),
    ],
)
def test_shapes_are_those_of_the_reference_and_of_the_module(name, parameters, goldens):
    architecture = layout.ARCHITECTURES[name]
    expected = layout.shapes_of(architecture, 400)
    assert sum(map(math.prod, expected.values())) == parameters == goldens[name]["parameters"]
    shapes = {k: tuple(v) for k, v in json.loads(str(goldens[name]["shapes"])).items()}
    assert layout.is_pytorchvideo(shapes) == name.startswith("mvit_base")
    if layout.is_pytorchvideo(shapes):
        assert len(shapes) == 377
        shapes = layout.renamed_shapes(shapes)
    assert shapes == expected
    with torch.device("meta"):
        module = Mvit(architecture, 1e-6, 400)
    assert {k: tuple(v.shape) for k, v in module.state_dict().items()} == expected


def test_both_files_of_one_architecture_have_the_same_tensors_under_our_names(goldens):
    of_pytorchvideo, of_torchvision = (
        {k: tuple(v) for k, v in json.loads(str(goldens[name]["shapes"])).items()}
        for name in ("mvit_base_16x4", "mvit_v1_b")
    )
    assert layout.renamed_shapes(of_pytorchvideo) == of_torchvision


def test_the_second_copies_in_newer_files_of_pytorchvideo_are_ignored(tmp_path, states):
    state = dict(states["mvit_base_16x4"])
    for name, tensor in states["mvit_base_16x4"].items():
        for part in "qkv":
            for kind, module in (("pool", "pool"), ("norm", "norm")):
                copy = name.replace(
                    f"attn.{kind}_{part}.", f"attn._attention_pool_{part}.{module}."
                )
                if copy != name:
                    state[copy] = tensor
    assert len(state) == 377 + 105
    path = write(tmp_path / "newer.pyth", state)
    assert registry.describe("mvit_base_16x4", path).dim == 768


def test_safetensors_are_read_too(tmp_path, states, files):
    from safetensors.torch import save_file

    save_file(dict(states["mvit_v2_s"]), tmp_path / "model.safetensors")
    spec = registry.describe("mvit_v2_s", str(tmp_path / "model.safetensors"))
    plain = registry.describe("mvit_v2_s", files["mvit_v2_s"])
    assert spec.architecture == plain.architecture == "MViTv2-S 16 (torchvision)"
    assert (spec.dim, spec.metric, spec.context_length, str(spec.counts)) == (
        768,
        "COSINE",
        0,
        "16",
    )


def test_a_classifier_of_another_size_does_not_matter(tmp_path, states):
    state = dict(states["mvit_base_16x4"])
    state["head.proj.weight"], state["head.proj.bias"] = torch.zeros(600, 768), torch.zeros(600)
    path = write(tmp_path / "k600.pyth", state)
    assert registry.load_encoder("mvit_base_16x4", path, device="cpu").spec.dim == 768


def test_missing_and_unexpected_tensors_are_listed(tmp_path, states):
    state = dict(states["mvit_base_16x4"])
    del state["blocks.3.attn.pool_q.weight"]
    state["blocks.3.attn.surprise"] = torch.zeros(1)
    text = refusal("mvit_base_16x4", tmp_path / "wrong.pyth", state)
    assert "1 missing: blocks.3.attn.pool_q.pool.weight" in text
    assert "1 unexpected: blocks.3.attn.surprise" in text
    state = dict(states["mvit_base_16x4"])
    del state["blocks.3.attn.k.bias"]
    text = refusal("mvit_base_16x4", tmp_path / "wrong.pyth", state)
    assert "1 missing: blocks.3.attn.qkv.bias" in text
    assert "2 unexpected: blocks.3.attn.q.bias, blocks.3.attn.v.bias" in text


def test_a_file_for_another_number_of_frames_is_refused_with_both_shapes(files):
    with pytest.raises(WeightsError, match="temporal_pos") as caught:
        registry.describe("mvit_base_32x3", files["mvit_base_16x4"])
    assert "has shape (8, 96), expected (16, 96)" in str(caught.value)


def test_a_file_of_the_other_version_is_refused(files):
    with pytest.raises(WeightsError, match=r"missing: .*rel_pos"):
        registry.describe("mvit_v2_s", files["mvit_v1_b"])
    with pytest.raises(WeightsError, match=r"unexpected: .*rel_pos"):
        registry.describe("mvit_v1_b", files["mvit_v2_s"])


def test_names_that_are_not_read_are_refused_with_the_reason(tmp_path):
    text = refusal(
        "mvit_base_16x4", tmp_path / "k400.pyth", {"patch_embed.proj.weight": torch.zeros(1)}
    )
    assert "SlowFast's own MViT files" in text
    text = refusal("mvit_v1_b", tmp_path / "other.pth", {"fc.weight": torch.zeros(1)})
    assert "no MViT checkpoint" in text


def test_weights_are_asked_for_with_the_command_that_gets_them():
    for name in NAMES:
        with pytest.raises(WeightsError, match=rf"{name} needs --weights\. `curl -LO https://"):
            registry.describe(name)


# What a clip is


@pytest.mark.parametrize(
    ("name", "preset", "views", "seconds", "sides", "scaler"),
    [
        ("mvit_base_16x4", None, (1, 16), None, (224, 224), "torch_bilinear"),
        ("mvit_base_32x3", None, (1, 32), None, (224, 224), "torch_bilinear"),
        ("mvit_base_16x4", "zoo", (5, 16), 64 / 30, (256, 224), "torch_bilinear"),
        ("mvit_base_32x3", "zoo", (5, 32), 3.2, (256, 224), "torch_bilinear"),
        ("mvit_v1_b", None, (5, 16), 16 / 7.5, (256, 224), "torch_bilinear_uint8"),
        ("mvit_v2_s", None, (5, 16), 16 / 7.5, (256, 224), "torch_bilinear_uint8"),
    ],
)
def test_presets_are_the_protocols_of_published_numbers(
    name, preset, views, seconds, sides, scaler
):
    row = registry.entry(name)
    clip = row.preset(preset) or row.default
    assert (clip.sampling.windows, clip.sampling.count) == views
    assert clip.sampling.seconds == (None if seconds is None else pytest.approx(seconds))
    assert (clip.resize.short_side, clip.resize.crop) == sides
    assert clip.resize.interpolation == scaler
    assert type(clip).parse(json.loads(json.dumps(clip.describe()))) == clip


def test_another_sampling_is_of_the_whole_clip_and_the_count_is_fixed(encoders):
    spec = encoders["mvit_v2_s"].spec.sampled(kind="uniform")
    sampling = spec.clip.sampling
    assert (sampling.kind, sampling.windows, sampling.seconds) == ("uniform", 1, None)
    assert sampling.placement == "ends"
    with pytest.raises(Exception, match="takes 16 frames a clip"):
        spec.sampled(count=12)
