"""CLIP4Clip checkpoints: read strictly in both layouts, and turned into the reference's vectors."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.goldens import seeded
from tests.helpers import checkpoints as make
from vidembed.encode import registry
from vidembed.encode.clip4clip import layout
from vidembed.encode.clip4clip.describe import architecture_of
from vidembed.encode.clip4clip.model import Clip4Clip
from vidembed.encode.clip4clip.tokenizer import CLIP_MERGES, ClipTokenizer, clean, read_merges
from vidembed.encode.weights import find
from vidembed.errors import ConfigError, WeightsError

TEXTS = ["a dog runs", "kids feeding and playing with the horse", "Two people’s car &amp; a boat"]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Tiny networks gain nothing from more, and lose much where cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def states():
    return {head: make.reference_state(head) for head in make.HEADS}


@pytest.fixture(scope="module")
def files(folder, states):
    return {
        head: str(make.write_reference(folder / f"pytorch_model.bin.{n}", states[head]))
        for n, head in enumerate(make.HEADS)
    }


@pytest.fixture(scope="module")
def encoders(files):
    return {head: load(path) for head, path in files.items()}


@pytest.fixture(scope="module")
def tokenizer():
    return ClipTokenizer.from_merges(read_merges(CLIP_MERGES))


def load(weights, name="clip4clip", **options):
    return registry.load_encoder(name, str(weights), device="cpu", **options)


def clips(batch=3, frames=5, height=16, width=16, seed=1):
    draw = np.random.default_rng(seed)
    return draw.integers(0, 256, (batch, frames, height, width, 3), np.uint8)


def refusal(path, state=None):
    if state is not None:
        make.write_reference(path, state)
    with pytest.raises(WeightsError) as caught:
        registry.describe("clip4clip", str(path))
    return str(caught.value)


# What the vectors are


@pytest.mark.parametrize("head", make.HEADS)
def test_video_vectors_are_the_reference_s(head, encoders, states):
    frames, valid = clips(), [5, 3, 1]
    mask = torch.arange(5)[None] < torch.tensor(valid)[:, None]
    expected = make.reference_video(states[head], torch.from_numpy(frames), mask)
    found = encoders[head].encode_video(frames, valid)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("head", make.HEADS)
def test_text_vectors_are_the_reference_s(head, encoders, states, tokenizer):
    ids = torch.from_numpy(tokenizer.encode(TEXTS, 32))
    expected = make.reference_text(states[head], ids)
    found = encoders[head].encode_text(TEXTS)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("pickled", [False, True])
def test_both_layouts_give_equal_vectors(pickled, folder, states, encoders):
    place = folder / f"hugging-{pickled}"
    other = load(make.write_hugging_face(place, states["meanP"], pickled=pickled))
    frames = clips()
    ours = encoders["meanP"]
    np.testing.assert_allclose(other.encode_video(frames), ours.encode_video(frames), atol=1e-6)
    np.testing.assert_allclose(other.encode_text(TEXTS), ours.encode_text(TEXTS), atol=1e-6)


def test_each_layout_samples_as_its_source_does(folder, states, files):
    place = make.write_hugging_face(folder / "sampled", states["meanP"])
    reference = registry.describe("clip4clip", files["meanP"])
    hugging_face = registry.describe("clip4clip", str(place))
    sampling = reference.clip.sampling
    assert (sampling.kind, sampling.count, sampling.pad) == ("clip4clip", 12, "mask")
    assert (hugging_face.clip.sampling.kind, hugging_face.clip.sampling.count) == ("uniform", 12)
    assert reference.context_length == 32
    assert hugging_face.context_length == 77
    assert reference.dim == hugging_face.dim == make.DIM


def test_a_tensor_in_half_precision_is_computed_in_single(folder, states):
    state = make.halved(states["seqTransf"])
    assert {v.dtype for v in state.values()} == {torch.float16, torch.float32}
    half = load(make.write_reference(folder / "half.bin", state))
    upcast = {k: v.float() for k, v in state.items()}
    frames = clips()
    mask = torch.ones(3, 5, dtype=torch.bool)
    expected = make.reference_video(upcast, torch.from_numpy(frames), mask)
    np.testing.assert_allclose(half.encode_video(frames), expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("head", make.HEADS)
def test_a_file_that_was_halved_as_a_whole_is_computed_in_single(head, folder, states):
    state = {name: tensor.half() for name, tensor in states[head].items()}
    half = load(make.write_reference(folder / f"all-half-{head}.bin", state))
    upcast = {name: tensor.float() for name, tensor in state.items()}
    frames, mask = clips(), torch.ones(3, 5, dtype=torch.bool)
    expected = make.reference_video(upcast, torch.from_numpy(frames), mask)
    np.testing.assert_allclose(half.encode_video(frames), expected.numpy(), atol=1e-6)


def test_frames_of_any_size_are_resized_and_cropped_as_the_reference_does(encoders):
    from PIL import Image

    frames = clips(1, 2, height=40, width=54)
    small = np.stack([np.asarray(Image.fromarray(f).resize((21, 16), 3)) for f in frames[0]])
    cropped = small[None, :, :, 2:18]
    encoder = encoders["meanP"]
    np.testing.assert_array_equal(encoder.encode_video(frames), encoder.encode_video(cropped))


# Masks and batches


@pytest.mark.parametrize("head", make.HEADS)
def test_padded_frames_do_not_change_the_vector(head, encoders):
    frames = clips(2, 6)
    padded = frames.copy()
    padded[:, 4:] = 0
    encoder = encoders[head]
    alone = encoder.encode_video(frames[:, :4])
    np.testing.assert_array_equal(
        encoder.encode_video(frames, [4, 4]), encoder.encode_video(padded, [4, 4])
    )
    np.testing.assert_allclose(encoder.encode_video(padded, [4, 4]), alone, atol=1e-6)
    assert np.abs(encoder.encode_video(padded) - alone).max() > 1e-3


@pytest.mark.parametrize("head", make.HEADS)
def test_a_clip_s_vector_does_not_depend_on_its_batch(head, encoders):
    frames = clips(16)
    valid = [1 + k % 5 for k in range(16)]
    encoder = encoders[head]
    together = encoder.encode_video(frames, valid)
    apart = [encoder.encode_video(frames[k : k + 1], valid[k : k + 1])[0] for k in range(16)]
    np.testing.assert_allclose(together, np.stack(apart), atol=1e-6)


def test_a_text_s_vector_does_not_depend_on_its_batch(encoders):
    encoder = encoders["meanP"]
    together = encoder.encode_text(TEXTS * 100)
    apart = np.concatenate([encoder.encode_text([text]) for text in TEXTS])
    np.testing.assert_allclose(together[:3], apart, atol=1e-6)
    np.testing.assert_allclose(together[-3:], apart, atol=1e-6)


@pytest.mark.parametrize("head", make.HEADS)
def test_a_clip_without_a_valid_frame_is_finite(head, encoders):
    assert np.isfinite(encoders[head].encode_video(clips(1), [0])).all()


def test_the_order_of_frames_matters_to_heads_that_see_it_and_only_to_those(encoders):
    frames = clips(1, 5)
    for head, sees_order in (("meanP", False), ("seqLSTM", True), ("seqTransf", True)):
        turned = encoders[head].encode_video(frames[:, ::-1])
        difference = np.abs(turned - encoders[head].encode_video(frames)).max()
        assert (difference > 1e-3) == sees_order


def test_nothing_in_gives_nothing_out(encoders):
    encoder = encoders["meanP"]
    assert encoder.encode_video(clips(0)).shape == (0, make.DIM)
    assert encoder.encode_text([]).shape == (0, make.DIM)


@pytest.mark.parametrize(
    ("frames", "got"),
    [
        (np.zeros((1, 2, 16, 16, 3), np.float32), r"float32 \(1, 2, 16, 16, 3\)"),
        (np.zeros((2, 16, 16, 3), np.uint8), r"uint8 \(2, 16, 16, 3\)"),
        (np.zeros((1, 2, 3, 16, 16), np.uint8), r"uint8 \(1, 2, 3, 16, 16\)"),
        (np.zeros((1, 0, 16, 16, 3), np.uint8), r"uint8 \(1, 0, 16, 16, 3\)"),
        ([[1]], "list"),
    ],
)
def test_frames_of_another_kind_are_refused_with_what_came(frames, got, encoders):
    with pytest.raises(ValueError, match=got) as caught:
        encoders["meanP"].encode_video(frames)
    assert "expected uint8 RGB [batch, frames, height, width, 3]" in str(caught.value)


def test_more_frames_than_the_head_has_positions_are_refused(encoders):
    with pytest.raises(ValueError, match="takes 1 to 77 frames a clip, got 78"):
        encoders["seqTransf"].encode_video(clips(1, 78))
    assert encoders["meanP"].encode_video(clips(1, 78)).shape == (1, make.DIM)


def test_one_text_instead_of_a_list_is_refused(encoders):
    with pytest.raises(TypeError, match="expected a list of texts"):
        encoders["meanP"].encode_text("a dog runs")


# What a checkpoint is


@pytest.mark.parametrize("head", make.HEADS)
def test_the_head_is_read_off_the_file(head, files):
    spec = registry.describe("clip4clip", files[head])
    assert spec.architecture == f"ViT-128/8 {head}"
    architecture, is_reference = architecture_of(find(files[head]))
    assert is_reference
    assert architecture.head == head


@pytest.mark.parametrize("head", make.HEADS)
def test_expected_shapes_are_those_of_the_real_module(head, files):
    architecture, _ = architecture_of(find(files[head]))
    with torch.device("meta"):
        module = Clip4Clip(architecture)
    real = {k.removeprefix("clip."): tuple(v.shape) for k, v in module.state_dict().items()}
    assert layout.expected_shapes(architecture) == real


def test_openai_s_own_names_without_prefix_are_read(folder, states, encoders):
    state = {k.removeprefix("clip."): v for k, v in states["meanP"].items()}
    state |= {
        "input_resolution": torch.tensor(16),
        "context_length": torch.tensor(77),
        "vocab_size": torch.tensor(49408),
    }
    other = load(make.write_reference(folder / "openai.bin", state))
    frames = clips()
    np.testing.assert_array_equal(
        other.encode_video(frames), encoders["meanP"].encode_video(frames)
    )


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state"])
def test_wrappers_and_the_prefix_of_data_parallel_training_are_peeled(
    wrapper, folder, states, files
):
    inner = {f"module.{k}": v for k, v in states["seqLSTM"].items()}
    path = make.write_reference(folder / f"{wrapper}.bin", {wrapper: inner, "epoch": 3})
    plain = registry.describe("clip4clip", files["seqLSTM"])
    wrapped = registry.describe("clip4clip", str(path))
    assert wrapped.architecture == plain.architecture
    frames = clips(1)
    np.testing.assert_array_equal(
        load(path).encode_video(frames), load(files["seqLSTM"]).encode_video(frames)
    )


def test_missing_and_unexpected_tensors_are_listed(tmp_path, states):
    state = dict(states["meanP"])
    del state["clip.visual.ln_pre.bias"]
    state["clip.visual.surprise"] = torch.zeros(1)
    text = refusal(tmp_path / "wrong.bin", state)
    assert "1 missing: vision_model.pre_layrnorm.bias" in text
    assert "1 unexpected: clip.visual.surprise" in text
    assert "wrong.bin does not fit the encoder" in text


def test_a_head_s_missing_tensor_is_listed(tmp_path, states):
    state = dict(states["seqTransf"])
    del state["transformerClip.resblocks.1.mlp.c_fc.weight"]
    text = refusal(tmp_path / "wrong.bin", state)
    assert "1 missing: transformerClip.resblocks.1.mlp.c_fc.weight" in text


def test_a_tensor_of_another_shape_is_named_with_both_shapes(tmp_path, states):
    state = states["meanP"] | {"clip.visual.ln_pre.bias": torch.zeros(5)}
    text = refusal(tmp_path / "wrong.bin", state)
    assert "vision_model.pre_layrnorm.bias has shape (5,), expected (128,)" in text


def test_the_attention_s_fused_tensor_of_a_wrong_size_is_refused(tmp_path, states):
    key = "clip.visual.transformer.resblocks.0.attn.in_proj_bias"
    text = refusal(tmp_path / "wrong.bin", states["meanP"] | {key: torch.zeros(3 * 128 + 1)})
    assert "self_attn.q_proj.bias has shape (385,), expected (128,)" in text


def test_a_checkpoint_that_lost_the_tensors_it_is_recognised_by_is_refused(tmp_path, states):
    state = dict(states["meanP"])
    del state["clip.text_projection"]
    assert "clip.text_projection is missing" in refusal(tmp_path / "wrong.bin", state)
    state["clip.text_projection"] = torch.zeros(3)
    assert "clip.text_projection has shape (3,)" in refusal(tmp_path / "wrong.bin", state)


def test_a_head_that_scores_pairs_is_refused_with_what_it_is_for(tmp_path):
    text = refusal(tmp_path / "tight.bin", make.reference_state("tightTransf"))
    assert "tight.bin is a tightTransf checkpoint" in text
    assert "cannot be embedded" in text
    assert "vidembed search --rerank" in text


def test_a_pair_scoring_head_of_which_a_part_is_missing_is_listed(tmp_path):
    state = make.reference_state("tightTransf")
    del state["cross.pooler.dense.bias"]
    assert "1 missing: cross.pooler.dense.bias" in refusal(tmp_path / "tight.bin", state)


# Patches that span frames: linear_patch 3d


@pytest.fixture(scope="module")
def spanning():
    return {head: make.reference_state(head, spans_frames=True) for head in make.HEADS}


@pytest.mark.parametrize("head", make.HEADS)
def test_vectors_of_patches_that_span_frames_are_the_reference_s(head, folder, spanning, encoders):
    path = make.write_reference(folder / f"3d-{head}.bin", spanning[head])
    encoder = load(path)
    assert encoder.spec.architecture == f"ViT-128/8 {head} 3d"
    frames, valid = clips(4), [5, 3, 1, 5]
    mask = torch.arange(5)[None] < torch.tensor(valid)[:, None]
    expected = make.reference_video(spanning[head], torch.from_numpy(frames), mask).numpy()
    found = encoder.encode_video(frames, valid)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # The same towers with patches of one frame are far from it.
    assert np.abs(encoders[head].encode_video(frames, valid) - expected).max() > 1e-2


def test_patches_that_span_frames_see_their_neighbours_of_the_same_clip_only(folder, spanning):
    encoder = load(make.write_reference(folder / "3d-order.bin", spanning["meanP"]))
    frames = clips(2, 4)
    turned = encoder.encode_video(frames[:, ::-1])
    together = encoder.encode_video(frames)
    assert np.abs(turned - together).max() > 1e-3
    apart = [encoder.encode_video(clip[None])[0] for clip in frames]
    np.testing.assert_allclose(together, apart, atol=1e-6)
    # Whatever stands in the padding, the last valid frame has zeros after it.
    padded = encoder.encode_video(frames, [3, 3])
    np.testing.assert_allclose(padded, encoder.encode_video(frames[:, :3]), atol=1e-6)
    assert np.isfinite(encoder.encode_video(frames, [0, 4])).all()


def test_a_kernel_over_another_number_of_frames_is_refused(tmp_path, states):
    state = states["meanP"] | {"clip.visual.conv2.weight": torch.zeros(128, 3, 5, 8, 8)}
    text = refusal(tmp_path / "3d.bin", state)
    assert "patch_embedding.weight has shape (128, 15, 8, 8), expected (128, 9, 8, 8)" in text


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path):
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(marker),))

    (tmp_path / "evil.bin").write_bytes(pickle.dumps({"weight": Evil()}, protocol=2))
    torch.save({"weight": Evil()}, tmp_path / "evil.zip.bin")
    for name in ("evil.bin", "evil.zip.bin"):
        text = refusal(tmp_path / name)
        assert "cannot be opened safely" in text
        assert "safetensors" in text
    assert not marker.exists()


def as_module(tensors):
    """Modules in modules, with these parameters and, for whole numbers, buffers."""
    module = torch.nn.Module()
    below = {}
    for name, tensor in tensors.items():
        first, dot, rest = name.partition(".")
        if dot:
            below.setdefault(first, {})[rest] = tensor
        elif tensor.is_floating_point():
            module.register_parameter(name, torch.nn.Parameter(tensor, requires_grad=False))
        else:
            module.register_buffer(name, tensor)
    for name, inner in below.items():
        module.add_module(name, as_module(inner))
    return module


@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore:.*TorchScript")
def test_openai_s_archive_is_refused_and_loads_once_converted_as_the_message_says(
    tmp_path, states, encoders
):
    from safetensors.torch import save_file

    bare = {k.removeprefix("clip."): v for k, v in make.halved(states["meanP"]).items()}
    facts = {"input_resolution": 16, "context_length": 77, "vocab_size": 49408}
    bare |= {name: torch.tensor(value) for name, value in facts.items()}
    archive = tmp_path / "ViT-B-32.pt"
    torch.jit.script(as_module(bare)).save(str(archive))
    text = refusal(archive)
    assert "torch.jit.load for a TorchScript archive" in text
    assert "take its state_dict()" in text
    assert "safetensors.torch.save_file" in text

    state = torch.jit.load(str(archive), map_location="cpu").state_dict()
    path = tmp_path / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    converted = load(path)
    assert converted.spec.context_length == 32
    frames = clips()
    assert (
        seeded.relative_error(
            converted.encode_video(frames), encoders["meanP"].encode_video(frames)
        )
        < 1e-3
    )
    halved = load(make.write_reference(tmp_path / "halved.bin", make.halved(states["meanP"])))
    np.testing.assert_array_equal(converted.encode_video(frames), halved.encode_video(frames))
    np.testing.assert_array_equal(converted.encode_text(TEXTS), halved.encode_text(TEXTS))


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "noise.bin").write_bytes(os.urandom(2000))
    assert "cannot be opened safely" in refusal(tmp_path / "noise.bin")
    (tmp_path / "noise.safetensors").write_bytes(os.urandom(2000))
    assert "is not a safetensors file" in refusal(tmp_path / "noise.safetensors")
    (tmp_path / "short.safetensors").write_bytes(b"12")
    assert "is not a safetensors file" in refusal(tmp_path / "short.safetensors")


def test_a_folder_without_weights_or_of_another_model_is_refused(tmp_path, states):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds neither model.safetensors nor pytorch_model.bin" in refusal(empty)
    other = make.write_hugging_face(tmp_path / "other", states["meanP"])
    (other / "config.json").write_text(json.dumps({"model_type": "siglip"}))
    assert "a model of type 'siglip', not a CLIP" in refusal(other)
    (other / "config.json").write_text("{")
    assert "is not valid JSON" in refusal(other)
    (other / "config.json").unlink()
    assert "nor a config.json beside it" in refusal(other)


def test_a_place_where_nothing_is_is_refused(tmp_path):
    assert "no weights at" in refusal(tmp_path / "absent.bin")


def test_a_hub_id_that_cannot_be_reached_says_in_one_sentence_what_to_do():
    code = (
        "from vidembed.encode import registry\n"
        "from vidembed.errors import WeightsError\n"
        "try: registry.describe('clip4clip', 'someone/some-clip')\n"
        "except WeightsError as error: print(error)\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert time.monotonic() - began < 30
    assert done.stdout.count("\n") == 1
    assert "someone/some-clip" in done.stdout
    assert "hf download someone/some-clip --local-dir some-clip" in done.stdout
    assert "--weights FOLDER" in done.stdout
    assert done.stderr == ""


def test_weights_for_an_encoder_that_ships_its_own_are_refused(files):
    with pytest.raises(ConfigError, match="clip4clip-tiny ships with its weights"):
        registry.describe("clip4clip-tiny", files["meanP"])


# What makes vectors comparable


def test_the_fingerprint_changes_with_weights_and_sampling_only(folder, files):
    spec = registry.describe("clip4clip", files["meanP"])
    copy = shutil.copy(files["meanP"], folder / "copy.bin")
    assert registry.describe("clip4clip", str(copy)).fingerprint == spec.fingerprint
    other = make.write_reference(folder / "other.bin", make.reference_state(seed=9))
    assert registry.describe("clip4clip", str(other)).fingerprint != spec.fingerprint
    assert spec.sampled(count=6).fingerprint != spec.fingerprint
    assert spec.sampled(kind="uniform").fingerprint != spec.fingerprint
    assert spec.sampled().fingerprint == spec.fingerprint
    assert len(spec.fingerprint) == 16


def test_weights_that_changed_since_the_run_began_are_refused(tmp_path, states):
    path = make.write_reference(tmp_path / "weights.bin", states["meanP"])
    spec = registry.describe("clip4clip", str(path))
    make.write_reference(path, make.reference_state(seed=5))
    with pytest.raises(WeightsError, match="are not those that the run was started with"):
        registry.load(spec, "cpu", "float32")


def test_bfloat16_stays_near_single_precision(files, encoders):
    frames = clips()
    near = load(files["seqTransf"], dtype="bfloat16").encode_video(frames)
    exact = encoders["seqTransf"].encode_video(frames)
    assert near.dtype == np.float32
    assert ((near * exact).sum(axis=1) > 0.999).all()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_named(files):
    with pytest.raises(ConfigError, match="torch sees no GPU here"):
        registry.load_encoder("clip4clip", files["meanP"], device="cuda")


# Texts to ids


def test_the_published_example_has_the_published_ids(tokenizer):
    ids = tokenizer.encode(["kids feeding and playing with the horse"], 32)[0]
    expected = [49406, 1911, 9879, 537, 1629, 593, 518, 4558, 49407]
    assert ids.tolist() == expected + [0] * 23


def test_a_text_too_long_is_cut_and_keeps_its_end(tokenizer):
    long = " ".join(["horse"] * 100)
    for length in (2, 5, 32, 77):
        ids = tokenizer.encode([long], length)[0].tolist()
        assert ids == [49406] + [4558] * (length - 2) + [49407]


def test_an_empty_text_is_its_start_and_end(tokenizer):
    assert tokenizer.encode(["", "  \n "], 4).tolist() == [[49406, 49407, 0, 0]] * 2


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Tom &amp;amp; Jerry", "tom & jerry"),
        ("the dog’s “ball”", 'the dog\'s "ball"'),
        ("  two\t\nspaces   here ", "two spaces here"),
        ("caf\u00c3\u00a9", "caf\u00e9"),
        ("o\ufb03ce", "office"),
        ("DOG", "dog"),
    ],
)
def test_texts_are_cleaned_as_the_reference_does(written, meant, tokenizer):
    assert clean(written) == meant
    assert tokenizer.encode([written], 16).tolist() == tokenizer.encode([meant], 16).tolist()


def test_what_follows_the_end_of_a_text_does_not_change_its_vector(encoders, states, tokenizer):
    ids = tokenizer.encode(TEXTS[:1], 32)
    padded = ids.copy()
    padded[0, int(ids[0].argmax()) + 1 :] = 49407
    first, other = (
        make.reference_text(states["meanP"], torch.from_numpy(x)) for x in (ids, padded)
    )
    assert torch.allclose(first, other, atol=1e-6)
    np.testing.assert_allclose(encoders["meanP"].encode_text(TEXTS[:1]), other, atol=1e-6)


def test_merges_that_are_no_pairs_are_refused_with_the_line():
    with pytest.raises(ValueError, match="line 2 of the merges is not two symbols: 'abc'"):
        ClipTokenizer.from_merges(["a b", "abc"])


def test_the_vocabulary_is_clip_s(tokenizer):
    assert (tokenizer.vocab_size, tokenizer.start_id, tokenizer.end_id) == (49408, 49406, 49407)


def test_weights_given_by_a_relative_path_mean_the_same_from_another_folder(
    tmp_path, monkeypatch, clip_folder
):
    monkeypatch.chdir(Path(clip_folder).parent)
    spec = registry.describe("clip4clip", Path(clip_folder).name)
    monkeypatch.chdir(tmp_path)
    assert spec.weights == clip_folder
    assert registry.load(spec).spec.dim == 64
