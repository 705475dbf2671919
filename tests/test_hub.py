"""Encoders through transformers: folders as they are on the hub, and transformers' own vectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.goldens import seeded
from tests.helpers import hub_folders as hub
from vidembed.decode.sampling import spread
from vidembed.encode import registry
from vidembed.encode.hub import folder as folders
from vidembed.encode.hub.network import filled
from vidembed.encode.hub.siglip import describe as siglip
from vidembed.encode.hub.texts import FolderTokenizer
from vidembed.encode.hub.videomae import describe as videomae
from vidembed.encode.hub.videoprism import describe as videoprism
from vidembed.encode.hub.videoprism.encoder import canonical
from vidembed.encode.hub.vjepa2 import describe as vjepa2
from vidembed.encode.weights import find
from vidembed.errors import WeightsError
from vidembed.pixels import prepare
from vidembed.scaling import scaled

GOLDENS = Path(__file__).parent / "goldens"
NAMES = ("videoprism_lvt_b", "siglip2", "vjepa2", "videomae")


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Tiny networks gain nothing from more, and lose much where cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def golden(name):
    return dict(np.load(GOLDENS / f"hub_{name}.npz"))


def shapes_of(make):
    """Names and shapes of transformers' own module."""
    with torch.device("meta"):
        module = make()
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def real_shapes(kind, config):
    """What the published folders of a kind hold: everything, the parts left out too."""
    import transformers as tf

    config = json.loads(json.dumps(config))
    if kind == "siglip":
        return shapes_of(lambda: tf.SiglipModel(tf.SiglipConfig(**config)))
    if kind == "videoprism":
        return shapes_of(lambda: tf.VideoPrismClipModel(tf.VideoPrismConfig(**config)))
    if kind == "vjepa2":
        return shapes_of(lambda: tf.VJEPA2Model(tf.VJEPA2Config(**config)))
    if kind == "vjepa2 tuned":
        return shapes_of(lambda: tf.VJEPA2ForVideoClassification(tf.VJEPA2Config(**config)))
    if kind == "videomae":
        return shapes_of(lambda: tf.VideoMAEForPreTraining(tf.VideoMAEConfig(**config)))
    if kind == "videomae tuned":
        made = tf.VideoMAEConfig(**config | {"use_mean_pooling": True})
        return shapes_of(lambda: tf.VideoMAEForVideoClassification(made))
    return shapes_of(lambda: tf.CLIPModel(tf.CLIPConfig(**config)))


def published(kind, config):
    """Tensors under the names of the published files, which are older than the network's."""
    shapes = real_shapes(kind, config)
    if kind == "videoprism":
        # The converted files hold what the network computes.
        positions = "text_model.embeddings.position_"
        found = hub.state({k: v for k, v in shapes.items() if not k.startswith(positions)})
        width = config["text_config"]["hidden_size"]
        step = 1.0 / (10000 ** (torch.arange(0, width, 2) / width))
        angles = torch.arange(16).float()[:, None] * step
        sines = torch.cat([angles.sin(), angles.cos()], dim=1).numpy()
        return found | {f"{positions}embedding": sines, f"{positions}ids": np.arange(16)[None]}
    found = hub.state(shapes)
    if kind.startswith("videomae"):
        for name in list(found):
            for long, short in (("query.bias", "q_bias"), ("value.bias", "v_bias")):
                if name.endswith(f"attention.attention.{long}"):
                    found[name.removesuffix(long) + short] = found.pop(name)
            if name.endswith("attention.attention.key.bias"):
                del found[name]
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def written(place):
    """A folder for each kind, as it is on the hub."""
    found = {}
    for kind, write in (
        ("siglip", hub.write_siglip2_tokenizer),
        ("videoprism", hub.write_prism_tokenizer),
    ):
        config = hub.with_vocabulary(hub.CONFIGS[kind], write(place / kind))
        found[kind] = hub.write(place / kind, config, published(kind, config))
    (place / "siglip" / "preprocessor_config.json").write_text(json.dumps(hub.SIGLIP_PIXELS))
    config = hub.CONFIGS["vjepa2"]
    for kind in ("vjepa2", "vjepa2 tuned"):
        found[kind] = hub.write(place / kind, config, published(kind, config))
    config, pixels = hub.CONFIGS["videomae"], {"preprocessor_config": hub.VIDEOMAE_PIXELS}
    found["videomae"] = hub.write(
        place / "videomae", config, published("videomae", config), **pixels
    )
    config = config | {
        "use_mean_pooling": True,
        "architectures": ["VideoMAEForVideoClassification"],
    }
    found["videomae tuned"] = hub.write(
        place / "tuned", config, published("videomae tuned", config), **pixels
    )
    return {kind: str(path) for kind, path in found.items()}


