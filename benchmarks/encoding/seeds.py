"""Weights of the real size from a seed, in a layout that the encoder reads, for each encoder."""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from tests.goldens import seeded
from vidembed.encode import weights as files

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from vidembed.encode.entry import Entry

    Shapes = Mapping[str, tuple[int, ...]]


class NoSeedError(Exception):
    """It is not known here what the weights of this encoder look like."""


def weights(row: Entry, folder: Path) -> str:
    """What --weights would be, after writing it below `folder`. Raises NoSeedError."""
    family = row.package.removeprefix("vidembed.encode.")
    if family not in _FAMILIES:
        raise NoSeedError(f"no seeded weights for {family}: give --weights {row.name}=PATH")
    return _FAMILIES[family](row, folder / row.name)


def _folder(where: Path, shapes: Shapes, config: Mapping[str, Any]) -> str:
    """A folder as Hugging Face's libraries write it."""
    where.mkdir(parents=True)
    (where / "config.json").write_text(json.dumps(config))
    save_file(seeded.torch_state(shapes), where / "model.safetensors")
    return str(where)


def _file(where: Path, shapes: Shapes) -> str:
    where.parent.mkdir(parents=True, exist_ok=True)
    path = where.with_suffix(".safetensors")
    save_file(seeded.torch_state(shapes), path)
    return str(path)


def _layout(row: Entry) -> Any:
    return importlib.import_module(f"{row.package}.layout")


def _clip4clip(row: Entry, where: Path) -> str:
    """ViT-B/32, 12 frames averaged."""
    layout = _layout(row)
    clip = {
        "model_type": "clip",
        "projection_dim": 512,
        "vision_config": layout._tower(768, 12) | {"patch_size": 32, "image_size": 224},
        "text_config": layout._tower(512, 12)
        | {"vocab_size": 49408, "max_position_embeddings": 77},
    }
    shapes = layout.expected_shapes(layout.Architecture(clip=clip))
    return _folder(where, shapes, clip)


def _mvit(row: Entry, where: Path) -> str:
    layout = _layout(row)
    return _file(where, layout.shapes_of(layout.ARCHITECTURES[row.name], 400))


def _s3d_milnce(row: Entry, where: Path) -> str:
    """The released variant, whose table of words has 66,250 rows."""
    layout = _layout(row)
    architecture = layout.Architecture(folded=True, dim=512, rows=66250)
    return _file(where, layout.expected_shapes(architecture))


_FAMILIES: dict[str, Callable[[Entry, Path], str]] = {
    "clip4clip": _clip4clip,
    "mvit": _mvit,
    "s3d_milnce": _s3d_milnce,
}


def parameters(path: str) -> int:
    """How many numbers the weights at `path` are."""
    found = files.shapes(files.find(path))
    return sum(int(torch.Size(shape).numel()) for shape in found.values())
