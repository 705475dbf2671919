"""X3D of pytorchvideo 0.1.5."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.goldens import seeded

if TYPE_CHECKING:
    from collections.abc import Mapping

# Name: clips as frames, height, width and seed, and short side and crop.
CLIPS = {
    "x3d_xs": ([(4, 227, 299, 1), (4, 321, 243, 2)], 182),
    "x3d_s": ([(13, 227, 299, 3)], 182),
    "x3d_m": ([(16, 243, 321, 4), (16, 299, 227, 5)], 256),
    "x3d_l": ([(16, 300, 333, 6)], 356),
}


def weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Small variances, so that the epsilon of a normalisation shows."""
    found = seeded.weights(shapes)
    for name, tensor in found.items():
        if name.endswith("running_var"):
            found[name] = tensor * np.float32(0.01)
        elif name.endswith("running_mean") or ("norm" in name and name.endswith(".weight")):
            # The convolutions of a squeeze lie below a norm_b, and have five dimensions.
            found[name] = tensor * np.float32(0.1) if tensor.ndim == 1 else tensor
    return found


def make() -> dict[str, dict[str, np.ndarray]]:
    """Arrays by file and key."""
    from tests.goldens.oracles.shim import torchvision  # noqa: F401, I001

    import torch
    from pytorchvideo.models import hub

    torch.set_num_threads(1)
    found = {}
    for name, (clips, side) in CLIPS.items():
        network = getattr(hub, name)().eval()
        shapes = {k: tuple(v.shape) for k, v in network.state_dict().items()}
        network.load_state_dict({k: torch.from_numpy(v) for k, v in weights(shapes).items()})
        kept: list[Any] = []
        network.blocks[5].pool.register_forward_hook(
            lambda *given, kept=kept: kept.append(given[2])
        )
        with torch.inference_mode():
            for clip in clips:
                network(_prepared(seeded.clip(*clip), side))
        vectors = torch.cat([positions.mean((2, 3, 4)) for positions in kept])
        found[name] = {
            "shapes": np.array(json.dumps(shapes)),
            "parameters": np.array(sum(p.numel() for p in network.parameters())),
            "vectors": vectors.numpy(),
            "positions": np.array(kept[0].shape[2:]),
        }
    return found


def _prepared(clip: np.ndarray, side: int) -> Any:
    import torch
    from pytorchvideo.transforms import ShortSideScale
    from torchvision.transforms._transforms_video import CenterCropVideo, NormalizeVideo

    pixels = torch.from_numpy(clip).permute(3, 0, 1, 2).float() / 255
    pixels = NormalizeVideo([0.45] * 3, [0.225] * 3)(pixels)
    return CenterCropVideo(side)(ShortSideScale(side)(pixels))[None]
