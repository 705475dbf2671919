"""PE-Core: what it computes is what open_clip and timm compute with the same weights."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.goldens import seeded
from tests.helpers.pe_core import CLIPS, CUT, TEXTS
from vidembed.encode import registry
from vidembed.encode.base import build
from vidembed.encode.pe_core.layout import ARCHITECTURES, expected_shapes, visual_shapes
from vidembed.encode.pe_core.model import PeCore, rotated, rotation
from vidembed.errors import WeightsError
from vidembed.pixels import prepare

GOLDENS = np.load(seeded.__file__.replace("seeded.py", "pe_core.npz"))
NAME = "pe_core_t"
# Nearer than float32 needs: normalisation with an eps of 1e-6 is 5e-6 away.
ERROR = 2e-6


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The smallest PE-Core, whole, as `hf download timm/PE-Core-T-16-384` leaves it."""
    folder = tmp_path_factory.mktemp("PE-Core-T-16-384")
    state = seeded.torch_state(expected_shapes(ARCHITECTURES[NAME]))
    save_file(state, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def encoder(folder):
    return registry.load_encoder(NAME, str(folder), device="cpu", dtype="float32")


def clip(number: int) -> np.ndarray:
    height, width, seed = CLIPS[number]
    return seeded.clip(8, height, width, seed)[None]


# The same vectors


def test_frames_of_any_size_become_the_vectors_of_the_reference(encoder):
    found = np.concatenate([encoder.encode_video(clip(k)) for k in range(len(CLIPS))])
    assert seeded.relative_error(found, GOLDENS["video"]) < ERROR
    # Not because all are alike.
    assert (found @ found.T)[np.triu_indices(3, 1)].max() < 0.99


def test_texts_become_the_vectors_of_the_reference(encoder):
    found = encoder.encode_text(list(TEXTS))
    assert seeded.relative_error(found, GOLDENS["text"]) < ERROR
    assert (found @ found.T)[np.triu_indices(5, 1)].max() < 0.99


def test_texts_are_cleaned_and_cut_as_by_open_clip(encoder):
    assert np.array_equal(encoder._tokenizer.encode(list(TEXTS), 32), GOLDENS["tokens"])


@pytest.mark.parametrize(("row", "golden"), [("pe_core_b", "base"), ("pe_core_l", "large")])
def test_the_image_towers_of_the_larger_ones_compute_as_timms(row, golden):
    made = replace(ARCHITECTURES[row], depth=2, text_depth=0, text_width=64)
    state = seeded.torch_state(expected_shapes(made))
    model = build(partial(PeCore, made), state, "seeded")
    assert CUT[golden][1] == made.image
    frames = prepare(clip(0)[0], registry.entry(row).default.resize)
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        turn = rotation(made.grid, made.width // made.heads)
        found = model.visual((pixels - 0.5) / 0.5, turn)
    assert seeded.relative_error(found.numpy(), GOLDENS[golden]) < ERROR


def test_a_clip_is_the_mean_of_frames_that_are_not_normalised_before(encoder):
    frames = clip(0)
    each = [encoder._model.visual(pixels, encoder._turn) for pixels in _pixels(frames)]
    mean = torch.cat(each).mean(dim=0)
    expected = torch.nn.functional.normalize(mean, dim=0).detach().numpy()
    assert seeded.relative_error(encoder.encode_video(frames)[0], expected) < ERROR
    lengths = torch.cat(each).norm(dim=-1)
    assert lengths.max() / lengths.min() > 1.0001


def _pixels(frames):
    prepared = prepare(frames[0], registry.entry(NAME).default.resize)
    return [(torch.from_numpy(f).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5 for f in prepared]


# Rotary positions


def test_positions_turn_by_column_then_row_counted_from_one():
    cos, sin = rotation(3, 8)
    assert cos.shape == sin.shape == (9, 8)
    bands = 1 / 10000 ** (np.arange(2) / 2)
    row, column = divmod(5, 3)
    angles = np.repeat(np.concatenate([(column + 1) * bands, (row + 1) * bands]), 2)
    assert np.allclose(cos[5], np.cos(angles))
    assert np.allclose(sin[5], np.sin(angles))


def test_turning_keeps_the_length_of_each_pair():
    x = torch.randn(2, 9, 8, generator=torch.Generator().manual_seed(0))
    turned = rotated(x, rotation(3, 8))
    pairs = x.unflatten(-1, (4, 2)).norm(dim=-1)
    assert torch.allclose(turned.unflatten(-1, (4, 2)).norm(dim=-1), pairs, atol=1e-6)
    assert not torch.allclose(turned, x, atol=0.1)


# What it is, and what it refuses


def test_the_spec_is_known_from_names_and_shapes(folder):
    spec = registry.describe(NAME, str(folder))
    assert (spec.dim, spec.metric, spec.context_length) == (512, "COSINE", 32)
    assert spec.clip.shape == (8, 384, 384, 3)
    assert (spec.clip.sampling.kind, spec.clip.resize.fit) == ("nearest", "squash")
    assert spec.architecture == "PE-Core T/16"


@pytest.mark.parametrize("row", ["pe_core_b", "pe_core_l"])
def test_weights_of_another_size_are_refused(folder, row):
    with pytest.raises(WeightsError, match=r"is a PE-Core T/16: --encoder pe_core_t takes it"):
        registry.describe(row, str(folder))


def test_a_missing_and_an_unexpected_tensor_are_named(tmp_path):
    shapes = visual_shapes(ARCHITECTURES[NAME])
    state = {name: torch.zeros(shape) for name, shape in shapes.items()}
    del state["visual.trunk.attn_pool.latent"]
    state["visual.trunk.rope.bands"] = torch.zeros(16)
    save_file(state, tmp_path / "cut.safetensors")
    with pytest.raises(WeightsError) as caught:
        registry.describe(NAME, str(tmp_path / "cut.safetensors"))
    assert "missing: logit_scale" in str(caught.value)
    assert "1 unexpected: visual.trunk.rope.bands" in str(caught.value)


def test_other_folders_of_open_clips_are_not_taken_for_hugging_faces(tmp_path):
    for name in ("model", "open_clip_model"):
        save_file({f"of_{name}": torch.zeros(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(WeightsError, match=r"1 unexpected: of_model$"):
        registry.describe(NAME, str(tmp_path))


# Batches and types


def test_a_batch_is_its_clips_and_none_is_fine(encoder):
    both = np.concatenate([clip(2), clip(2)[:, ::-1]])
    found = encoder.encode_video(both)
    assert seeded.relative_error(found[:1], GOLDENS["video"][2:]) < ERROR
    # The mean does not know the order.
    assert seeded.relative_error(found[1], found[0]) < ERROR
    assert encoder.encode_video(both[:0]).shape == (0, 512)
    assert encoder.encode_text([]).shape == (0, 512)


def test_another_number_of_frames_is_taken(encoder):
    assert encoder.encode_video(clip(0)[:, :3]).shape == (1, 512)


@pytest.mark.parametrize("frames", [np.zeros((1, 8, 9, 9, 4), np.uint8), np.zeros((1, 8, 9, 9, 3))])
def test_what_is_no_clip_is_refused(encoder, frames):
    with pytest.raises(ValueError, match="expected uint8 RGB"):
        encoder.encode_video(frames)


def test_bfloat16_is_near(folder):
    half = registry.load_encoder(NAME, str(folder), device="cpu", dtype="bfloat16")
    found = half.encode_video(clip(0)[:, :2])
    assert found.dtype == np.float32
    whole = registry.load_encoder(NAME, str(folder), device="cpu", dtype="float32")
    assert 0.995 < float(found[0] @ whole.encode_video(clip(0)[:, :2])[0]) < 1
    texts = half.encode_text(TEXTS[:1]) @ whole.encode_text(TEXTS[:1]).T
    assert 0.995 < float(texts[0, 0]) < 1
