"""The facts of an S3D MIL-NCE checkpoint, from its names and shapes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vidembed.encode import weights as files
from vidembed.encode.s3d_milnce import dictionary, layout
from vidembed.encode.spec import EncoderSpec, FrameCounts

if TYPE_CHECKING:
    from vidembed.clips import ClipSpec
    from vidembed.encode.entry import Entry
    from vidembed.encode.s3d_milnce.layout import Architecture


def describe(row: Entry, weights: str | None, preset: ClipSpec | None) -> EncoderSpec:
    """The spec of this encoder. Raises WeightsError where the weights do not fit."""
    found = find(weights or "")
    architecture = architecture_of(found)
    return EncoderSpec(
        name=row.name,
        dim=architecture.dim,
        clip=preset or row.default,
        counts=FrameCounts(2, step=2) if architecture.folded else FrameCounts(),
        metric="IP",
        context_length=architecture.words,
        weights=weights or "",
        digest=identity(found).digest(),
        architecture=architecture.label,
    )


def find(weights: str) -> files.Weights:
    return files.find(weights, dictionary.NAMES)


def identity(found: files.Weights) -> files.Weights:
    """What the digest is over: without the dictionary, which no video's vector depends on. So a run
    can be made before it is there, and searched by text once it is.
    """
    return replace(found, sides=())


def architecture_of(found: files.Weights) -> Architecture:
    """The architecture of a checkpoint, every name and shape checked."""
    shapes = layout.drop_ignored(files.shapes(found))
    architecture = layout.detect(shapes, str(found.file))
    files.check(shapes, layout.expected_shapes(architecture), str(found.file))
    return architecture
