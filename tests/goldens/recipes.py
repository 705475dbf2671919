"""What the goldens of CLIP4Clip are made from, for the oracle and for the tests alike."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.goldens import seeded

if TYPE_CHECKING:
    from collections.abc import Mapping

VALID = [4, 3, 1]
"""Frames of each clip that count."""

TEXTS = [
    "a dog runs",
    "kids feeding and playing with the horse",
    "Two people’s car &amp; a boat",
    "",
    " ".join(["a very long caption about a horse"] * 20),
]

HEADS = (
    ("meanP", True),
    ("seqLSTM", False),
    ("seqTransf", False),
    ("seqTransf", True),
    ("tightTransf", False),
    ("tightTransf", True),
)
"""Heads, each with whether patches span frames."""

SIZES = (
    (227, 227),
    (299, 299),
    (227, 299),
    (243, 321),
    (321, 243),
    (224, 224),
    (224, 227),
    (360, 640),
    (640, 360),
    (1, 1),
    (3, 5),
    (100, 37),
)
"""Height, width."""

FILES: dict[str, dict[str, Any]] = {
    "300_at_30": {"frames": 300, "fps": 30},
    "300_at_29.97": {"frames": 300, "fps": Fraction(30000, 1001)},
    "600_at_25": {"frames": 600, "fps": 25},
    "240_at_23.976": {"frames": 240, "fps": Fraction(24000, 1001)},
    "91_at_15": {"frames": 91, "fps": 15},
    "90_at_15": {"frames": 90, "fps": 15},
    "300_at_59.94": {"frames": 300, "fps": Fraction(60000, 1001)},
    "20_at_30": {"frames": 20, "fps": 30},
    "7_at_1.5": {"frames": 7, "fps": Fraction(3, 2)},
    "b_frames": {"frames": 130, "fps": 25, "b_frames": 2},
}
"""Files of numbered frames, as options of `tests.helpers.videos.write_video`."""


def CLIPS() -> np.ndarray:  # noqa: N802 - a constant that is made when it is needed
    """uint8 [3, 4, 243, 321, 3]."""
    return np.stack([seeded.clip(4, 243, 321, seed) for seed in range(3)])


def head_state(head: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Seeded tensors. Those of the transformers over frames are small where they add up, so that
    the epsilon of their layer norms, 1e-12 and not 1e-5, shows.
    """
    state = seeded.torch_state(shapes)
    if not head.endswith("Transf"):
        return state
    summed = ("clip.visual.proj", "clip.text_projection", "position_embeddings.weight")
    within = ("out_proj.weight", "out_proj.bias", "c_proj.weight", "c_proj.bias")
    for name, tensor in state.items():
        is_head = name.startswith(("transformerClip.", "cross.transformer."))
        if name.endswith(summed) or (is_head and name.endswith(within)):
            tensor *= 0.02
    return state


def config(hidden_act: str) -> dict[str, Any]:
    """A Hugging Face CLIP with ViT-B/32's widths, two layers deep."""

    def tower(width: int) -> dict[str, Any]:
        return {
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": 2,
            "num_attention_heads": width // 64,
            "hidden_act": hidden_act,
        }

    return {
        "model_type": "clip",
        "projection_dim": 512,
        "text_config": tower(512) | {"eos_token_id": 49407},
        "vision_config": tower(768) | {"image_size": 224, "patch_size": 32},
    }