@pytest.fixture(scope="module")
def encoders(written):
    return {
        "videoprism_lvt_b": load("videoprism_lvt_b", written["videoprism"]),
        "siglip2": load("siglip2", written["siglip"]),
        "vjepa2": load("vjepa2", written["vjepa2"]),
        "videomae": load("videomae", written["videomae"]),
    }


def load(name, weights, **options):
    return registry.load_encoder(name, str(weights), device="cpu", **options)


def two(frames, height, width):
    return np.stack([seeded.clip(frames, height, width, seed) for seed in (0, 1)])


def clips_for(encoder, batch=2, seed=0):
    count, size = encoder.spec.clip.sampling.count, encoder.spec.clip.resize.short_side
    return np.stack([seeded.clip(count, size, size + 9, seed + k) for k in range(batch)])


def refusal(name, path):
    with pytest.raises(WeightsError) as caught:
        registry.describe(name, str(path))
    return str(caught.value)


def near(found, expected, error=1e-5):
    assert seeded.relative_error(found, expected) <= error


def test_the_goldens_tell_clips_and_texts_apart():
    for name in ("videoprism", "siglip", "vjepa2", "videomae", "clip"):
        for key, rows in golden(name).items():
            if rows.dtype == np.float32 and len(rows) > 1:
                rows = rows[: 2 if key != "texts" else None]
                apart = np.linalg.norm(rows[:, None] - rows[None], axis=-1)
                assert apart[np.triu_indices(len(rows), 1)].min() > 0.02, (name, key)


# What the vectors are


def test_videoprism_s_vectors_are_those_of_the_authors_demo(encoders):
    expected = golden("videoprism")
    encoder = encoders["videoprism_lvt_b"]
    near(encoder.encode_video(two(4, 45, 61)), expected["official"])
    near(encoder.encode_text(hub.TEXTS), expected["texts"])


def test_videoprism_s_other_preset_has_the_pixels_of_transformers_processor(written):
    encoder = load("videoprism_lvt_b", written["videoprism"], preset="transformers")
    found, expected = encoder.encode_video(two(4, 45, 61)), golden("videoprism")
    near(found, expected["transformers"])
    assert seeded.relative_error(found, expected["official"]) > 0.03


def test_siglip_s_vectors_are_transformers_of_frames_averaged(encoders):
    expected, encoder = golden("siglip"), encoders["siglip2"]
    near(encoder.encode_video(two(5, 45, 61)), expected["videos"])
    near(encoder.encode_text(hub.TEXTS), expected["texts"])


def test_vjepa2_s_vectors_are_the_mean_of_transformers_tokens(encoders, written):
    expected, encoder = golden("vjepa2"), encoders["vjepa2"]
    clips = two(8, 36, 51)
    near(encoder.encode_video(clips), expected["videos"])
    near(encoder.encode_video(clips[:, :4]), expected["short"])
    near(load("vjepa2", written["vjepa2 tuned"]).encode_video(clips), expected["pooled"])
    near(encoder.encode_video(two(8, 45, 61)), expected["odd"])


