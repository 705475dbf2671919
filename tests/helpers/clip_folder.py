"""A small CLIP with seeded random weights, as a Hugging Face folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file

from vidembed.encode.clip4clip.layout import Architecture, expected_shapes

if TYPE_CHECKING:
    from pathlib import Path

SMALL = Architecture(
    clip={
        "projection_dim": 64,
        "vision_config": {
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 1,
            "intermediate_size": 256,
            "patch_size": 16,
            "image_size": 64,
        },
        "text_config": {
            "hidden_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "intermediate_size": 256,
            "vocab_size": 49408,
            "max_position_embeddings": 77,
        },
    }
)


def random_state(architecture: Architecture = SMALL, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in expected_shapes(architecture).items():
        scale = shape[-1] ** -0.5 if len(shape) > 1 else 0.02
        offset = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        state[name] = torch.randn(shape, generator=generator) * scale + offset
    return state


def write_clip_folder(folder: Path, seed: int = 0, image_size: int = 64) -> Path:
    vision = {**SMALL.clip["vision_config"], "image_size": image_size}
    clip = {**SMALL.clip, "vision_config": vision}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(random_state(Architecture(clip=clip), seed), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "clip", **clip}))
    return folder
