"""S3D MIL-NCE: both kinds of checkpoint, read strictly and turned into the reference's vectors."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.goldens import seeded
from tests.helpers import s3d as make
from vidembed.encode import registry
from vidembed.encode.s3d_milnce import layout, model
from vidembed.encode.s3d_milnce.dictionary import Dictionary
from vidembed.errors import ConfigError, WeightsError

GOLDEN = np.load(Path(__file__).parent / "goldens" / "s3d_milnce.npz")


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The released file and a checkpoint of the training repository, each with its dictionary."""
    place = tmp_path_factory.mktemp("s3d")
    (place / "training").mkdir()
    torch.save(tensors(folded=True), place / "s3d_howto100m.pth")
    np.save(place / "s3d_dict.npy", np.array(make.WORDS))
    wrapped = {f"module.{name}": value for name, value in tensors(folded=False).items()}
    torch.save({"epoch": 3, "state_dict": wrapped}, place / "training" / "epoch0003.pth.tar")
    np.save(place / "training" / "dict.npy", np.array(make.WORDS))
    return place


@pytest.fixture(scope="module")
def released(folder):
    return str(folder / "s3d_howto100m.pth")


@pytest.fixture(scope="module")
def encoder(released):
    return load(released)


@pytest.fixture(scope="module")
def trained(folder):
    return load(folder / "training" / "epoch0003.pth.tar", preset="window")


def tensors(*, folded: bool) -> dict[str, torch.Tensor]:
    state = make.weights(folded=folded)
    return {name: torch.from_numpy(np.asarray(value)) for name, value in state.items()}


def load(weights, **options):
    return registry.load_encoder("s3d_milnce", str(weights), device="cpu", **options)


def clip(frames, height, width, seed):
    return seeded.clip(frames, height, width, seed)[None]


def noise(batch=2, frames=4, size=224, seed=1):
    draw = np.random.default_rng(seed)
    return draw.integers(0, 256, (batch, frames, size, size, 3), np.uint8)


def refusal(path, state=None):
    if state is not None:
        torch.save(state, path)
    with pytest.raises(WeightsError) as caught:
        registry.describe("s3d_milnce", str(path))
    return str(caught.value)


# What the vectors are


@pytest.mark.parametrize("case", range(len(make.CLIPS)))
def test_video_vectors_are_the_reference_s_from_the_bytes_of_frames_on(case, encoder):
    found = encoder.encode_video(clip(*make.CLIPS[case]))
    assert found.dtype == np.float32
    assert seeded.relative_error(found, GOLDEN["paper"][case : case + 1]) < 1e-5


def test_the_preset_of_tensorflow_hub_scales_as_opencv_does(released):
    other = load(released, preset="tfhub")
    for case, expected in zip(make.CLIPS[1:3], GOLDEN["tfhub"], strict=True):
        assert seeded.relative_error(other.encode_video(clip(*case)), expected) < 1e-5
    # Where one library scales and where another does is seen.
    assert seeded.relative_error(GOLDEN["tfhub"], GOLDEN["paper"][1:3]) > 1e-4


def test_a_checkpoint_of_the_training_repository_gives_the_reference_s_vectors(trained):
    for case, expected in zip(make.CLIPS[2:], GOLDEN["plain"], strict=True):
        assert seeded.relative_error(trained.encode_video(clip(*case)), expected) < 1e-5


def test_text_vectors_are_the_reference_s(encoder):
    assert seeded.relative_error(encoder.encode_text(make.TEXTS), GOLDEN["texts"]) < 1e-5


def test_the_training_repository_reads_thirty_words(trained):
    found = trained.encode_text(make.TEXTS)
    assert seeded.relative_error(found, GOLDEN["plain_texts"]) < 1e-5


def test_vectors_keep_their_length_and_are_compared_by_their_product(encoder):
    assert encoder.spec.metric == "IP"
    lengths = np.linalg.norm(encoder.encode_text(make.TEXTS), axis=1)
    assert np.ptp(lengths) > 1
    assert np.linalg.norm(encoder.encode_video(noise(1))) > 2


def test_the_vector_of_several_windows_is_their_mean(released):
    short = load(released, frames=2)
    windows = [noise(1, 2, size=64, seed=k) for k in (1, 2)]
    apart = np.concatenate([short.encode_video(window) for window in windows])
    ten = np.concatenate([windows[0]] * 4 + [windows[1]] * 6, axis=1)
    expected = apart[0] * 0.4 + apart[1] * 0.6
    assert seeded.relative_error(short.encode_video(ten), expected) < 1e-5