def test_videomae_s_vectors_are_what_transformers_classifier_is_given(encoders, written):
    expected, clips = golden("videomae"), two(4, 45, 61)
    near(encoders["videomae"].encode_video(clips), expected["videos"])
    near(load("videomae", written["videomae tuned"]).encode_video(clips), expected["tuned"])


def test_videomae_without_a_preprocessor_s_file_has_imagenet_s_mean_and_deviation(tmp_path):
    config = hub.CONFIGS["videomae"]
    path = hub.write(tmp_path, config, published("videomae", config))
    near(load("videomae", path).encode_video(two(4, 45, 61)), golden("videomae")["videos"])


def test_videomae_s_last_norm_has_torch_s_epsilon_and_the_others_their_own(written):
    import transformers as tf

    config = hub.CONFIGS["videomae"] | {"use_mean_pooling": True}
    theirs = tf.VideoMAEForVideoClassification(tf.VideoMAEConfig(**config))
    found = load("videomae", written["videomae tuned"])._model
    assert found.fc_norm.eps == theirs.fc_norm.eps == 1e-5
    assert found.encoder.layer[0].layernorm_before.eps == 1e-12


def test_a_clip_of_vit_l_s_widths_works_through_clip4clip(place):
    config = hub.CONFIGS["clip"]
    path = hub.write(place / "clip", config, published("clip", config))
    encoder = load("clip4clip", path)
    assert encoder.spec.dim == 768
    assert encoder.spec.architecture == "ViT-L/14 meanP"
    expected = golden("clip")
    near(encoder.encode_video(two(3, 56, 56)), expected["videos"])
    near(encoder.encode_text(["kids feeding and playing with the horse"]), expected["texts"])


# Pixels


@pytest.mark.parametrize("size", [(227, 299), (321, 243), (240, 320)])
def test_pixels_are_those_of_the_reference(size, written):
    expected, name = golden("pixels"), f"{size[0]}x{size[1]}"
    frame = seeded.clip(1, *size)

    def found(resize):
        return prepare(frame, resize)[0][::7, ::5]

    resize = {n: registry.entry(n).default.resize for n in NAMES}
    official = resize["videoprism_lvt_b"]
    np.testing.assert_array_equal(found(official), expected[f"mediapy_{name}"])
    bicubic = resize["siglip2"]
    np.testing.assert_array_equal(found(bicubic), expected[f"siglip_bicubic_{name}"])
    said = hub.SIGLIP_PIXELS | {"size": {"height": 224, "width": 224}}
    bilinear = folders.resize(said, bicubic, {2: "bilinear"}, "here")
    np.testing.assert_array_equal(found(bilinear), expected[f"siglip_bilinear_{name}"])
    np.testing.assert_array_equal(found(resize["videomae"]), expected[f"videomae_{name}"])
    vjepa, other = resize["vjepa2"], registry.entry("videoprism_lvt_b").presets["transformers"]
    np.testing.assert_array_equal(found(vjepa), expected[f"vjepa2_{name}"])
    np.testing.assert_array_equal(found(other.clip.resize), expected[f"videoprism_{name}"])


@pytest.mark.skipif(
    "AVX" not in torch.backends.cpu.get_cpu_capability(), reason="torch computes in float32 here"
)
@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
def test_bytes_are_scaled_as_torch_does_to_the_last_bit(kind):
    draw = np.random.RandomState(5)
    for height, width, high, wide in draw.randint(8, 400, (25, 4)).tolist():
        frame = draw.randint(0, 256, (height, width, 3)).astype(np.uint8)
        tensor = torch.from_numpy(frame).permute(2, 0, 1)[None]
        expected = torch.nn.functional.interpolate(tensor, (high, wide), mode=kind, antialias=True)
        found = scaled(frame, high, wide, f"torch_antialias_{kind}")
        np.testing.assert_array_equal(found, expected[0].permute(1, 2, 0).numpy())


