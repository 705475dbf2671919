"""Checkpoints of S3D MIL-NCE: names and shapes of their tensors. Needs no torch.

The names are the file's own. Two variants differ in the first convolution only: that of
antoine77340/S3D_HowTo100M (weights ported from the original ones; frames are folded in blocks of
2 x 2 x 2 into channels first) and that of antoine77340/MIL-NCE_HowTo100M's training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from vidembed.encode.s3d import FEATURES, STEM, WIDE, blocks, is_count, norm_shapes
from vidembed.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    Shape = tuple[int, ...]

T = TypeVar("T")

WORD = 300
HIDDEN = 2048
FOLDED = (STEM, 24, 2, 4, 4)
PLAIN = (STEM, 3, 3, 7, 7)
_FIRST = "conv1.conv1.weight"


@dataclass(frozen=True, slots=True)
class Architecture:
    """folded: the variant whose frames are folded into channels; rows: of the table of words."""

    folded: bool
    dim: int
    rows: int

    @property
    def label(self) -> str:
        return "S3D-G, folded input" if self.folded else "S3D-G"

    @property
    def words(self) -> int:
        """Words of a text that are read, which is how many positions the maximum is over: the
        released model's own number, and that of the training repository's evaluation.
        """
        return 16 if self.folded else 30


def drop_ignored(found: Mapping[str, T]) -> dict[str, T]:
    return {name: value for name, value in found.items() if not is_count(name)}


def detect(shapes: Mapping[str, Shape], where: str) -> Architecture:
    """The architecture of a checkpoint. Raises WeightsError where it is none of this family."""
    first = tuple(shapes.get(_FIRST, ()))
    if first not in (FOLDED, PLAIN):
        what = f"has shape {first}" if first else "is missing"
        raise WeightsError(
            f"{where} is no S3D MIL-NCE checkpoint: {_FIRST} {what}, expected {FOLDED} (the file "
            f"s3d_howto100m.pth) or {PLAIN} (a checkpoint of MIL-NCE_HowTo100M)"
        )
    dim = (*shapes.get("fc.weight", ()), 512)[0]
    rows = (*shapes.get("text_module.word_embd.weight", ()), 66250)[0]
    return Architecture(folded=first == FOLDED, dim=dim, rows=rows)


def expected_shapes(architecture: Architecture) -> dict[str, Shape]:
    found: dict[str, Shape] = {}

    def linear(name: str, outputs: int, inputs: int) -> None:
        found.update({f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)})

    def single(name: str, outputs: int, inputs: int) -> None:
        found[f"{name}.conv1.weight"] = (outputs, inputs, 1, 1, 1)
        found.update(norm_shapes(f"{name}.bn1", outputs))

    def separable(name: str, outputs: int, inputs: int) -> None:
        found[f"{name}.conv1.weight"] = (outputs, inputs, 1, 3, 3)
        found[f"{name}.conv2.weight"] = (outputs, outputs, 3, 1, 1)
        found.update(norm_shapes(f"{name}.bn1", outputs) | norm_shapes(f"{name}.bn2", outputs))

    found[_FIRST] = FOLDED if architecture.folded else PLAIN
    found.update(norm_shapes("conv1.bn1", STEM))
    single("conv_2b", STEM, STEM)
    separable("conv_2c", WIDE, STEM)
    linear("gating.fc", WIDE, WIDE)
    for name, inputs, block in blocks():
        at = f"mixed_{name}"
        single(f"{at}.conv_b0", block.b0, inputs)
        single(f"{at}.conv_b1_a", block.b1_a, inputs)
        separable(f"{at}.conv_b1_b", block.b1_b, block.b1_a)
        single(f"{at}.conv_b2_a", block.b2_a, inputs)
        separable(f"{at}.conv_b2_b", block.b2_b, block.b2_a)
        single(f"{at}.conv_b3_b", block.b3, inputs)
        for k, width in enumerate((block.b0, block.b1_b, block.b2_b, block.b3)):
            linear(f"{at}.gating_b{k}.fc", width, width)
    linear("fc", architecture.dim, FEATURES)
    found["text_module.word_embd.weight"] = (architecture.rows, WORD)
    linear("text_module.fc1", HIDDEN, WORD)
    linear("text_module.fc2", architecture.dim, HIDDEN)
    return found
