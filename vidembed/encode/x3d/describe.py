"""The facts of an X3D checkpoint, from its names and shapes.

Needs no torch where the weights are safetensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from vidembed.encode import weights as files
from vidembed.encode.spec import EncoderSpec, FrameCounts
from vidembed.encode.x3d import layout
from vidembed.errors import WeightsError

if TYPE_CHECKING:
    from vidembed.clips import ClipSpec
    from vidembed.encode.entry import Entry
    from vidembed.encode.spec import Metric
    from vidembed.encode.x3d.layout import Architecture


def describe(row: Entry, weights: str | None, preset: ClipSpec | None) -> EncoderSpec:
    """The spec of an encoder of this family. Raises WeightsError where the weights do not fit."""
    if weights is None:
        raise WeightsError(f"{row.name} needs weights")
    found = files.find(weights)
    architecture = layout.ARCHITECTURES[row.name]
    check(found, architecture)
    return EncoderSpec(
        name=row.name,
        dim=layout.DIM,
        clip=preset or row.default,
        metric=cast("Metric", row.metric),
        context_length=0,
        weights=weights,
        digest=found.digest(),
        architecture=architecture.label,
        counts=FrameCounts(architecture.frames, architecture.frames),
    )


def check(found: files.Weights, architecture: Architecture) -> None:
    """Raise WeightsError unless every name and shape fits."""
    shapes = files.shapes(found)
    classes = (shapes.get("blocks.5.proj.weight") or (400,))[0]
    files.check(shapes, layout.shapes_of(architecture, classes), str(found.file))
