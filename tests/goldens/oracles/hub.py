"""transformers' own models and processors on small networks: vectors, pixels and token ids."""

from __future__ import annotations

import string
import sys
import tempfile
import types
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tests.goldens import seeded
from tests.goldens.oracles.shim import torchvision  # noqa: F401
from tests.helpers import hub_folders as hub

for _name in ("IPython", "IPython.display", "matplotlib", "matplotlib.pyplot"):
    # mediapy shows pictures; only its resize is wanted.
    sys.modules.setdefault(_name, types.ModuleType(_name))
sys.modules["IPython"].display = sys.modules["IPython.display"]
sys.modules["matplotlib"].pyplot = sys.modules["matplotlib.pyplot"]

import mediapy  # noqa: E402
import transformers as tf  # noqa: E402
from transformers.models.siglip.image_processing_pil_siglip import (  # noqa: E402
    SiglipImageProcessorPil,
)
from transformers.models.videomae.image_processing_pil_videomae import (  # noqa: E402
    VideoMAEImageProcessorPil,
)

SIZES = ((227, 299), (321, 243), (240, 320))


def make() -> dict[str, dict[str, np.ndarray]]:
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    return {
        "hub_videoprism": videoprism(),
        "hub_siglip": siglip(),
        "hub_vjepa2": vjepa2(),
        "hub_videomae": videomae(),
        "hub_clip": clip(),
        "hub_pixels": pixels(),
    }


def filled(model: torch.nn.Module, *, buffers: tuple[str, ...] = ()) -> torch.nn.Module:
    """The model with the seed's weights; buffers keep their own values."""
    own = {k: tuple(v.shape) for k, v in model.state_dict().items() if not k.endswith(buffers)}
    state = {k: torch.from_numpy(v) for k, v in hub.state(own).items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.endswith(buffers) for name in missing), missing
    return model.eval()


def videoprism() -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as place:
        size = hub.write_prism_tokenizer(Path(place))
        tokenizer = tf.AutoTokenizer.from_pretrained(place)
        # The authors' rule, which the tokenizer does not know.
        table = str.maketrans(dict.fromkeys(string.punctuation, " "))
        written = [" ".join(t.translate(table).lower().split()) + "." for t in hub.TEXTS]
        said = tokenizer(
            written, padding="max_length", truncation=True, max_length=16, return_tensors="pt"
        )
    config = tf.VideoPrismConfig(**hub.with_vocabulary(hub.CONFIGS["videoprism"], size))
    model = filled(tf.VideoPrismClipModel(config), buffers=("position_ids", ".position_embedding"))
    texts = model.get_text_features(said.input_ids, said.attention_mask).pooler_output
    clips = [seeded.clip(4, 45, 61, seed) for seed in (0, 1)]
    official = [mediapy.resize_video(c, (36, 36)).astype(np.float32) / 255 for c in clips]
    video = torch.from_numpy(np.stack(official)).permute(0, 1, 4, 2, 3)
    theirs = tf.LlavaOnevisionVideoProcessor(size={"height": 36, "width": 36}, do_normalize=False)
    other = theirs([torch.from_numpy(c) for c in clips], return_tensors="pt").pixel_values_videos
    return {
        "ids": said.input_ids.numpy().astype(np.int32),
        "mask": said.attention_mask.numpy().astype(np.int8),
        "texts": texts.numpy(),
        "official": model.get_video_features(video).pooler_output[:, 0].numpy(),
        "transformers": model.get_video_features(other).pooler_output[:, 0].numpy(),
    }


def siglip() -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as place:
        size = hub.write_siglip2_tokenizer(Path(place))
        tokenizer = tf.AutoTokenizer.from_pretrained(place)
        assert type(tokenizer).__name__ == "Siglip2Tokenizer"
        ids = tokenizer(
            hub.TEXTS, padding="max_length", truncation=True, max_length=16, return_tensors="pt"
        ).input_ids
    model = filled(
        tf.SiglipModel(tf.SiglipConfig(**hub.with_vocabulary(hub.CONFIGS["siglip"], size)))
    )
    texts = torch.nn.functional.normalize(model.get_text_features(ids).pooler_output, dim=-1)
    processor = SiglipImageProcessorPil(**hub.SIGLIP_PIXELS)
    found = []
    for seed in (0, 1):
        frames = [Image.fromarray(f) for f in seeded.clip(5, 45, 61, seed)]
        values = processor(frames, return_tensors="pt").pixel_values
        features = model.get_image_features(values).pooler_output
        features = torch.nn.functional.normalize(features, dim=-1)
        found.append(torch.nn.functional.normalize(features.mean(dim=0), dim=-1))
    return {
        "ids": ids.numpy().astype(np.int32),
        "texts": texts.numpy(),
        "videos": torch.stack(found).numpy(),
    }