def test_the_folder_s_preprocessor_decides_and_its_absence_means_the_default(tmp_path):
    size = hub.write_siglip2_tokenizer(tmp_path)
    config = hub.with_vocabulary(hub.CONFIGS["siglip"], size)
    path = hub.write(tmp_path, config, published("siglip", config))
    usual = registry.describe("siglip2", str(path))
    assert (usual.clip.resize.interpolation, usual.clip.resize.fit) == ("bicubic", "squash")
    before = load("siglip2", path).encode_video(two(2, 45, 61))
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps(hub.SIGLIP_PIXELS | {"resample": 3})
    )
    np.testing.assert_array_equal(load("siglip2", path).encode_video(two(2, 45, 61)), before)
    said = hub.SIGLIP_PIXELS | {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    other = registry.describe("siglip2", str(path))
    assert other.clip.resize.interpolation == "bilinear"
    assert other.fingerprint != usual.fingerprint
    assert other.digest != usual.digest
    assert seeded.relative_error(load("siglip2", path).encode_video(two(2, 45, 61)), before) > 0.01
    # transformers 5 writes it within another file, and reads that one first.
    nested = {"image_processor": hub.SIGLIP_PIXELS | {"resample": 1}}
    (tmp_path / "processor_config.json").write_text(json.dumps(nested))
    assert registry.describe("siglip2", str(path)).clip.resize.interpolation == "lanczos"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"resample": 0}, "has resample 0"),
        ({"size": {"height": 32, "width": 40}}, "only squares"),
        ({"size": {"height": 40, "width": 40}}, "makes frames of 40 pixels, the network takes 32"),
        ({"do_resize": False}, "does not resize"),
        ({"image_mean": [0.5]}, "of 1 channels"),
        ({"size": {"shortest_edge": 40}, "do_center_crop": False}, "does not crop"),
    ],
)
def test_a_preprocessor_that_cannot_be_followed_is_refused(change, reason, written, tmp_path):
    for file in Path(written["siglip"]).iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "preprocessor_config.json").unlink()
    said = hub.SIGLIP_PIXELS | change
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    assert reason in refusal("siglip2", tmp_path)


def test_vjepa2_s_short_side_follows_its_crop_whatever_the_file_says(tmp_path):
    path = hub.write(
        tmp_path,
        hub.CONFIGS["vjepa2"],
        published("vjepa2", hub.CONFIGS["vjepa2"]),
        video_preprocessor_config={"size": {"shortest_edge": 99}, "crop_size": 32, "resample": 2},
    )
    resize = registry.describe("vjepa2", str(path)).clip.resize
    assert (resize.short_side, resize.crop, resize.offset) == (36, 32, "floor")


def test_videoprism_takes_the_frames_of_linspace_without_its_end():
    from vidembed.decode.sampling import sample

    sampling = registry.entry("videoprism_lvt_b").default.sampling
    for n in (16, 17, 100, 299, 1001):
        expected = np.linspace(0, n, 16, endpoint=False).astype(np.int64)
        np.testing.assert_array_equal(sample(sampling, None, 0, n), expected)
        assert n == 16 or expected[-1] != spread(n, 16)[-1]


# Texts


def test_token_ids_are_transformers_own(written):
    expected = golden("siglip")["ids"]
    tokenizer = FolderTokenizer(find(written["siglip"], folders.SIDES), 16, lower=True, ends=True)
    np.testing.assert_array_equal(tokenizer.encode(hub.TEXTS)[0], expected)
    expected = golden("videoprism")
    tokenizer = FolderTokenizer(
        find(written["videoprism"], folders.SIDES), 16, lower=False, ends=False
    )
    ids, mask = tokenizer.encode([canonical(text) for text in hub.TEXTS])
    np.testing.assert_array_equal(ids, expected["ids"])
    np.testing.assert_array_equal(mask, expected["mask"])


