"""The facts of a VideoPrism-LvT folder, from its configuration.

Sources: Zhao et al., arXiv 2402.13217; github.com/google-deepmind/videoprism; the names are those
of transformers' VideoPrismClipModel.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vidembed.encode import weights as files
from vidembed.encode.hub import folder
from vidembed.encode.spec import EncoderSpec, FrameCounts

if TYPE_CHECKING:
    from vidembed.clips import ClipSpec
    from vidembed.encode.entry import Entry
    from vidembed.encode.hub.folder import Config, Shape

# Sine and cosine of the text's positions: in the converted files, but no parameter.
POSITIONS = "text_model.embeddings.position_embedding"


def describe(row: Entry, weights: str | None, preset: ClipSpec | None) -> EncoderSpec:
    """The spec of a folder. Raises WeightsError where it holds another model, or does not fit."""
    found, config = opened(weights or str(row.weights))
    named = folder.renamed(files.shapes(found), rename)
    expected = expected_shapes(config)
    if POSITIONS not in named:
        del expected[POSITIONS]
    files.check(named, expected, str(found.file))
    vision, text = config["vision_config"], config["text_config"]
    clip = preset or row.default
    size, count = vision["image_size"], vision["num_frames"]
    return EncoderSpec(
        name=row.name,
        dim=vision["hidden_size"],
        clip=replace(
            clip,
            sampling=replace(clip.sampling, count=count),
            resize=replace(clip.resize, short_side=size, crop=size),
        ),
        metric="COSINE",
        context_length=text["max_position_embeddings"],
        weights=weights or str(row.weights),
        digest=found.digest(),
        architecture=(
            f"VideoPrism-LvT {vision['hidden_size']} "
            f"{vision['num_spatial_layers']}+{vision['num_temporal_layers']} layers"
        ),
        # One position for each frame.
        counts=FrameCounts(count, count),
    )


def opened(name: str) -> tuple[files.Weights, Config]:
    """The folder, and its configuration with transformers' defaults filled in."""
    found, config = folder.opened(name, "videoprism", "a VideoPrism-LvT (video and text)")
    shared: dict[str, Any] = {"hidden_size": 768, "intermediate_size": 3072}
    shared |= {"num_attention_heads": 12, "qkv_bias": True}
    vision = shared | {
        "image_size": 288,
        "num_frames": 16,
        "tubelet_size": (1, 18, 18),
        "num_spatial_layers": 12,
        "num_temporal_layers": 4,
        "num_auxiliary_layers": 2,
    }
    text = shared | {"vocab_size": 32000, "num_hidden_layers": 12, "max_position_embeddings": 64}
    vision |= config.get("vision_config") or {}
    text |= config.get("text_config") or {}
    vision["image_size"] = folder.square(vision["image_size"], "image_size of config.json")
    return found, config | {"vision_config": vision, "text_config": text}


def rename(name: str) -> str | None:
    """The numbers of positions in the converted files are no parameters."""
    return None if name.endswith(".position_ids") else name


def expected_shapes(config: Config) -> dict[str, Shape]:
    """Every parameter of the network, and the text's positions, with shapes."""
    vision, text = config["vision_config"], config["text_config"]
    v, t, inner = vision["hidden_size"], text["hidden_size"], vision["intermediate_size"]
    depth, high, wide = vision["tubelet_size"]
    tokens = (vision["image_size"] // high) * (vision["image_size"] // wide)
    image, head = "video_model.vision_model", "video_model.head"
    found: dict[str, Shape] = {
        f"{image}.spatial_embeddings.position_embeddings": (1, tokens, v),
        f"{image}.spatial_embeddings.patch_embeddings.projection.weight": (v, 3, depth, high, wide),
        f"{image}.spatial_embeddings.patch_embeddings.projection.bias": (v,),
        f"{image}.temporal_embeddings.position_embeddings": (1, vision["num_frames"], v),
        f"{head}.per_dim_scale": (inner // vision["num_attention_heads"],),
        f"{head}.pooling_attention_query": (1, 1, v),
        "text_model.embeddings.cls_emb": (1, 1, t),
        POSITIONS: (text["max_position_embeddings"], t),
        "text_model.embeddings.token_embedding.weight": (text["vocab_size"], t),
    }
    for name in ("layernorm1", "layernorm2"):
        found |= folder.norm(f"{image}.{name}", v)
    found |= folder.norm("video_model.head_layernorm", v) | folder.norm("text_model.layernorm", t)
    # The pooling head works at the width of the MLPs.
    for name in ("q_proj", "k_proj", "v_proj"):
        found |= folder.linear(f"{head}.{name}", inner, v, bias=vision["qkv_bias"])
    found |= folder.linear(f"{head}.o_proj", v, inner)
    for stack, layers, part in (
        (f"{image}.spatial_layers", vision["num_spatial_layers"], vision),
        (f"{image}.temporal_layers", vision["num_temporal_layers"], vision),
        ("video_model.auxiliary_layers", vision["num_auxiliary_layers"], vision),
        ("text_model.layers", text["num_hidden_layers"], text),
    ):
        for n in range(layers):
            found |= _layer(f"{stack}.{n}", part)
    return found


def _layer(name: str, part: Config) -> dict[str, Shape]:
    width, inner = part["hidden_size"], part["intermediate_size"]
    found: dict[str, Shape] = {}
    for proj in ("q_proj", "k_proj", "v_proj"):
        found |= folder.linear(f"{name}.attention.{proj}", width, width, bias=part["qkv_bias"])
    found |= folder.linear(f"{name}.attention.o_proj", width, width)
    found |= folder.norm(f"{name}.layernorm_before", width)
    found |= folder.norm(f"{name}.layernorm_after", width)
    found |= folder.linear(f"{name}.mlp.fc1", inner, width)
    return found | folder.linear(f"{name}.mlp.fc2", width, inner)
