"""MUGEN's VideoCLIP: three layouts of its weights, and the vectors of the reference's pieces."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.goldens import seeded
from tests.helpers.s3d import WIDTHS, lively_towers
from vidembed.encode import registry
from vidembed.encode.videoclip_mugen import layout, model, tokenizer
from vidembed.errors import WeightsError
from vidembed.pixels import prepare

GOLDEN = np.load(Path(__file__).parent / "goldens" / "videoclip_mugen.npz")
LAYERS, SEED = 2, 3
# As in tests.goldens.oracles.videoclip_mugen.
CLIPS = [(32, 240, 320, 1), (50, 227, 299, 2), (20, 321, 243, 3), (32, 224, 224, 4)]
TEXTS = [
    "raw text sample for testing tokenizer",
    "Mugen jumps onto the LADDER, and kills a gear!",
    "",
    "Café naïve ÅNGSTRÖM — “quoted” don't re-enter 3.14%",
    "走る dog\u0000\t\u200b zero [SEP] [MASK] ##ing ~",
    "supercalifragilisticexpialidocious " + "x" * 101 + " " + "y" * 100,
    "very long " * 30,
]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def state():
    """Of a checkpoint with two layers of DistilBERT, counts of batches included."""
    shapes = layout.expected_shapes(layout.Architecture(layers=LAYERS))
    counts = [name for name in GOLDEN["names"].tolist() if name.endswith("num_batches_tracked")]
    values = lively_towers(seeded.weights(shapes | dict.fromkeys(counts, ()), SEED))
    return {name: torch.from_numpy(np.asarray(value)) for name, value in values.items()}


@pytest.fixture(scope="module")
def bare(tmp_path_factory, state):
    path = tmp_path_factory.mktemp("mugen") / "videoclip_mugen.pt"
    torch.save(state, path)
    return str(path)


@pytest.fixture(scope="module")
def encoder(bare):
    return load(bare)


def load(weights, **options):
    return registry.load_encoder("videoclip_mugen", str(weights), device="cpu", **options)


def clip(frames, height, width, seed):
    return seeded.clip(frames, height, width, seed)[None]


def refusal(path, state):
    torch.save(state, path)
    with pytest.raises(WeightsError) as caught:
        registry.describe("videoclip_mugen", str(path))
    return str(caught.value)


# What the vectors are


@pytest.mark.parametrize("case", range(len(CLIPS)))
def test_video_vectors_are_the_reference_s_from_the_bytes_of_frames_on(case, encoder):
    # 50 and 20 frames are among them: of each, 32 are taken.
    found = encoder.encode_video(clip(*CLIPS[case]))
    assert found.dtype == np.float32
    assert seeded.relative_error(found, GOLDEN["video"][case : case + 1]) < 1e-5


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_text_vectors_are_the_reference_s(attention, encoder):
    found = encoder.encode_text(TEXTS)
    assert seeded.relative_error(found, GOLDEN[f"text_{attention}"]) < 1e-5


def test_both_towers_inside_torchmultimodal_s_clip_give_the_same(encoder):
    text, video = GOLDEN["together"]
    assert seeded.relative_error(encoder.encode_text(TEXTS[:1]), text) < 1e-5
    assert seeded.relative_error(GOLDEN["video"][:1], video) < 1e-6


def test_frames_are_scaled_as_torchvision_does_without_antialiasing(encoder):
    frames = seeded.clip(8, 61, 47, 9)[np.arange(32) * 8 // 32]
    pixels = encoder.normalised(prepare(frames, encoder.spec.clip.resize))
    found = pixels.transpose(0, 1)[:, ::4, ::37, ::41].numpy()
    np.testing.assert_allclose(found, GOLDEN["transformed"], atol=2e-6)


def test_vectors_have_unit_length_and_compare_by_cosine(encoder):
    assert encoder.spec.metric == "COSINE"
    np.testing.assert_allclose(np.linalg.norm(encoder.encode_text(TEXTS), axis=1), 1, atol=1e-6)


def test_bfloat16_is_close_and_the_result_is_float32(bare, encoder):
    half = load(bare, dtype="bfloat16")
    found = half.encode_video(clip(*CLIPS[3]))
    assert found.dtype == np.float32
    assert 0.98 < float(found[0] @ GOLDEN["video"][3]) < 0.999999
    texts = (half.encode_text(TEXTS) * encoder.encode_text(TEXTS)).sum(axis=1)
    assert texts.min() > 0.99


# Details that are easily lost


def test_of_four_moments_the_inner_two_count_twice(encoder):
    tower = encoder._model.encoder_b[0]
    features = torch.zeros(4, 1024, 4, 7, 7)
    for moment in range(4):
        features[moment, :, moment] = 1
    kept = tower.model.features
    try:
        tower.model.features = torch.nn.Identity()
        found = tower(features)[:, 0] * 6
    finally:
        tower.model.features = kept
    np.testing.assert_allclose(found.numpy(), [1, 2, 2, 1], atol=1e-6)


def test_the_normalisations_have_the_constants_of_their_own_training(encoder):
    modules = list(encoder._model.modules())
    batch = {m.eps for m in modules if isinstance(m, torch.nn.BatchNorm3d)}
    assert batch == {1e-3}
    assert encoder._model.encoder_a[1].layer_norm.eps == 1e-5
    assert encoder._model.encoder_a[0].model.embeddings.LayerNorm.eps == 1e-12


def test_word_pieces_are_those_of_hugging_face_s_bert_tokenizer():
    np.testing.assert_array_equal(tokenizer.encode(TEXTS, 512), GOLDEN["ids"])
    known = [101, 6315, 3793, 7099, 2005, 5604, 19204, 17629, 102]
    assert tokenizer.encode(TEXTS[:1], 512).tolist() == [known]


def test_a_text_longer_than_the_positions_is_cut_off_and_still_ends(encoder):
    ids = tokenizer.encode(["dog " * 1000, "cat"], encoder.spec.context_length)
    assert ids.shape == (2, 512)
    assert (ids[0, 0], ids[0, -1]) == (101, 102)
    assert ids[1, 3:].max() == 0
    assert np.isfinite(encoder.encode_text(["dog " * 1000])).all()


def test_the_padding_of_a_batch_does_not_change_a_text_s_vector(encoder):
    together = encoder.encode_text(TEXTS)
    alone = np.concatenate([encoder.encode_text([text]) for text in TEXTS])
    assert seeded.relative_error(together, alone) < 1e-5


def test_nothing_in_gives_nothing_out(encoder):
    assert encoder.encode_video(np.zeros((0, 32, 8, 8, 3), np.uint8)).shape == (0, 256)
    assert encoder.encode_text([]).shape == (0, 256)


@pytest.mark.parametrize(
    "frames", [np.zeros((1, 32, 8, 8, 3), np.float32), np.zeros((32, 8, 8, 3), np.uint8)]
)
def test_frames_of_another_kind_are_refused_with_what_came(frames, encoder):
    with pytest.raises(ValueError, match=re.escape(str(frames.shape))):
        encoder.encode_video(frames)


def test_presets_are_the_transform_s_and_the_dataset_s(bare):
    default = registry.describe("videoclip_mugen", bare).clip
    assert (default.sampling.kind, default.sampling.count) == ("nearest", 32)
    assert (default.resize.fit, default.resize.interpolation) == ("squash", "torch_bilinear_uint8")
    mugen = registry.describe("videoclip_mugen", bare, "mugen")
    assert mugen.clip.shape == (32, 224, 224, 3)
    assert mugen.context_length == 512


def test_mugen_s_clips_of_96_frames_give_every_third_frame_by_both_presets(bare):
    from tests.test_sampling import facts
    from vidembed.decode.sampling import sample

    every_third = list(range(0, 96, 3))
    for preset in (None, "mugen"):
        sampling = registry.describe("videoclip_mugen", bare, preset).clip.sampling
        assert sample(sampling, facts(96, 30), 0, 96).tolist() == every_third


# Files


def test_the_layout_is_that_of_the_reference_s_own_network():
    names = {n for n in GOLDEN["names"].tolist() if not n.endswith("num_batches_tracked")}
    expected = layout.expected_shapes(layout.Architecture(layers=6))
    assert set(expected) == names
    learned = sum(int(np.prod(shape)) for name, shape in expected.items() if "running" not in name)
    assert learned == 74_863_776


def test_a_lightning_checkpoint_is_read(tmp_path, state, encoder):
    wrapped = {f"model.{name}": value for name, value in state.items()}
    wrapped["contrastive_loss.logit_scale"] = torch.tensor(0.07)
    path = tmp_path / "videoclip_lightning_mugen.pt"
    torch.save({"epoch": 1, "state_dict": wrapped, "hyper_parameters": {}}, path)
    assert_same(load(path), encoder)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_checkpoint_of_mugen_baseline_is_read_under_its_own_names(
    prefix, tmp_path, state, encoder
):
    theirs = {prefix + their: state[ours] for their, ours in baseline_names(state).items()}
    assert len(theirs) == len(state)
    extra = {
        "temperature": torch.tensor(0.07),
        "max_temperature": torch.tensor(100.0),
        "text_encoder.model.embeddings.position_ids": torch.arange(512)[None],
    }
    path = tmp_path / "baseline.pt"
    torch.save(theirs | {prefix + name: value for name, value in extra.items()}, path)
    assert_same(load(path), encoder)


def assert_same(found, expected):
    np.testing.assert_allclose(
        found.encode_text(TEXTS[:2]), expected.encode_text(TEXTS[:2]), atol=1e-6
    )
    for ours, other in zip(found._model.parameters(), expected._model.parameters(), strict=True):
        assert torch.equal(ours, other)


def baseline_names(state) -> dict[str, str]:
    """MUGEN_baseline's name of each tensor, built from its own modules: convolutions are `conv`
    and `bn`, separable ones `conv_s`, `bn_s`, `conv_t`, `bn_t`.
    """
    out: dict[str, str] = {}
    video = "encoder_b.0.model.features."

    def norm(theirs: str, ours: str) -> None:
        parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        out.update({f"{theirs}.{part}": f"{ours}.{part}" for part in parts})

    def single(theirs: str, ours: str) -> None:
        out[f"visual_encoder.model.base.{theirs}.conv.weight"] = f"{video}{ours}.0.weight"
        norm(f"visual_encoder.model.base.{theirs}.bn", f"{video}{ours}.1")

    def separable(at: str) -> None:
        for k, side in enumerate("st"):
            base = f"visual_encoder.model.base.{at}"
            out[f"{base}.conv_{side}.weight"] = f"{video}{at}.{k}.0.weight"
            norm(f"{base}.bn_{side}", f"{video}{at}.{k}.1")

    separable("0")
    single("2", "2")
    separable("3")
    for place in (5, 6, 8, 9, 10, 11, 12, 14, 15):
        single(f"{place}.branch0.0", f"{place}.branch0")
        for branch in (1, 2):
            single(f"{place}.branch{branch}.0", f"{place}.branch{branch}.0")
            separable(f"{place}.branch{branch}.1")
        single(f"{place}.branch3.1", f"{place}.branch3.1")
    for name in state:
        for theirs, ours in (
            ("text_encoder.", "encoder_a.0."),
            ("text_projection.", "encoder_a.1."),
            ("image_projection.", "encoder_b.1."),
        ):
            if name.startswith(ours):
                out[theirs + name.removeprefix(ours)] = name
    return out


def test_missing_unexpected_and_misshapen_tensors_are_named(tmp_path, state):
    wrong = dict(state)
    del wrong["encoder_a.1.linear1.weight"]
    wrong["encoder_c.0"] = torch.zeros(1)
    wrong["encoder_b.1.layer_norm.bias"] = torch.zeros(3)
    text = refusal(tmp_path / "wrong.pt", wrong)
    assert "1 missing: encoder_a.1.linear1.weight" in text
    assert "1 unexpected: encoder_c.0" in text
    assert "encoder_b.1.layer_norm.bias has shape (3,), expected (256,)" in text


def test_a_missing_layer_of_the_text_tower_is_missed(tmp_path, state):
    wrong = {n: v for n, v in state.items() if ".transformer.layer.0." not in n}
    assert "16 missing: " in refusal(tmp_path / "wrong.pt", wrong)


def test_another_network_is_refused(tmp_path, state):
    video = {n: v for n, v in state.items() if n.startswith("encoder_b")}
    text = refusal(tmp_path / "video.pt", video)
    assert "no checkpoint of MUGEN's VideoCLIP" in text
    assert "word_embeddings.weight is missing" in text


def test_without_weights_the_error_says_where_they_are():
    with pytest.raises(WeightsError, match=r"wget https://pytorch\.s3.*videoclip_mugen\.pt"):
        registry.describe("videoclip_mugen")


def test_the_widths_of_both_s3d_families_are_one_table():
    built = {name: (inputs, *widths) for name, inputs, widths in model.blocks()}
    assert built == {name: tuple(map(int, text.split())) for name, text in WIDTHS.items()}
