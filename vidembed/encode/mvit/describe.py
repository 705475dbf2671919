"""The facts of an MViT checkpoint, from its names and shapes.

Needs no torch where the weights are safetensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidembed.encode import weights as files
from vidembed.encode.mvit import layout
from vidembed.encode.spec import EncoderSpec, FrameCounts
from vidembed.errors import WeightsError

if TYPE_CHECKING:
    from vidembed.clips import ClipSpec
    from vidembed.encode.entry import Entry
    from vidembed.encode.mvit.layout import Architecture


def describe(row: Entry, weights: str | None, preset: ClipSpec | None) -> EncoderSpec:
    """The spec of an encoder of this family. Raises WeightsError where the weights do not fit."""
    if weights is None:
        raise WeightsError(f"{row.name} needs weights")
    found = files.find(weights)
    architecture = layout.ARCHITECTURES[row.name]
    of_pytorchvideo = check(found, architecture)
    origin = "pytorchvideo" if of_pytorchvideo else "torchvision"
    return EncoderSpec(
        name=row.name,
        dim=architecture.blocks[-1].out,
        clip=preset or row.default,
        metric="COSINE",
        context_length=0,
        weights=weights,
        digest=found.digest(),
        architecture=f"{architecture.label} ({origin})",
        counts=FrameCounts(architecture.frames, architecture.frames),
    )


def check(found: files.Weights, architecture: Architecture) -> bool:
    """Whether the file is pytorchvideo's. Raises WeightsError unless every name and shape fits."""
    shapes = layout.drop_duplicates(files.shapes(found))
    try:
        of_pytorchvideo = layout.is_pytorchvideo(shapes)
    except WeightsError as error:
        raise WeightsError(f"{found.file}: {error}") from error
    if of_pytorchvideo:
        shapes = layout.renamed_shapes(shapes)
    head = shapes.get("head.1.weight", (400,))
    files.check(shapes, layout.shapes_of(architecture, head[0]), str(found.file))
    return of_pytorchvideo
