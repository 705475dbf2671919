"""The facts of a PE-Core checkpoint, from its names and shapes. Needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidembed.encode import weights as files
from vidembed.encode.pe_core.layout import ARCHITECTURES, POSITIONS, expected_shapes
from vidembed.encode.spec import EncoderSpec
from vidembed.errors import WeightsError

if TYPE_CHECKING:
    from vidembed.clips import ClipSpec
    from vidembed.encode.entry import Entry


def describe(row: Entry, weights: str | None, preset: ClipSpec | None) -> EncoderSpec:
    """The spec of an encoder of this family. Raises WeightsError where the weights do not fit."""
    if weights is None:
        raise WeightsError(f"{row.name} needs weights")
    found = files.find(weights)
    architecture = ARCHITECTURES[row.name]
    shapes = files.shapes(found)
    for name, other in ARCHITECTURES.items():
        if other is not architecture and shapes.get(POSITIONS) == other.positions:
            raise WeightsError(f"{found.file} is a {other.label}: --encoder {name} takes it")
    files.check(shapes, expected_shapes(architecture), str(found.file))
    return EncoderSpec(
        name=row.name,
        dim=architecture.dim,
        clip=preset or row.default,
        metric="COSINE",
        context_length=architecture.context,
        weights=weights,
        digest=found.digest(),
        architecture=architecture.label,
    )
