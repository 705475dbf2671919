"""The facts of a V-JEPA 2 folder, from its configuration.

Sources: Assran et al., arXiv 2506.09985; github.com/facebookresearch/vjepa2; the names are those of
transformers' VJEPA2Model and VJEPA2ForVideoClassification.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vidembed.clips import Resize
from vidembed.encode import weights as files
from vidembed.encode.hub import folder
from vidembed.encode.hub.folder import Processing
from vidembed.encode.spec import EncoderSpec, FrameCounts
from vidembed.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vidembed.clips import ClipSpec
    from vidembed.encode.entry import Entry
    from vidembed.encode.hub.folder import Config, Shape

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# What learns to predict, and what names classes: a clip's vector needs neither.
_LEFT_OUT = ("predictor.", "classifier.")


def describe(row: Entry, weights: str | None, preset: ClipSpec | None) -> EncoderSpec:
    """The spec of a folder. Raises WeightsError where it holds another model, or does not fit."""
    found, config = opened(weights or str(row.weights))
    named = folder.renamed(files.shapes(found), rename)
    pooled = has_pooler(named)
    files.check(named, expected_shapes(config, pooled=pooled), str(found.file))
    clip = preset or row.default
    tubelet = config["tubelet_size"]
    return EncoderSpec(
        name=row.name,
        dim=config["hidden_size"],
        clip=replace(
            clip,
            sampling=replace(clip.sampling, count=config["frames_per_clip"]),
            resize=processing(found, config).resize,
        ),
        metric="COSINE",
        context_length=0,
        weights=weights or str(row.weights),
        digest=found.digest(),
        architecture=(
            f"V-JEPA 2 {config['hidden_size']}/{config['patch_size']} "
            f"{'attentive pooler' if pooled else 'mean of tokens'}"
        ),
        counts=FrameCounts(tubelet, None, tubelet),
    )


def opened(name: str) -> tuple[files.Weights, Config]:
    """The folder, and its configuration with transformers' defaults filled in."""
    found, config = folder.opened(name, "vjepa2", "a V-JEPA 2")
    usual = {
        "patch_size": 16,
        "crop_size": 256,
        "frames_per_clip": 64,
        "tubelet_size": 2,
        "hidden_size": 1024,
        "in_chans": 3,
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "mlp_ratio": 4.0,
        "qkv_bias": True,
        "num_pooler_layers": 3,
    }
    config = usual | config
    config["patch_size"] = folder.square(config["patch_size"], "patch_size of config.json")
    return found, config


def processing(found: files.Weights, config: Config) -> Processing:
    """What transformers' video processor does: the short side becomes 256/224 of the crop,
    whatever size the folder names.
    """
    crop = config["crop_size"]
    usual = Resize(
        short_side=crop * 256 // 224,
        crop=crop,
        interpolation="torch_antialias_bilinear",
        offset="floor",
    )
    default = Processing(resize=usual, mean=_MEAN, std=_STD)
    said = folder.processing(found, default, video=True, torchvision=True)
    if said.resize.crop != crop:
        raise WeightsError(
            f"the preprocessor of {found.folder} crops {said.resize.crop} pixels, the network "
            f"takes {crop}"
        )
    return replace(said, resize=replace(usual, interpolation=said.resize.interpolation))


def rename(name: str) -> str | None:
    """The encoder's and the pooler's names, as they are without a classifier around them."""
    name = name.removeprefix("vjepa2.")
    return None if name.startswith(_LEFT_OUT) else name


def has_pooler(names: Iterable[str]) -> bool:
    """Whether the folder is that of a classifier, whose pooler is trained."""
    return any(name.startswith("pooler.") for name in names)


def expected_shapes(config: Config, *, pooled: bool) -> dict[str, Shape]:
    """Every parameter that makes the vector, and its shape."""
    width, patch, bias = config["hidden_size"], config["patch_size"], config["qkv_bias"]
    inner = int(width * config["mlp_ratio"])
    patches = "encoder.embeddings.patch_embeddings.proj"
    found: dict[str, Shape] = {
        f"{patches}.weight": (width, config["in_chans"], config["tubelet_size"], patch, patch),
        f"{patches}.bias": (width,),
    }
    found |= folder.norm("encoder.layernorm", width)
    for n in range(config["num_hidden_layers"]):
        block = f"encoder.layer.{n}"
        for name in ("query", "key", "value"):
            found |= folder.linear(f"{block}.attention.{name}", width, width, bias=bias)
        found |= folder.linear(f"{block}.attention.proj", width, width)
        found |= _sides(block, ("norm1", "norm2"), width, inner)
    return found | _pooler(config) if pooled else found


def _pooler(config: Config) -> dict[str, Shape]:
    width = config["hidden_size"]
    found: dict[str, Shape] = {"pooler.query_tokens": (1, 1, width)}
    layers = [f"pooler.self_attention_layers.{n}" for n in range(config["num_pooler_layers"])]
    for block, attention in (
        *((layer, "self_attn") for layer in layers),
        ("pooler.cross_attention_layer", "cross_attn"),
    ):
        names = ("q_proj", "k_proj", "v_proj", "out_proj")
        for name in names if attention == "self_attn" else names[:3]:
            found |= folder.linear(f"{block}.{attention}.{name}", width, width)
        found |= _sides(block, ("layer_norm1", "layer_norm2"), width, 4 * width)
    return found


def _sides(block: str, norms: tuple[str, str], width: int, inner: int) -> dict[str, Shape]:
    """What a block has beside its attention."""
    found: dict[str, Shape] = {}
    for name in norms:
        found |= folder.norm(f"{block}.{name}", width)
    found |= folder.linear(f"{block}.mlp.fc1", inner, width)
    return found | folder.linear(f"{block}.mlp.fc2", width, inner)
