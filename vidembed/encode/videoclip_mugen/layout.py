"""Checkpoints of MUGEN's VideoCLIP: names and shapes of their tensors. Needs no torch.

The names here are those of TorchMultimodal's own file. Its Lightning checkpoints have them behind
`model.`; those of mugen-org/MUGEN_baseline, from which the file was made, have names of their own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from vidembed.encode.s3d import FEATURES, STEM, WIDE, blocks, is_count, norm_shapes
from vidembed.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    Shape = tuple[int, ...]

T = TypeVar("T")

DIM = 256
HIDDEN = 768
INNER = 3072
HEADS = 12
POSITIONS = 512
VOCABULARY = 30522
TEXT, VIDEO = "encoder_a.0.model.", "encoder_b.0.model.features."

# What training keeps beside the network: the temperature of its loss, and numbers of positions.
_IGNORED = re.compile(
    r"contrastive_loss\..*|temperature|max_temperature|.*\.embeddings\.position_ids"
)
_BASELINE = (
    ("visual_encoder.model.base.", VIDEO),
    ("image_projection.", "encoder_b.1."),
    ("text_encoder.model.", TEXT),
    ("text_projection.", "encoder_a.1."),
)
# Inside the S3D of MUGEN_baseline, in this order: a branch of one convolution has no level for it.
_BASELINE_VIDEO = (
    (".conv_s.", ".0.0."),
    (".bn_s.", ".0.1."),
    (".conv_t.", ".1.0."),
    (".bn_t.", ".1.1."),
    (".branch0.0.conv.", ".branch0.0."),
    (".branch0.0.bn.", ".branch0.1."),
    (".conv.", ".0."),
    (".bn.", ".1."),
)


@dataclass(frozen=True, slots=True)
class Architecture:
    """layers: of DistilBERT."""

    layers: int

    @property
    def label(self) -> str:
        return f"S3D and DistilBERT of {self.layers} layers"


def renamed(found: Mapping[str, T]) -> dict[str, T]:
    """Any of the three layouts under the names of the bare file, without what is not needed."""
    if any(name.startswith("model.encoder_") for name in found):
        found = {name.removeprefix("model."): value for name, value in found.items()}
    if any(name.startswith(_BASELINE[0][0]) for name in found):
        found = {_from_baseline(name): value for name, value in found.items()}
    return {
        name: value
        for name, value in found.items()
        if not is_count(name) and not _IGNORED.fullmatch(name)
    }


def _from_baseline(name: str) -> str:
    for theirs, ours in _BASELINE:
        if name.startswith(theirs):
            name = ours + name.removeprefix(theirs)
            break
    if name.startswith(VIDEO):
        for theirs, ours in _BASELINE_VIDEO:
            name = name.replace(theirs, ours)
    return name


def detect(shapes: Mapping[str, Shape], where: str) -> Architecture:
    """The architecture of a renamed checkpoint. Raises WeightsError where it is none of these."""
    for first in (f"{VIDEO}0.0.0.weight", f"{TEXT}embeddings.word_embeddings.weight"):
        if first not in shapes:
            raise WeightsError(
                f"{where} is no checkpoint of MUGEN's VideoCLIP: {first} is missing, and so are "
                f"its names in a Lightning checkpoint and in one of MUGEN_baseline"
            )
    numbers = [
        int(match[1])
        for name in shapes
        if (match := re.match(rf"{re.escape(TEXT)}transformer\.layer\.(\d+)\.", name))
    ]
    return Architecture(layers=max(numbers, default=-1) + 1)


def expected_shapes(architecture: Architecture) -> dict[str, Shape]:
    found = _text_shapes(architecture.layers) | _video_shapes()
    for name, inputs in (("encoder_a.1", HIDDEN), ("encoder_b.1", FEATURES)):
        found[f"{name}.linear1.weight"] = (DIM, inputs)
        found[f"{name}.linear2.weight"] = (DIM, DIM)
        found |= _affine(f"{name}.layer_norm", DIM)
    return found


def _affine(name: str, *weight: int) -> dict[str, Shape]:
    return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}


def _text_shapes(layers: int) -> dict[str, Shape]:
    found: dict[str, Shape] = {
        "embeddings.word_embeddings.weight": (VOCABULARY, HIDDEN),
        "embeddings.position_embeddings.weight": (POSITIONS, HIDDEN),
    }
    found |= _affine("embeddings.LayerNorm", HIDDEN)
    for k in range(layers):
        layer = f"transformer.layer.{k}"
        for part in ("q_lin", "k_lin", "v_lin", "out_lin"):
            found |= _affine(f"{layer}.attention.{part}", HIDDEN, HIDDEN)
        found |= _affine(f"{layer}.ffn.lin1", INNER, HIDDEN)
        found |= _affine(f"{layer}.ffn.lin2", HIDDEN, INNER)
        found |= _affine(f"{layer}.sa_layer_norm", HIDDEN)
        found |= _affine(f"{layer}.output_layer_norm", HIDDEN)
    return {TEXT + name: shape for name, shape in found.items()}


def _video_shapes() -> dict[str, Shape]:
    found: dict[str, Shape] = {}

    def single(name: str, outputs: int, inputs: int, kernel: Shape = (1, 1, 1)) -> None:
        found[f"{name}.0.weight"] = (outputs, inputs, *kernel)
        found.update(norm_shapes(f"{name}.1", outputs))

    def separable(name: str, outputs: int, inputs: int, size: int) -> None:
        single(f"{name}.0", outputs, inputs, (1, size, size))
        single(f"{name}.1", outputs, outputs, (size, 1, 1))

    separable("0", STEM, 3, 7)
    single("2", STEM, STEM)
    separable("3", WIDE, STEM, 3)
    places = (5, 6, 8, 9, 10, 11, 12, 14, 15)
    for place, (_, inputs, block) in zip(places, blocks(), strict=True):
        single(f"{place}.branch0", block.b0, inputs)
        single(f"{place}.branch1.0", block.b1_a, inputs)
        separable(f"{place}.branch1.1", block.b1_b, block.b1_a, 3)
        single(f"{place}.branch2.0", block.b2_a, inputs)
        separable(f"{place}.branch2.1", block.b2_b, block.b2_a, 3)
        single(f"{place}.branch3.1", block.b3, inputs)
    return {VIDEO + name: shape for name, shape in found.items()}
