"""What the tests of S3D MIL-NCE and its oracle share: clips, texts, the tensors of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.goldens import seeded

if TYPE_CHECKING:
    from collections.abc import Mapping

ROWS, DIM = 900, 512
TEXTS = [
    "Open the door",
    "CUT tomato, don't slice it!",
    "completely unknownwords hereabouts",
    "",
    "cut cut cut " * 9 + "door",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z",
]
WORDS = [
    "open",
    "the",
    "door",
    "cut",
    "tomato",
    "don't",
    "slice",
    "it",
    "née",
    *"abcdefghijklmnopqrst",
]
# Frames, height, width, seed.
CLIPS = [(32, 240, 320, 1), (16, 227, 299, 2), (16, 321, 243, 3), (2, 224, 224, 4)]

WIDTHS = {
    "3b": "192 64 96 128 16 32 32",
    "3c": "256 128 128 192 32 96 64",
    "4b": "480 192 96 208 16 48 64",
    "4c": "512 160 112 224 24 64 64",
    "4d": "512 128 128 256 24 64 64",
    "4e": "512 112 144 288 32 64 64",
    "4f": "528 256 160 320 32 128 128",
    "5b": "832 256 160 320 32 128 128",
    "5c": "832 384 192 384 48 128 128",
}


def shapes(*, folded: bool = True, rows: int = ROWS) -> dict[str, tuple[int, ...]]:
    """Of the released file, or of one of the training repository's."""
    out: dict[str, tuple[int, ...]] = {}

    def norm(name: str, n: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            out[f"{name}.{part}"] = (n,)
        out[f"{name}.num_batches_tracked"] = ()

    def conv(name: str, a: int, b: int, k: int = 1) -> None:
        out[f"{name}.conv1.weight"] = (b, a, 1, k, k)
        norm(f"{name}.bn1", b)
        if k > 1:
            out[f"{name}.conv2.weight"] = (b, b, k, 1, 1)
            norm(f"{name}.bn2", b)

    def linear(name: str, a: int, b: int) -> None:
        out.update({f"{name}.weight": (b, a), f"{name}.bias": (b,)})

    out["conv1.conv1.weight"] = (64, 24, 2, 4, 4) if folded else (64, 3, 3, 7, 7)
    norm("conv1.bn1", 64)
    conv("conv_2b", 64, 64)
    conv("conv_2c", 64, 192, 3)
    linear("gating.fc", 192, 192)
    for name, widths in WIDTHS.items():
        i, b0, b1a, b1b, b2a, b2b, b3 = map(int, widths.split())
        at = f"mixed_{name}"
        conv(f"{at}.conv_b0", i, b0)
        conv(f"{at}.conv_b1_a", i, b1a)
        conv(f"{at}.conv_b1_b", b1a, b1b, 3)
        conv(f"{at}.conv_b2_a", i, b2a)
        conv(f"{at}.conv_b2_b", b2a, b2b, 3)
        conv(f"{at}.conv_b3_b", i, b3)
        for k, n in enumerate((b0, b1b, b2b, b3)):
            linear(f"{at}.gating_b{k}.fc", n, n)
    linear("fc", 1024, DIM)
    out["text_module.word_embd.weight"] = (rows, 300)
    linear("text_module.fc1", 300, 2048)
    linear("text_module.fc2", 2048, DIM)
    return out


def weights(*, folded: bool = True, seed: int = 5) -> dict[str, np.ndarray]:
    """From a seed, and such that clips still differ behind some forty layers, each of which would
    halve what it is given: gates are open, each in its own measure, and normalisations amplify.
    """
    return lively(seeded.weights(shapes(folded=folded), seed))


def lively(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    out = dict(state)
    for name, value in state.items():
        if "gating" in name:
            out[name] = value * np.float32(4) + np.float32(3 if name.endswith("bias") else 0)
        elif ".bn" in name and name.endswith(".weight"):
            out[name] = value * np.float32(1.35)
    return out


def lively_towers(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same for the S3D of torchvision's names inside MUGEN's VideoCLIP, which has no gates."""
    return {
        name: value * np.float32(1.8)
        if ".features." in name and name.endswith("weight") and value.ndim == 1
        else value
        for name, value in state.items()
    }