def test_bfloat16_is_close_and_the_result_is_float32(released, encoder):
    half = load(released, dtype="bfloat16")
    frames = clip(*make.CLIPS[3])
    found, exact = half.encode_video(frames)[0], encoder.encode_video(frames)[0]
    assert found.dtype == np.float32
    cosine = found @ exact / np.linalg.norm(found) / np.linalg.norm(exact)
    assert 0.99 < cosine < 1
    np.testing.assert_array_equal(half.encode_text(make.TEXTS), encoder.encode_text(make.TEXTS))


# Details that are easily lost


def test_the_padding_of_a_text_takes_part_in_the_maximum(encoder):
    padded, sixteen = "door", "door " * 16
    assert not np.allclose(encoder.encode_text([padded]), encoder.encode_text([sixteen]))
    more = encoder.encode_text([sixteen, "door " * 40])
    np.testing.assert_array_equal(more[0], more[1])


def test_pools_pad_at_the_end_and_count_windows_that_hang_over():
    x = torch.arange(5.0).reshape(1, 1, 1, 1, 5)
    spatial = model.pool(x, ((1, 1, 3), (1, 1, 2))).flatten().tolist()
    # Six places with the padding: windows from 0, from 2, and from 4, which hangs over.
    assert spatial == [2, 4, 4]
    lone = model.pool(x[..., :1], ((2, 2, 2), (2, 2, 2)))
    assert lone.shape == (1, 1, 1, 1, 1)


def test_frames_are_folded_by_place_first_and_colour_last():
    x = torch.arange(2 * 2 * 2 * 3).reshape(2, 2, 2, 3).permute(3, 0, 1, 2)[None]
    assert model.folded(x).flatten().tolist() == list(range(24))


def test_the_first_of_conv1_s_outputs_are_cut_off(encoder):
    network = encoder._model
    seen = []
    hook = network.conv_2b.register_forward_pre_hook(lambda _, x: seen.append(x[0].shape))
    network(torch.zeros(1, 3, 4, 224, 224))
    hook.remove()
    assert seen == [(1, 64, 2, 56, 56)]


def test_the_normalisations_have_torch_s_own_constant(encoder):
    norms = [m for m in encoder._model.modules() if isinstance(m, torch.nn.BatchNorm3d)]
    assert {m.eps for m in norms} == {1e-5}


def test_words_are_lower_case_runs_of_word_characters_and_apostrophes():
    words = Dictionary(["don't", "née", "x_1", "cut", "'"])
    assert words.encode("DON'T cut-cut NÉE, x_1!", 6) == [1, 4, 4, 2, 3, 0]
    assert words.encode("something else", 3) == [0, 0, 0]
    assert words.encode("cut " * 5, 3) == [4, 4, 4]


def test_the_layout_is_the_released_file_s():
    expected = layout.expected_shapes(layout.Architecture(folded=True, dim=512, rows=66250))
    norms = sum(name.endswith("running_mean") for name in expected)
    assert len(expected) + norms == 537
    counted = sum(int(np.prod(shape)) for name, shape in expected.items() if "running" not in name)
    assert counted == 9_670_800 + 21_540_536


# Frames


def test_windows_and_presets_are_the_evaluation_s(released):
    spec = registry.describe("s3d_milnce", released)
    sampling = spec.clip.sampling
    assert (sampling.kind, sampling.count, sampling.fps) == ("ffmpeg_fps", 32, 10)
    assert (sampling.windows, sampling.seconds, sampling.tail, sampling.pad) == (
        10, 3.2, 0.4, "black",
    )  # fmt: skip
    assert spec.clip.shape == (320, 224, 224, 3)
    assert spec.dim == 512
    assert spec.context_length == 16
    window = registry.describe("s3d_milnce", released, "window").clip
    assert window.shape == (32, 224, 224, 3)
    assert window.sampling.starts(0, 10) == [pytest.approx(3.4)]
    tfhub = registry.describe("s3d_milnce", released, "tfhub").clip
    assert (tfhub.sampling.kind, tfhub.resize.offset) == ("first", "halves")


@pytest.mark.parametrize("frames", [2, 4, 6, 10, 16])
def test_every_even_number_of_frames_works(frames, encoder):
    small = torch.zeros(1, 3, frames, 32, 32)
    assert encoder._model(small).shape == (1, 512)
    assert frames in encoder.spec.counts