def vjepa2() -> dict[str, np.ndarray]:
    config = tf.VJEPA2Config(**hub.CONFIGS["vjepa2"])
    model = filled(tf.VJEPA2Model(config))
    # Frames whose short side is right already: only the crop is left to do.
    clips = [seeded.clip(8, 36, 51, seed) for seed in (0, 1)]
    odd = [seeded.clip(8, 45, 61, seed) for seed in (0, 1)]
    processor = tf.VJEPA2VideoProcessor(crop_size=32)
    values, other = (
        processor([torch.from_numpy(c) for c in some], return_tensors="pt").pixel_values_videos
        for some in (clips, odd)
    )
    bare = model.get_vision_features(values)
    classifier = filled(tf.VJEPA2ForVideoClassification(config))
    tokens = classifier.vjepa2.get_vision_features(values)
    normalize = torch.nn.functional.normalize
    return {
        "videos": normalize(bare.mean(dim=1), dim=-1).numpy(),
        "odd": normalize(model.get_vision_features(other).mean(dim=1), dim=-1).numpy(),
        "pooled": normalize(classifier.pooler(tokens), dim=-1).numpy(),
        "short": normalize(model.get_vision_features(values[:, :4]).mean(dim=1), dim=-1).numpy(),
    }


def videomae() -> dict[str, np.ndarray]:
    config = hub.CONFIGS["videomae"]
    processor = VideoMAEImageProcessorPil(**hub.VIDEOMAE_PIXELS)
    clips = [[Image.fromarray(f) for f in seeded.clip(4, 45, 61, seed)] for seed in (0, 1)]
    values = torch.cat([processor(c, return_tensors="pt").pixel_values for c in clips])
    bare = filled(tf.VideoMAEForPreTraining(tf.VideoMAEConfig(**config))).videomae
    tuned = filled(
        tf.VideoMAEForVideoClassification(tf.VideoMAEConfig(**config | {"use_mean_pooling": True}))
    )
    seen = []
    tuned.classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    tuned(values)
    normalize = torch.nn.functional.normalize
    return {
        "videos": normalize(bare(values).last_hidden_state.mean(dim=1), dim=-1).numpy(),
        "tuned": normalize(seen[0], dim=-1).numpy(),
    }


def clip() -> dict[str, np.ndarray]:
    """A CLIP of ViT-L/14's widths."""
    model = filled(tf.CLIPModel(tf.CLIPConfig(**hub.CONFIGS["clip"])))
    normalize = torch.nn.functional.normalize
    mean = torch.tensor((0.48145466, 0.4578275, 0.40821073)).view(3, 1, 1)
    std = torch.tensor((0.26862954, 0.26130258, 0.27577711)).view(3, 1, 1)
    found = []
    for seed in (0, 1):
        frames = torch.from_numpy(seeded.clip(3, 56, 56, seed)).permute(0, 3, 1, 2)
        features = model.get_image_features((frames / 255 - mean) / std).pooler_output
        found.append(normalize(normalize(features, dim=-1).mean(dim=0), dim=-1))
    ids = torch.tensor([[49406, 1911, 9879, 537, 1629, 593, 518, 4558, 49407]])
    # The end is the largest id; the configuration says 2, which means the same to transformers.
    texts = normalize(model.get_text_features(ids).pooler_output, dim=-1)
    return {"videos": torch.stack(found).numpy(), "texts": texts.numpy()}


def pixels() -> dict[str, np.ndarray]:
    """Every seventh row and fifth column of what processors make, back as bytes."""
    found = {}
    squash = SiglipImageProcessorPil(size={"height": 224, "width": 224}, resample=2)
    cubic = SiglipImageProcessorPil(size={"height": 224, "width": 224}, resample=3)
    crop = VideoMAEImageProcessorPil()
    vjepa = tf.VJEPA2VideoProcessor()
    prism = tf.LlavaOnevisionVideoProcessor(size={"height": 288, "width": 288}, do_normalize=False)
    imagenet = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
    half, none = (np.full(3, 0.5), np.full(3, 0.5)), (np.zeros(3), np.ones(3))
    for height, width in SIZES:
        frame = seeded.clip(1, height, width)[0]
        image, video = Image.fromarray(frame), torch.from_numpy(frame)[None]
        name = f"{height}x{width}"
        for kind, values, (mean, std) in (
            ("siglip_bilinear", squash(image, return_tensors="np").pixel_values[0], half),
            ("siglip_bicubic", cubic(image, return_tensors="np").pixel_values[0], half),
            ("videomae", crop([image], return_tensors="np").pixel_values[0][0], half),
            ("vjepa2", vjepa(video, return_tensors="np").pixel_values_videos[0][0], imagenet),
            ("videoprism", prism(video, return_tensors="np").pixel_values_videos[0][0], none),
        ):
            plain = np.moveaxis(np.asarray(values, np.float64), 0, -1) * std + mean
            found[f"{kind}_{name}"] = np.rint(plain * 255).astype(np.uint8)[::7, ::5]
        found[f"mediapy_{name}"] = mediapy.resize_image(frame, (288, 288))[::7, ::5]
    return found
