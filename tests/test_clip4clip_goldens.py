"""CLIP4Clip and CLIP at ViT-B's real size: files in the official layouts give what Towhee's port,
OpenAI's code, transformers and torchvision gave for the same weights, clips and texts.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import vidembed
from tests.goldens import seeded
from tests.goldens.recipes import CLIPS, HEADS, SIZES, TEXTS, VALID, config, head_state
from tests.helpers import checkpoints
from vidembed.clips import Resize
from vidembed.encode import registry
from vidembed.pixels import prepare

GOLDENS = Path(__file__).parent / "goldens"
TOLERANCE = 1e-5


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def goldens():
    return dict(np.load(GOLDENS / "clip4clip.npz"))


@pytest.fixture(scope="module")
def clips():
    return CLIPS()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A whole ViT-B/32, its tensors halved where those of the reference are."""
    path = tmp_path_factory.mktemp("whole") / "pytorch_model.bin.4"
    shapes = checkpoints.reference_shapes(size=checkpoints.vit_b(32))
    checkpoints.write_reference(path, checkpoints.halved(seeded.torch_state(shapes)))
    yield registry.load_encoder("clip4clip", str(path), device="cpu")
    path.unlink()


def far_apart(golden):
    """Whether no two rows are so near each other that a mistake could hide."""
    cosines = golden @ golden.T - np.eye(len(golden))
    return cosines.max() < 0.95


def close(found, golden):
    assert far_apart(golden)
    assert seeded.relative_error(found, golden) <= TOLERANCE


# Vectors


def test_clips_through_a_whole_model_give_the_vectors_of_towhee_s_port(whole, clips, goldens):
    assert whole.spec.architecture == "ViT-B/32 meanP"
    assert (whole.spec.dim, whole.spec.context_length) == (512, 32)
    close(whole.encode_video(clips, VALID), goldens["towhee_video"])


def test_texts_through_a_whole_model_give_the_vectors_of_towhee_s_port(whole, goldens):
    close(whole.encode_text(TEXTS), goldens["towhee_text"])


def test_cosines_are_towhee_s_similarities_without_their_scale(goldens):
    scale = np.exp(np.log(20.0))
    cosines = goldens["towhee_text"] @ goldens["towhee_video"].T
    np.testing.assert_allclose(scale * cosines, goldens["towhee_logits"], atol=1e-4)


@pytest.fixture(scope="module")
def openai(tmp_path_factory):
    """ViT-B/16, two layers deep, under OpenAI's own names and with its scalars."""
    size = checkpoints.vit_b(16, layers=2)
    state = seeded.torch_state(checkpoints.reference_shapes(size=size))
    bare = {name.removeprefix("clip."): tensor for name, tensor in state.items()}
    facts = {"input_resolution": 224, "context_length": 77, "vocab_size": 49408}
    bare |= {name: torch.tensor(value) for name, value in facts.items()}
    path = tmp_path_factory.mktemp("openai") / "ViT-B-16.bin"
    torch.save(bare, path)
    return registry.load_encoder("clip4clip", str(path), device="cpu")


def test_images_and_texts_of_b16_are_openai_s(openai, clips, goldens):
    assert openai.spec.architecture == "ViT-B/16 meanP"
    close(openai.encode_video(clips[:, :1]), goldens["openai_image"])
    short = [k for k, text in enumerate(TEXTS) if len(text.split()) < 20]
    close(openai.encode_text([TEXTS[k] for k in short]), goldens["openai_text"][short])


def test_a_text_is_cut_at_32_tokens_where_openai_reads_77(openai, goldens):
    found = openai.encode_text(TEXTS[-1:])
    assert seeded.relative_error(found, goldens["openai_text"][-1:]) > 0.01


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_a_hugging_face_folder_gives_the_vectors_of_transformers(act, tmp_path, clips, goldens):
    from safetensors.torch import save_file
    from transformers import CLIPConfig, CLIPModel

    with torch.device("meta"):
        empty = CLIPModel(CLIPConfig(**config(act)))
    shapes = {name: tuple(tensor.shape) for name, tensor in empty.state_dict().items()}
    save_file(seeded.torch_state(shapes), tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(config(act)))
    encoder = registry.load_encoder("clip4clip", str(tmp_path), device="cpu")
    assert encoder.spec.context_length == 77
    close(encoder.encode_video(clips[:, :1]), goldens[f"hf_{act}_image"])
    close(encoder.encode_text(TEXTS), goldens[f"hf_{act}_text"])


def test_the_goldens_tell_the_two_activations_apart(goldens):
    one, other = goldens["hf_gelu_text"], goldens["hf_quick_gelu_text"]
    assert seeded.relative_error(one, other) > 100 * TOLERANCE


@pytest.mark.parametrize(("head", "spans"), HEADS)
def test_each_head_on_openai_s_towers_gives_what_torch_s_own_modules_give(
    head, spans, tmp_path, clips, goldens
):
    size = checkpoints.vit_b(32, layers=2)
    shapes = checkpoints.reference_shapes(head, size, spans_frames=spans)
    path = str(checkpoints.write_reference(tmp_path / "w.bin", head_state(head, shapes)))
    golden = goldens[head + ("_3d" if spans else "")]
    if head == "tightTransf":
        found = vidembed.load_reranker(path, device="cpu").score(TEXTS, clips, VALID)
        assert np.ptp(golden, axis=1).min() > 0.3
        np.testing.assert_allclose(found, golden, atol=1e-5 * np.abs(golden).max())
        return
    encoder = registry.load_encoder("clip4clip", path, device="cpu")
    close(encoder.encode_video(clips, VALID), golden)


def test_shapes_are_those_of_the_published_counts():
    """Parameters of ViT-B/32 with each head, counted on the reference's modules."""
    counts = {"meanP": 151_277_313, "seqLSTM": 153_417_985, "seqTransf": 163_926_273}
    for head, count in (counts | {"tightTransf": 164_190_466}).items():
        shapes = checkpoints.reference_shapes(head, checkpoints.vit_b(32))
        assert sum(int(np.prod(shape)) for shape in shapes.values()) == count
    spanning = checkpoints.reference_shapes(size=checkpoints.vit_b(32), spans_frames=True)
    assert sum(int(np.prod(shape)) for shape in spanning.values()) == 158_355_201


# Pixels


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_frames_are_scaled_and_cropped_as_torchvision_does(height, width):
    goldens = np.load(GOLDENS / "clip_pixels.npz")
    pixels = prepare(seeded.clip(1, height, width), Resize(short_side=224, crop=224))[0]
    name = f"{height}x{width}"
    np.testing.assert_array_equal(pixels[::31, ::31], goldens[f"sample_{name}"])
    digest = hashlib.sha256(pixels.tobytes()).digest()
    assert digest == goldens[f"digest_{name}"].tobytes()


def test_pixels_are_normalised_as_torchvision_does(openai):
    goldens = np.load(GOLDENS / "clip_pixels.npz")
    for height, width in SIZES:
        pixels = prepare(seeded.clip(1, height, width), Resize(short_side=224, crop=224))
        found = openai.normalised(pixels)[0].numpy()[:, ::31, ::31]
        np.testing.assert_allclose(found, goldens[f"normalised_{height}x{width}"], atol=1e-6)
