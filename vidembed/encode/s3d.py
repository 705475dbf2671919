"""Widths of S3D, the separable 3D Inception of Xie et al., "Rethinking Spatiotemporal Feature
Learning For Video Understanding" (arXiv 1712.04851).

Two encoders are built on it, and no two alike: gating, padding, the first convolution and the
constants of the normalisation differ. What they share is here, without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Shape = tuple[int, ...]

STEM = 64
"""Channels after the first convolution, and after the 1x1x1 one that follows it."""
WIDE = 192
"""Channels where the first block begins."""


class Block(NamedTuple):
    """Channels of the four branches: b0 is one convolution, b1 and b2 are two (a narrows, b is
    separable), b3 is a convolution after a pool.
    """

    b0: int
    b1_a: int
    b1_b: int
    b2_a: int
    b2_b: int
    b3: int

    @property
    def outputs(self) -> int:
        return self.b0 + self.b1_b + self.b2_b + self.b3


BLOCKS: Mapping[str, Block] = {
    "3b": Block(64, 96, 128, 16, 32, 32),
    "3c": Block(128, 128, 192, 32, 96, 64),
    "4b": Block(192, 96, 208, 16, 48, 64),
    "4c": Block(160, 112, 224, 24, 64, 64),
    "4d": Block(128, 128, 256, 24, 64, 64),
    "4e": Block(112, 144, 288, 32, 64, 64),
    "4f": Block(256, 160, 320, 32, 128, 128),
    "5b": Block(256, 160, 320, 32, 128, 128),
    "5c": Block(384, 192, 384, 48, 128, 128),
}
FEATURES = BLOCKS["5c"].outputs


def blocks() -> Iterator[tuple[str, int, Block]]:
    """Name, input channels and widths of each block, in order."""
    inputs = WIDE
    for name, block in BLOCKS.items():
        yield name, inputs, block
        inputs = block.outputs


def norm_shapes(name: str, channels: int) -> dict[str, Shape]:
    """Of a batch normalisation; how many batches it has seen is left out, as it changes nothing."""
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (channels,) for part in parts}


def is_count(name: str) -> bool:
    """Whether this is a number of batches seen, which files of old torch versions do not have."""
    return name.endswith(".num_batches_tracked")
