"""The facts of a VideoMAE folder, from its configuration.

Sources: Tong et al., arXiv 2203.12602; github.com/MCG-NJU/VideoMAE; the names are those of
transformers' VideoMAEModel and VideoMAEForVideoClassification.
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

# ImageNet's, with which the networks were trained and which the published folders name; the
# defaults of transformers' own processor, one half, are not these.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The decoder of the pretraining, and what names classes: a clip's vector needs neither.
_LEFT_OUT = ("decoder.", "encoder_to_decoder.", "mask_token", "position_embeddings", "classifier.")


def describe(row: Entry, weights: str | None, preset: ClipSpec | None) -> EncoderSpec:
    """The spec of a folder. Raises WeightsError where it holds another model, or does not fit."""
    found, config = opened(weights or str(row.weights))
    named = folder.renamed(files.shapes(found), rename)
    tuned = is_tuned(named)
    files.check(named, expected_shapes(config, tuned=tuned), str(found.file))
    clip = preset or row.default
    count = config["num_frames"]
    return EncoderSpec(
        name=row.name,
        dim=config["hidden_size"],
        clip=replace(
            clip,
            sampling=replace(clip.sampling, count=count),
            resize=processing(found, config).resize,
        ),
        metric="COSINE",
        context_length=0,
        weights=weights or str(row.weights),
        digest=found.digest(),
        architecture=(
            f"VideoMAE {config['hidden_size']}/{config['patch_size']} mean of tokens"
            f"{', normalised' if tuned else ''}"
        ),
        # The table of positions is for this many.
        counts=FrameCounts(count, count),
    )


def opened(name: str) -> tuple[files.Weights, Config]:
    """The folder, and its configuration with transformers' defaults filled in."""
    found, config = folder.opened(name, "videomae", "a VideoMAE")
    usual = {
        "image_size": 224,
        "patch_size": 16,
        "num_channels": 3,
        "num_frames": 16,
        "tubelet_size": 2,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "use_mean_pooling": True,
    }
    config = usual | config
    # The same word before and since transformers 5.18 or so: queries and values have a bias.
    config["qkv_bias"] = config.pop("qv_bias", config.get("qkv_bias", True))
    for word in ("image_size", "patch_size"):
        config[word] = folder.square(config[word], f"{word} of config.json")
    return found, config


def processing(found: files.Weights, config: Config) -> Processing:
    """What the folder's processor does; else what the authors' evaluation does."""
    size = config["image_size"]
    usual = Resize(short_side=size, crop=size, interpolation="bilinear", offset="floor")
    said = folder.processing(found, Processing(resize=usual, mean=_MEAN, std=_STD), video=True)
    if said.resize.crop != size:
        raise WeightsError(
            f"the preprocessor of {found.folder} makes frames of {said.resize.crop} pixels, the "
            f"network takes {size}"
        )
    return said


def rename(name: str) -> str | None:
    """The encoder's names, as they are without a decoder or a classifier around it.

    A constant added to all keys changes no attention, so a bias of theirs is left out.
    """
    name = name.removeprefix("videomae.")
    if name.startswith(_LEFT_OUT) or name.endswith(".attention.attention.key.bias"):
        return None
    for short, long in (("q_bias", "query.bias"), ("v_bias", "value.bias")):
        name = name.replace(f".attention.attention.{short}", f".attention.attention.{long}")
    return name


def is_tuned(names: Iterable[str]) -> bool:
    """Whether the folder is that of a classifier, which normalises the mean of the tokens."""
    return any(name.startswith("fc_norm.") for name in names)


def expected_shapes(config: Config, *, tuned: bool) -> dict[str, Shape]:
    """Every parameter that makes the vector, and its shape."""
    width, inner, patch = config["hidden_size"], config["intermediate_size"], config["patch_size"]
    bias = config["qkv_bias"]
    patches = "embeddings.patch_embeddings.projection"
    found: dict[str, Shape] = {
        f"{patches}.weight": (width, config["num_channels"], config["tubelet_size"], patch, patch),
        f"{patches}.bias": (width,),
    }
    if tuned:
        found |= folder.norm("fc_norm", width)
    if not config["use_mean_pooling"]:
        found |= folder.norm("layernorm", width)
    for n in range(config["num_hidden_layers"]):
        block = f"encoder.layer.{n}"
        attention = f"{block}.attention.attention"
        found |= folder.linear(f"{attention}.query", width, width, bias=bias)
        found |= folder.linear(f"{attention}.key", width, width, bias=False)
        found |= folder.linear(f"{attention}.value", width, width, bias=bias)
        found |= folder.linear(f"{block}.attention.output.dense", width, width)
        found |= folder.linear(f"{block}.intermediate.dense", inner, width)
        found |= folder.linear(f"{block}.output.dense", width, inner)
        found |= folder.norm(f"{block}.layernorm_before", width)
        found |= folder.norm(f"{block}.layernorm_after", width)
    return found