def test_a_text_is_written_as_the_authors_of_videoprism_do():
    assert canonical("Hello, World!") == "hello world."
    assert canonical("  Two\n dogs--and_a  cat ") == "two dogs and a cat."
    assert canonical("") == "."


def test_siglip_lowers_case_and_keeps_the_end_of_a_text_that_is_cut(encoders):
    encoder = encoders["siglip2"]
    upper, lower = encoder.encode_text(["A DOG RUNS", "a dog runs"])
    np.testing.assert_array_equal(upper, lower)
    ids, _ = encoder._tokenizer.encode(["dog " * 40, ""])
    assert ids[0, -1] == 1
    assert ids[1].tolist() == [1] + [0] * 15


def test_siglip_reads_padding_too(encoders):
    """A text is another where it is padded to another length: the length is the published one."""
    encoder = encoders["siglip2"]
    ids, _ = encoder._tokenizer.encode(["a dog"])
    short = ids[:, : int((ids != 0).sum())]
    with torch.inference_mode():
        found = encoder._model.text_model(input_ids=torch.from_numpy(short)).pooler_output
    cut = torch.nn.functional.normalize(found, dim=-1).numpy()
    assert seeded.relative_error(cut, encoder.encode_text(["a dog"])) > 0.05


def test_videoprism_does_not_read_padding(encoders):
    encoder = encoders["videoprism_lvt_b"]
    ids, mask = encoder._tokenizer.encode([canonical("a dog")])
    other = np.where(mask == 1, ids, 7)
    with torch.inference_mode():
        found = encoder._model.text_model(
            input_ids=torch.from_numpy(other), attention_mask=torch.from_numpy(mask)
        ).pooler_output
    np.testing.assert_allclose(found.numpy(), encoder.encode_text(["a dog"]), atol=1e-6)


def test_a_folder_without_tokenizer_json_says_how_to_make_it(written, tmp_path):
    for file in Path(written["videoprism"]).iterdir():
        if file.name != "tokenizer.json":
            (tmp_path / file.name).symlink_to(file)
    (tmp_path / "spiece.model").write_bytes(b"")
    spec = registry.describe("videoprism_lvt_b", str(tmp_path))
    with pytest.raises(WeightsError, match=r"has no tokenizer\.json.*save_pretrained"):
        registry.load(spec, "cpu", "float32")


def test_a_folder_that_names_no_ends_has_those_of_its_tokenizer(written, tmp_path):
    for file in Path(written["siglip"]).iterdir():
        if file.name != "tokenizer_config.json":
            (tmp_path / file.name).symlink_to(file)
    found = find(str(tmp_path), folders.SIDES)
    tokenizer = FolderTokenizer(found, 16, lower=True, ends=True)
    np.testing.assert_array_equal(tokenizer.encode(hub.TEXTS)[0], golden("siglip")["ids"])


# Clips and batches


@pytest.mark.parametrize("name", NAMES)
def test_a_clip_s_vector_does_not_depend_on_its_batch(name, encoders):
    encoder = encoders[name]
    clips = clips_for(encoder, 3)
    together = encoder.encode_video(clips)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for k in range(3):
        np.testing.assert_allclose(
            encoder.encode_video(clips[k : k + 1])[0], together[k], atol=1e-6
        )
    assert encoder.encode_video(clips[:0]).shape == (0, encoder.spec.dim)


@pytest.mark.parametrize("name", ["videoprism_lvt_b", "siglip2"])
def test_a_text_s_vector_does_not_depend_on_its_batch(name, encoders):
    encoder = encoders[name]
    together = encoder.encode_text(hub.TEXTS)
    for k, text in enumerate(hub.TEXTS):
        np.testing.assert_allclose(encoder.encode_text([text])[0], together[k], atol=1e-6)
    assert encoder.encode_text([]).shape == (0, encoder.spec.dim)