def test_an_odd_number_of_frames_is_refused_where_frames_are_folded(encoder, trained, released):
    with pytest.raises(ValueError, match="takes 2 or more in steps of 2 frames a clip, got 3"):
        encoder.encode_video(noise(1, 3))
    with pytest.raises(ConfigError, match="--frames 31"):
        load(released, frames=31)
    assert trained.encode_video(noise(1, 3)).shape == (1, 512)


@pytest.mark.parametrize(
    "frames", [np.zeros((1, 2, 8, 8, 3), np.float32), np.zeros((2, 8, 8, 3), np.uint8)]
)
def test_frames_of_another_kind_are_refused_with_what_came(frames, encoder):
    with pytest.raises(ValueError, match=re.escape(str(frames.shape))):
        encoder.encode_video(frames)


def test_nothing_in_gives_nothing_out(encoder):
    assert encoder.encode_video(noise(0)).shape == (0, 512)
    assert encoder.encode_text([]).shape == (0, 512)


def test_a_vector_does_not_depend_on_its_batch(encoder):
    frames = noise(3, 2)
    together = encoder.encode_video(frames)
    apart = np.concatenate([encoder.encode_video(frames[k : k + 1]) for k in range(3)])
    assert seeded.relative_error(together, apart) < 1e-5
    texts = encoder.encode_text(make.TEXTS)
    alone = np.concatenate([encoder.encode_text([text]) for text in make.TEXTS])
    assert seeded.relative_error(texts, alone) < 1e-5


# Files


def test_without_the_dictionary_videos_work_and_texts_say_what_is_missing(
    released, encoder, tmp_path
):
    alone = shutil.copy(released, tmp_path)
    other = load(alone)
    frames = noise(1, 2)
    found = other.encode_video(frames)
    assert seeded.relative_error(found, encoder.encode_video(frames)) < 1e-6
    with pytest.raises(WeightsError, match=r"no s3d_dict\.npy in .*beside s3d_howto100m\.pth"):
        other.encode_text(["cut"])
    # The run that was made without it can be searched once it is there.
    np.save(tmp_path / "s3d_dict.npy", np.array(make.WORDS))
    assert load(alone).spec.fingerprint == other.spec.fingerprint
    assert other.encode_text(["cut"]).shape == (1, 512)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (np.array(["a", "b"], object), "is no array of words"),
        (np.zeros(3), "expected unicode"),
        (np.array([["a"]]), "expected unicode"),
        (np.array(["w"] * make.ROWS), "another model's dictionary"),
    ],
)
def test_a_dictionary_of_another_kind_is_refused(words, message, released, tmp_path):
    (tmp_path / "s3d_howto100m.pth").symlink_to(released)
    np.save(tmp_path / "s3d_dict.npy", words, allow_pickle=True)
    other = load(tmp_path / "s3d_howto100m.pth")
    with pytest.raises(WeightsError, match=message):
        other.encode_text(["cut"])


def test_a_safetensors_file_of_the_same_tensors_gives_the_same_vectors(tmp_path, encoder):
    from safetensors.torch import save_file

    path = tmp_path / "s3d_howto100m.safetensors"
    # As old torch versions wrote it: without the counts of batches.
    state = {n: t for n, t in tensors(folded=True).items() if not n.endswith("tracked")}
    save_file(state, path)
    frames = noise(1, 2)
    found = load(path).encode_video(frames)
    assert seeded.relative_error(found, encoder.encode_video(frames)) < 1e-6


def test_missing_unexpected_and_misshapen_tensors_are_named(tmp_path):
    state = tensors(folded=True)
    del state["mixed_4c.conv_b2_b.conv2.weight"]
    state["surprise"] = torch.zeros(1)
    state["fc.bias"] = torch.zeros(3)
    text = refusal(tmp_path / "wrong.pth", state)
    assert "1 missing: mixed_4c.conv_b2_b.conv2.weight" in text
    assert "1 unexpected: surprise" in text
    assert "fc.bias has shape (3,), expected (512,)" in text


def test_another_network_is_refused_with_what_was_expected(tmp_path):
    state = {"conv1.conv1.weight": torch.zeros(64, 3, 7, 7)}
    text = refusal(tmp_path / "other.pth", state)
    assert "conv1.conv1.weight has shape (64, 3, 7, 7)" in text
    assert "(64, 24, 2, 4, 4)" in text
    assert "conv1.conv1.weight is missing" in refusal(tmp_path / "none.pth", {"a": torch.ones(1)})


def test_without_weights_the_error_says_where_they_are():
    with pytest.raises(WeightsError, match=r"wget https://www\.rocq\.inria\.fr.*s3d_dict\.npy"):
        registry.describe("s3d_milnce")
