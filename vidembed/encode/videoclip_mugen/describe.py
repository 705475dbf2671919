"""The facts of a checkpoint of MUGEN's VideoCLIP, from its names and shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidembed.encode import weights as files
from vidembed.encode.spec import EncoderSpec
from vidembed.encode.videoclip_mugen import layout

if TYPE_CHECKING:
    from vidembed.clips import ClipSpec
    from vidembed.encode.entry import Entry
    from vidembed.encode.videoclip_mugen.layout import Architecture


def describe(row: Entry, weights: str | None, preset: ClipSpec | None) -> EncoderSpec:
    """The spec of this encoder. Raises WeightsError where the weights do not fit."""
    found = files.find(weights or "")
    return EncoderSpec(
        name=row.name,
        dim=layout.DIM,
        clip=preset or row.default,
        metric="COSINE",
        context_length=layout.POSITIONS,
        weights=weights or "",
        digest=found.digest(),
        architecture=architecture_of(found).label,
    )


def architecture_of(found: files.Weights) -> Architecture:
    """The architecture of a checkpoint, every name and shape checked."""
    shapes = layout.renamed(files.shapes(found))
    architecture = layout.detect(shapes, str(found.file))
    files.check(shapes, layout.expected_shapes(architecture), str(found.file))
    return architecture