@pytest.mark.parametrize("name", ["vjepa2", "videomae"])
def test_a_network_without_a_text_tower_says_so(name, encoders):
    with pytest.raises(ValueError, match="encodes videos only"):
        encoders[name].encode_text(["a dog"])


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_stays_near_single_precision(name, encoders):
    encoder = encoders[name]
    clips = clips_for(encoder)
    half = load(name, encoder.spec.weights, dtype="bfloat16")
    found, exact = half.encode_video(clips), encoder.encode_video(clips)
    assert found.dtype == np.float32
    assert ((found * exact).sum(axis=1) > 0.98).all()
    if encoder.spec.context_length:
        found, exact = half.encode_text(hub.TEXTS), encoder.encode_text(hub.TEXTS)
        assert ((found * exact).sum(axis=1) > 0.95).all()


def test_padding_is_left_out_where_frames_are_averaged(encoders):
    encoder = encoders["siglip2"]
    clips = clips_for(encoder)
    padded = clips.copy()
    padded[:, 7:] = 0
    alone = encoder.encode_video(clips[:, :7])
    np.testing.assert_allclose(encoder.encode_video(padded, [7, 7]), alone, atol=1e-6)
    assert np.isfinite(encoder.encode_video(padded, [0, 7])).all()


def test_padding_is_the_last_frame_where_frames_are_seen_together(encoders):
    clips = clips_for(encoders["vjepa2"])
    padded, repeated = clips.copy(), clips.copy()
    padded[:, 5:], repeated[:, 5:] = 0, clips[:, 4:5]
    np.testing.assert_array_equal(filled(padded, [5, 5]), repeated)
    assert filled(clips, [8, 8]) is clips
    np.testing.assert_array_equal(
        encoders["vjepa2"].encode_video(padded, [5, 5]), encoders["vjepa2"].encode_video(repeated)
    )


@pytest.mark.parametrize(
    ("name", "count", "says"),
    [
        ("videoprism_lvt_b", 3, "takes 4 frames a clip, or windows of 4 each, got 3"),
        ("videomae", 5, "takes 4 frames a clip, or windows of 4 each, got 5"),
        ("vjepa2", 3, "takes 2 or more in steps of 2 frames a clip, got 3"),
    ],
)
def test_a_number_of_frames_that_the_network_cannot_take_is_refused(name, count, says, encoders):
    with pytest.raises(ValueError, match=says):
        encoders[name].encode_video(two(count, 36, 40))


@pytest.mark.parametrize("name", NAMES)
def test_frames_of_another_kind_are_refused_with_what_came(name, encoders):
    with pytest.raises(ValueError, match=r"expected uint8 RGB .* got float32 \(2, 4, 36, 36, 3\)"):
        encoders[name].encode_video(np.zeros((2, 4, 36, 36, 3), np.float32))


@pytest.mark.parametrize("name", ["videoprism_lvt_b", "vjepa2", "videomae"])
def test_the_order_of_frames_matters(name, encoders):
    clips = clips_for(encoders[name], 1)
    turned = encoders[name].encode_video(clips[:, ::-1].copy())
    assert seeded.relative_error(turned, encoders[name].encode_video(clips)) > 1e-3


# What a folder is


