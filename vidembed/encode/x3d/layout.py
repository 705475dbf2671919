"""X3D's architectures, and the names and shapes of pytorchvideo's checkpoints of them.

Needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Shape = tuple[int, ...]

STEM = 24
HEAD = 432
DIM = 2048


@dataclass(frozen=True, slots=True)
class Block:
    """One residual block. reduced: channels inside its squeeze and excitation, None without."""

    width: int
    inner: int
    out: int
    stride: int
    reduced: int | None

    @property
    def shortcut(self) -> bool:
        """Whether the shortcut is a convolution; it is normalised only where widths differ."""
        return self.stride > 1 or self.width != self.out


@dataclass(frozen=True, slots=True)
class Architecture:
    """frames, crop: of its own training, which fix the pooling of the head. depth: blocks of the
    four stages.
    """

    label: str
    frames: int
    crop: int
    depth: tuple[int, int, int, int] = (3, 5, 11, 7)

    @property
    def stages(self) -> list[list[Block]]:
        found = []
        width = STEM
        for stage, blocks in enumerate(self.depth):
            out = STEM << stage
            # Every other block has one, of a sixteenth of the channels in steps of eight, but not
            # so few that a tenth is lost.
            squeezed = (8, 8, 16, 32)[stage]
            found.append(
                [
                    Block(
                        width=out if i else width,
                        inner=out * 9 // 4,
                        out=out,
                        stride=1 if i else 2,
                        reduced=None if i % 2 else squeezed,
                    )
                    for i in range(blocks)
                ]
            )
            width = out
        return found

    @property
    def pool(self) -> tuple[int, int, int]:
        """The window of the head's average: at the crop of training it covers everything."""
        side = -(-self.crop // 32)
        return (self.frames, side, side)


XS = Architecture("X3D-XS", 4, 160)
S = Architecture("X3D-S", 13, 160)
M = Architecture("X3D-M", 16, 224)
L = Architecture("X3D-L", 16, 312, (5, 10, 25, 15))
ARCHITECTURES = {"x3d_xs": XS, "x3d_s": S, "x3d_m": M, "x3d_m_raw": M, "x3d_l": L}


def shapes_of(architecture: Architecture, classes: int) -> dict[str, Shape]:
    """Names and shapes. classes: of the classifier, which is not used."""
    # The two names are swapped: `conv_t` sees the plane, `conv_xy` the time.
    found: dict[str, Shape] = {"blocks.0.conv.conv_t.weight": (STEM, 3, 1, 3, 3)}
    found["blocks.0.conv.conv_xy.weight"] = (STEM, 1, 5, 1, 1)
    found |= _norm("blocks.0.norm", STEM)
    for stage, blocks in enumerate(architecture.stages, start=1):
        for i, block in enumerate(blocks):
            of_block = _block_shapes(block)
            prefix = f"blocks.{stage}.res_blocks.{i}"
            found |= {f"{prefix}.{name}": shape for name, shape in of_block.items()}
    last = architecture.stages[-1][-1].out
    found["blocks.5.pool.pre_conv.weight"] = (HEAD, last, 1, 1, 1)
    found |= _norm("blocks.5.pool.pre_norm", HEAD)
    found["blocks.5.pool.post_conv.weight"] = (DIM, HEAD, 1, 1, 1)
    found["blocks.5.proj.weight"], found["blocks.5.proj.bias"] = (classes, DIM), (classes,)
    return found


def _block_shapes(block: Block) -> dict[str, Shape]:
    found: dict[str, Shape] = {"branch2.conv_a.weight": (block.inner, block.width, 1, 1, 1)}
    found["branch2.conv_b.weight"] = (block.inner, 1, 3, 3, 3)
    found["branch2.conv_c.weight"] = (block.out, block.inner, 1, 1, 1)
    found |= _norm("branch2.norm_a", block.inner) | _norm("branch2.norm_b.0", block.inner)
    found |= _norm("branch2.norm_c", block.out)
    if block.reduced:
        squeeze = "branch2.norm_b.1.block"
        found[f"{squeeze}.0.weight"] = (block.reduced, block.inner, 1, 1, 1)
        found[f"{squeeze}.0.bias"] = (block.reduced,)
        found[f"{squeeze}.2.weight"] = (block.inner, block.reduced, 1, 1, 1)
        found[f"{squeeze}.2.bias"] = (block.inner,)
    if block.shortcut:
        found["branch1_conv.weight"] = (block.out, block.width, 1, 1, 1)
    if block.width != block.out:
        found |= _norm("branch1_norm", block.out)
    return found


def _norm(name: str, width: int) -> dict[str, Shape]:
    parts = ("weight", "bias", "running_mean", "running_var")
    found: dict[str, Shape] = {f"{name}.{part}": (width,) for part in parts}
    return found | {f"{name}.num_batches_tracked": ()}
