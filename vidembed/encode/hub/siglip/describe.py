"""The facts of a SigLIP or SigLIP 2 folder (FixRes: one size of image), from its configuration.

Sources: Zhai et al., arXiv 2303.15343; Tschannen et al., arXiv 2502.14786;
github.com/google-research/big_vision; the names are those of transformers' SiglipModel.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vidembed.clips import Resize
from vidembed.encode import weights as files
from vidembed.encode.hub import folder
from vidembed.encode.hub.folder import Processing
from vidembed.encode.spec import EncoderSpec
from vidembed.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vidembed.clips import ClipSpec
    from vidembed.encode.entry import Entry
    from vidembed.encode.hub.folder import Config, Shape

_HALF = (0.5, 0.5, 0.5)


def describe(row: Entry, weights: str | None, preset: ClipSpec | None) -> EncoderSpec:
    """The spec of a folder. Raises WeightsError where it holds another model, or does not fit."""
    found, config = opened(weights or str(row.weights))
    named = folder.renamed(files.shapes(found), rename)
    files.check(named, expected_shapes(config), str(found.file))
    vision, text = parts(config)
    clip = preset or row.default
    return EncoderSpec(
        name=row.name,
        dim=vision["hidden_size"],
        clip=replace(clip, resize=processing(found, config).resize),
        metric="COSINE",
        context_length=text["max_position_embeddings"],
        weights=weights or str(row.weights),
        digest=found.digest(),
        architecture=f"SigLIP {vision['hidden_size']}/{vision['patch_size']} mean of frames",
    )


def opened(name: str) -> tuple[files.Weights, Config]:
    """The folder, and its configuration with all that the encoder must know filled in."""
    found, config = folder.opened(name, "siglip", "a SigLIP of one image size (FixRes)")
    vision, text = parts(config)
    if not vision.get("vision_use_head", True):
        raise WeightsError(f"{found.folder} has no pooling head: frames have no vectors in it")
    return found, config | {"vision_config": vision, "text_config": text}


def parts(config: Config) -> tuple[Config, Config]:
    """The configurations of the image and the text tower, with transformers' defaults."""
    shared = {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
    }
    vision = shared | {"image_size": 224, "patch_size": 16} | (config.get("vision_config") or {})
    text: dict[str, Any] = shared | {"vocab_size": 32000, "max_position_embeddings": 64}
    text |= config.get("text_config") or {}
    for name in ("image_size", "patch_size"):
        vision[name] = folder.square(vision[name], f"{name} of config.json")
    # Not read by the network; transformers complains of ids outside a small vocabulary.
    return vision, text | {"bos_token_id": None, "eos_token_id": None}


def processing(found: files.Weights, config: Config) -> Processing:
    """What the folder's image processor does; else what transformers' does by default."""
    size = config["vision_config"]["image_size"]
    usual = Resize(short_side=size, crop=size, interpolation="bicubic", fit="squash")
    said = folder.processing(found, Processing(resize=usual, mean=_HALF, std=_HALF))
    if said.resize.crop != size:
        raise WeightsError(
            f"the preprocessor of {found.folder} makes frames of {said.resize.crop} pixels, the "
            f"network takes {size}"
        )
    return said


def rename(name: str) -> str | None:
    """Old files hold the numbers of positions, which are no parameters."""
    return None if name.endswith(".position_ids") else name


def expected_shapes(config: Config) -> Mapping[str, Shape]:
    """Every parameter of the network and its shape."""
    vision, text = parts(config)
    v, t, patch = vision["hidden_size"], text["hidden_size"], vision["patch_size"]
    tokens = (vision["image_size"] // patch) ** 2
    found: dict[str, Shape] = {
        "logit_scale": (1,),
        "logit_bias": (1,),
        "text_model.embeddings.token_embedding.weight": (text["vocab_size"], t),
        "text_model.embeddings.position_embedding.weight": (text["max_position_embeddings"], t),
        "vision_model.embeddings.patch_embedding.weight": (v, 3, patch, patch),
        "vision_model.embeddings.patch_embedding.bias": (v,),
        "vision_model.embeddings.position_embedding.weight": (tokens, v),
        "vision_model.head.probe": (1, 1, v),
        "vision_model.head.attention.in_proj_weight": (3 * v, v),
        "vision_model.head.attention.in_proj_bias": (3 * v,),
    }
    found |= folder.linear("text_model.head", text.get("projection_size") or t, t)
    found |= folder.norm("text_model.final_layer_norm", t)
    found |= folder.norm("vision_model.post_layernorm", v)
    found |= folder.linear("vision_model.head.attention.out_proj", v, v)
    found |= folder.norm("vision_model.head.layernorm", v)
    found |= _mlp("vision_model.head.mlp", v, vision["intermediate_size"])
    for tower, width, part in (("text", t, text), ("vision", v, vision)):
        for n in range(part["num_hidden_layers"]):
            block = f"{tower}_model.encoder.layers.{n}"
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                found |= folder.linear(f"{block}.self_attn.{name}", width, width)
            found |= folder.norm(f"{block}.layer_norm1", width)
            found |= folder.norm(f"{block}.layer_norm2", width)
            found |= _mlp(f"{block}.mlp", width, part["intermediate_size"])
    return found


def _mlp(name: str, width: int, inner: int) -> dict[str, Shape]:
    return folder.linear(f"{name}.fc1", inner, width) | folder.linear(f"{name}.fc2", width, inner)
