"""PE-Core by open_clip 3.3.0 and timm 1.0.31: the smallest one whole, and two blocks of the image
towers of B and L.
"""

from __future__ import annotations

import logging

import numpy as np
import open_clip
import timm
import torch
from PIL import Image

from tests.goldens import seeded
from tests.goldens.oracles.shim import torchvision
from tests.helpers.pe_core import CLIPS, CUT, TEXTS

_RESIZE = torchvision.transforms.InterpolationMode.BILINEAR


def make() -> dict[str, dict[str, np.ndarray]]:
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    return {"pe_core": _whole() | {name: _cut(*made) for name, made in CUT.items()}}


@torch.inference_mode()
def _whole() -> dict[str, np.ndarray]:
    model = open_clip.create_model("PE-Core-T-16-384").eval()
    _fill(model)
    tokens = open_clip.get_tokenizer("PE-Core-T-16-384")(list(TEXTS))
    clips = [model.encode_image(_pixels(*clip, 384)).mean(dim=0) for clip in CLIPS]
    return {
        "video": torch.nn.functional.normalize(torch.stack(clips), dim=-1).numpy(),
        "text": model.encode_text(tokens, normalize=True).numpy(),
        "tokens": tokens.numpy().astype(np.int32),
    }


@torch.inference_mode()
def _cut(name: str, size: int) -> np.ndarray:
    model = timm.create_model(name, depth=2, num_classes=1024, global_pool="map").eval()
    _fill(model, "visual.trunk.")
    return model(_pixels(*CLIPS[0], size)).numpy()


def _fill(model: torch.nn.Module, prefix: str = "") -> None:
    shapes = {prefix + name: tuple(t.shape) for name, t in model.state_dict().items()}
    state = seeded.torch_state(shapes)
    model.load_state_dict({name.removeprefix(prefix): t for name, t in state.items()}, strict=True)


def _pixels(height: int, width: int, seed: int, size: int) -> torch.Tensor:
    """As open_clip's transform for this model: squashed, to [-1, 1]."""
    frames = seeded.clip(8, height, width, seed)
    resize = torchvision.transforms.Resize((size, size), interpolation=_RESIZE)
    to_tensor = torchvision.transforms.ToTensor()
    normalise = torchvision.transforms.Normalize((0.5,) * 3, (0.5,) * 3)
    return torch.stack([normalise(to_tensor(resize(Image.fromarray(f)))) for f in frames])