@pytest.mark.parametrize(
    ("kind", "ours", "config"),
    [
        ("siglip", siglip.expected_shapes, {"text_config": {"vocab_size": 256000}}),
        ("siglip", siglip.expected_shapes, {}),
        (
            "siglip",
            siglip.expected_shapes,
            {
                "text_config": {
                    "hidden_size": 1152,
                    "num_attention_heads": 16,
                    "intermediate_size": 4304,
                    "num_hidden_layers": 27,
                    "projection_size": 1152,
                },
                "vision_config": {
                    "hidden_size": 1152,
                    "num_attention_heads": 16,
                    "intermediate_size": 4304,
                    "num_hidden_layers": 27,
                    "patch_size": 14,
                    "image_size": 384,
                },
            },
        ),
        ("videoprism", videoprism.expected_shapes, {}),
        (
            "videoprism",
            videoprism.expected_shapes,
            {
                "text_config": {
                    "hidden_size": 1024,
                    "intermediate_size": 4096,
                    "num_attention_heads": 16,
                },
                "vision_config": {
                    "hidden_size": 1024,
                    "intermediate_size": 4096,
                    "num_attention_heads": 16,
                    "num_frames": 8,
                    "num_spatial_layers": 24,
                },
            },
        ),
        ("vjepa2", vjepa2.expected_shapes, {}),
        ("vjepa2 tuned", vjepa2.expected_shapes, {"frames_per_clip": 16}),
        ("videomae", videomae.expected_shapes, {"use_mean_pooling": False}),
        ("videomae tuned", videomae.expected_shapes, {"qkv_bias": True}),
    ],
)
def test_expected_shapes_are_those_of_the_real_module(kind, ours, config, tmp_path):
    model_type = kind.partition(" ")[0]
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": model_type}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    module = {"siglip": siglip, "videoprism": videoprism, "vjepa2": vjepa2, "videomae": videomae}
    _, whole = module[model_type].opened(str(tmp_path))
    real = folders.renamed(real_shapes(kind, config), module[model_type].rename)
    extra = {}
    if model_type == "vjepa2":
        extra["pooled"] = kind.endswith("tuned")
    if model_type == "videomae":
        extra["tuned"] = kind.endswith("tuned")
    assert ours(whole, **extra) == real


def test_the_spec_says_what_the_folder_says(encoders):
    specs = {name: encoder.spec for name, encoder in encoders.items()}
    assert [specs[name].dim for name in NAMES] == [48, 48, 52, 48]
    assert [specs[name].context_length for name in NAMES] == [16, 16, 0, 0]
    assert [specs[name].clip.sampling.count for name in NAMES] == [4, 12, 8, 4]
    assert [specs[name].clip.resize.crop for name in NAMES] == [36, 32, 32, 32]
    assert {spec.metric for spec in specs.values()} == {"COSINE"}


def test_the_large_model_s_row_says_its_numbers():
    row = registry.entry("videoprism_lvt_l")
    assert (row.dim, row.frames) == ("1024", "8")
    assert row.weights == "google/videoprism-lvt-large-f8r288"


@pytest.mark.parametrize(
    ("encoder", "kind", "says"),
    [
        ("vjepa2", "siglip", "of type 'siglip', not a V-JEPA 2: use --encoder siglip2"),
        ("siglip2", "videomae", "of type 'videomae', not a SigLIP .*: use --encoder videomae"),
        ("videomae", "vjepa2", "use --encoder vjepa2"),
        ("siglip2", "videoprism", "use --encoder videoprism_lvt_b or videoprism_lvt_l"),
        ("clip4clip", "siglip", "use --encoder siglip2"),
    ],
)
def test_a_folder_of_another_type_names_the_encoder_that_takes_it(encoder, kind, says, written):
    import re

    assert re.search(says, refusal(encoder, written[kind]))


def test_a_type_that_no_encoder_takes_is_named(written, tmp_path):
    for file in Path(written["siglip"]).iterdir():
        if file.name != "config.json":
            (tmp_path / file.name).symlink_to(file)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "siglip2"}))
    assert "holds a model of type 'siglip2', not a SigLIP" in refusal("siglip2", tmp_path)
    (tmp_path / "config.json").unlink()
    assert "has no config.json beside it" in refusal("siglip2", tmp_path)


@pytest.mark.parametrize("kind", ["siglip", "videoprism", "vjepa2", "videomae"])
def test_a_folder_that_fits_in_part_only_is_refused_with_the_names(kind, tmp_path):
    name = {"siglip": "siglip2", "videoprism": "videoprism_lvt_b"}.get(kind, kind)
    config = hub.CONFIGS[kind]
    if "text_config" in config:
        config = hub.with_vocabulary(config, 72)
    tensors = published(kind, config)
    gone = next(k for k in tensors if k.endswith(("fc2.bias", "output.dense.bias")))
    del tensors[gone]
    tensors["surprise.weight"] = np.zeros(3, np.float32)
    text = refusal(name, hub.write(tmp_path, config, tensors))
    assert "1 missing: " + gone.removeprefix("videomae.") in text
    assert "1 unexpected: surprise.weight" in text


