"""Weights of the real size from a seed, in a layout that the encoder reads, for each encoder."""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING, Any

import torch
import transformers
from safetensors.torch import save_file

from tests.goldens import seeded
from tests.helpers import hub_folders
from vidembed.encode import weights as files

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from vidembed.encode.entry import Entry

    Shapes = Mapping[str, tuple[int, ...]]


class NoSeedError(Exception):
    """It is not known here what the weights of this encoder look like."""


def known(row: Entry) -> bool:
    """Whether it is known here what the weights of this encoder look like."""
    family = _family(row)
    return row.name in _HUB if family.startswith("hub.") else family in _FAMILIES


def weights(row: Entry, folder: Path) -> str:
    """What --weights would be, after writing it below `folder`. Raises NoSeedError."""
    if not known(row):
        raise NoSeedError(f"no seeded weights for it are known: give --weights {row.name}=PATH")
    return _FAMILIES[_family(row)](row, folder / row.name)


def _family(row: Entry) -> str:
    return row.package.removeprefix("vidembed.encode.")


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


def _s3d_milnce(row: Entry, where: Path) -> str:
    """The released variant, whose table of words has 66,250 rows."""
    layout = _layout(row)
    architecture = layout.Architecture(folded=True, dim=512, rows=66250)
    return _file(where, layout.expected_shapes(architecture))


def _zoo(row: Entry, where: Path) -> str:
    """A classifier of Kinetics-400, as in pytorchvideo's zoo."""
    layout = _layout(row)
    return _file(where, layout.shapes_of(layout.ARCHITECTURES[row.name], 400))


def _videoclip_mugen(row: Entry, where: Path) -> str:
    layout = _layout(row)
    return _file(where, layout.expected_shapes(layout.Architecture(layers=6)))


def _pe_core(row: Entry, where: Path) -> str:
    layout = _layout(row)
    return _file(where, layout.expected_shapes(layout.ARCHITECTURES[row.name]))


_TOWER = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
_LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16}
_PRISM_LARGE = {
    "vision_config": {**_LARGE, "num_spatial_layers": 24, "num_frames": 8},
    "text_config": {**_LARGE, "num_hidden_layers": 12},
}
_SIGLIP2 = {
    "vision_config": {**_TOWER, "intermediate_size": 3072, "image_size": 224, "patch_size": 16},
    "text_config": {**_TOWER, "intermediate_size": 3072, "vocab_size": 256000},
}
# Of transformers: configuration, model, and what is not the default of the configuration.
_HUB: dict[str, tuple[str, str, dict[str, Any]]] = {
    "videoprism_lvt_b": ("VideoPrismConfig", "VideoPrismClipModel", {}),
    "videoprism_lvt_l": ("VideoPrismConfig", "VideoPrismClipModel", _PRISM_LARGE),
    "siglip2": ("SiglipConfig", "SiglipModel", _SIGLIP2),
    "vjepa2": ("VJEPA2Config", "VJEPA2Model", {}),
    "videomae": ("VideoMAEConfig", "VideoMAEForPreTraining", {"use_mean_pooling": False}),
}


def _hub(row: Entry, where: Path) -> str:
    """What the published folders hold, under transformers' names."""
    kind, model, options = _HUB[row.name]
    config = getattr(transformers, kind)(**options)
    with torch.device("meta"):
        made = getattr(transformers, model)(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in made.state_dict().items()}
    found = _folder(where, shapes, config.to_dict())
    # No text is encoded here, but a tokenizer is opened.
    if model == "SiglipModel":
        hub_folders.write_siglip2_tokenizer(where)
    if model == "VideoPrismClipModel":
        hub_folders.write_prism_tokenizer(where)
    return found


_FAMILIES: dict[str, Callable[[Entry, Path], str]] = {
    "clip4clip": _clip4clip,
    "hub.siglip": _hub,
    "hub.videomae": _hub,
    "hub.videoprism": _hub,
    "hub.vjepa2": _hub,
    "mvit": _zoo,
    "pe_core": _pe_core,
    "s3d_milnce": _s3d_milnce,
    "videoclip_mugen": _videoclip_mugen,
    "x3d": _zoo,
}


def parameters(path: str) -> int:
    """How many numbers the weights at `path` are."""
    found = files.shapes(files.find(path))
    return sum(int(torch.Size(shape).numel()) for shape in found.values())