def test_videoprism_computes_the_positions_that_a_file_does_not_have(written, tmp_path, encoders):
    config = json.loads((Path(written["videoprism"]) / "config.json").read_text())
    tensors = published("videoprism", config)
    # What a file says of its type must not reach the table that is computed in its place.
    for part in ("text_config", "vision_config"):
        config[part]["dtype"] = "bfloat16"
    hub.write_prism_tokenizer(tmp_path)
    bare = {k: v for k, v in tensors.items() if not k.startswith("text_model.embeddings.position_")}
    other = load("videoprism_lvt_b", hub.write(tmp_path, config, bare))
    exact = encoders["videoprism_lvt_b"].encode_text(hub.TEXTS)
    np.testing.assert_allclose(other.encode_text(hub.TEXTS), exact, atol=1e-6)


def test_a_bias_of_keys_changes_nothing(written, tmp_path, encoders):
    config = hub.CONFIGS["videomae"]
    tensors = published("videomae", config)
    for n in range(2):
        bias = f"videomae.encoder.layer.{n}.attention.attention.key.bias"
        tensors[bias] = np.ones(48, np.float32)
    path = hub.write(tmp_path, config, tensors, preprocessor_config=hub.VIDEOMAE_PIXELS)
    clips = clips_for(encoders["videomae"])
    near(load("videomae", path).encode_video(clips), encoders["videomae"].encode_video(clips))


def test_a_folder_in_half_precision_is_computed_in_single(written, tmp_path):
    config = json.loads((Path(written["videoprism"]) / "config.json").read_text())
    hub.write_prism_tokenizer(tmp_path)
    tensors = published("videoprism", config)
    halves = {k: v.astype(np.float16) if v.dtype == np.float32 else v for k, v in tensors.items()}
    upcast = {k: v.astype(np.float32) if v.dtype == np.float16 else v for k, v in halves.items()}
    hub.write_prism_tokenizer(tmp_path / "upcast")
    single = load("videoprism_lvt_b", hub.write(tmp_path / "upcast", config, upcast))
    config |= {"dtype": "bfloat16", "text_config": config["text_config"] | {"dtype": "bfloat16"}}
    encoder = load("videoprism_lvt_b", hub.write(tmp_path, config, halves))
    assert {p.dtype for p in encoder._model.parameters()} == {torch.float32}
    assert encoder._model.text_model.embeddings.position_embedding.dtype == torch.float32
    np.testing.assert_array_equal(encoder.encode_text(hub.TEXTS), single.encode_text(hub.TEXTS))


@pytest.mark.parametrize(("name", "kind"), [("siglip2", "sdpa"), ("videoprism_lvt_b", "eager")])
def test_attention_is_of_one_kind_everywhere(name, kind, encoders):
    found = {
        module.config._attn_implementation
        for module in encoders[name]._model.modules()
        if hasattr(module, "config")
    }
    assert found == {kind}


def test_describing_a_folder_needs_no_torch(written):
    import subprocess
    import sys

    code = (
        "import sys\n"
        "from vidembed.encode import registry\n"
        "for name, path in zip(sys.argv[1::2], sys.argv[2::2]): registry.describe(name, path)\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    pairs = [
        ("siglip2", written["siglip"]),
        ("videoprism_lvt_b", written["videoprism"]),
        ("vjepa2", written["vjepa2"]),
        ("videomae", written["videomae"]),
    ]
    subprocess.run(
        [sys.executable, "-c", code, *(word for pair in pairs for word in pair)], check=True
    )
