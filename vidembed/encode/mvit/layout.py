"""MViT checkpoints: the architectures, and one set of names for two layouts of files.

The names here are torchvision's. pytorchvideo's files (separate q, k and v, other names) are
renamed. Needs no torch: only names and shapes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from vidembed.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    Shape = tuple[int, ...]

T = TypeVar("T")

HEAD_DIM = 96
DEPTH = 16
SIDE = 56
"""Patches along each side of a frame of 224 pixels."""
_STAGES = (0, 1, 3, 14)
# Newer pytorchvideo saves the pooling weights twice; its own loader ignores these names.
_DUPLICATE = re.compile(r"blocks\.\d+\.attn\._attention_pool_[qkv]\.")
_FUSED = re.compile(r"(blocks\.\d+\.attn)\.[qkv]\.(weight|bias)")


@dataclass(frozen=True, slots=True)
class Block:
    """One transformer block. side: of the patch grid that goes in; q_stride halves it; kv_stride:
    of keys and values. attention: width of the attention, which in v1 is that of the input.
    """

    width: int
    attention: int
    out: int
    heads: int
    side: int
    q_stride: int
    kv_stride: int


@dataclass(frozen=True, slots=True)
class Architecture:
    """MViT-B of the first paper, or MViTv2-S of the second. version: 1 or 2."""

    version: int
    frames: int

    @property
    def label(self) -> str:
        return f"MViT-B {self.frames}" if self.version == 1 else f"MViTv2-S {self.frames}"

    @property
    def times(self) -> int:
        """Patches in time."""
        return self.frames // 2

    @property
    def blocks(self) -> list[Block]:
        """Both have stages of 1, 2, 11 and 2 blocks. Heads and width double with each; the width
        in the MLP before it in v1, in its first attention in v2.
        """
        found = []
        side = SIDE
        for i in range(DEPTH):
            stage = sum(i >= first for first in _STAGES) - 1
            width = HEAD_DIM << stage
            first, last = i in _STAGES[1:], i + 1 in _STAGES
            of_attention, out = width, width << (self.version == 1 and last)
            into = width >> (self.version == 2 and first)
            stride = 2 if first else 1
            found.append(Block(into, of_attention, out, 1 << stage, side, stride, 8 >> stage))
            side //= stride
        return found


ARCHITECTURES = {
    "mvit_base_16x4": Architecture(1, 16),
    "mvit_base_32x3": Architecture(1, 32),
    "mvit_v1_b": Architecture(1, 16),
    "mvit_v2_s": Architecture(2, 16),
}


def drop_duplicates(names: Mapping[str, T]) -> dict[str, T]:
    """Without the second copies of the pooling weights."""
    return {name: value for name, value in names.items() if not _DUPLICATE.match(name)}


def is_pytorchvideo(shapes: Mapping[str, Shape]) -> bool:
    """Whether the names are pytorchvideo's. Raises WeightsError where they are nobody's."""
    if "patch_embed.patch_model.weight" in shapes:
        return True
    if "conv_proj.weight" in shapes:
        return False
    if "patch_embed.proj.weight" in shapes:
        raise WeightsError(
            "these are the names of SlowFast's own MViT files, which are not read; take "
            "pytorchvideo's or torchvision's"
        )
    raise WeightsError(
        "no MViT checkpoint: neither patch_embed.patch_model.weight (pytorchvideo) nor "
        "conv_proj.weight (torchvision) is there"
    )


def shapes_of(architecture: Architecture, classes: int) -> dict[str, Shape]:
    """Names and shapes, torchvision's. classes: of the head, whose logits are not used."""
    found: dict[str, Shape] = {"conv_proj.weight": (HEAD_DIM, 3, 3, 7, 7)}
    found |= {"conv_proj.bias": (HEAD_DIM,), "pos_encoding.class_token": (HEAD_DIM,)}
    if architecture.version == 1:
        found["pos_encoding.class_pos"] = (HEAD_DIM,)
        found["pos_encoding.spatial_pos"] = (SIDE * SIDE, HEAD_DIM)
        found["pos_encoding.temporal_pos"] = (architecture.times, HEAD_DIM)
    for i, block in enumerate(architecture.blocks):
        of_block = _block_shapes(block, architecture)
        found |= {f"blocks.{i}.{name}": shape for name, shape in of_block.items()}
    out = architecture.blocks[-1].out
    return found | _norm("norm", out) | _linear("head.1", out, classes)


def _block_shapes(block: Block, architecture: Architecture) -> dict[str, Shape]:
    second = architecture.version == 2
    found = _norm("norm1", block.width) | _norm("norm2", block.attention)
    found |= _linear("attn.qkv", block.width, 3 * block.attention)
    found |= _linear("attn.project.0", block.attention, block.attention)
    for part in ("q", "k", "v") if second or block.q_stride > 1 else ("k", "v"):
        found[f"attn.pool_{part}.pool.weight"] = (HEAD_DIM, 1, 3, 3, 3)
        found |= _norm(f"attn.pool_{part}.norm_act.0", HEAD_DIM)
    if second:
        sides = max(block.side // block.q_stride, block.side // block.kv_stride)
        found["attn.rel_pos_h"] = found["attn.rel_pos_w"] = (2 * sides - 1, HEAD_DIM)
        found["attn.rel_pos_t"] = (2 * architecture.times - 1, HEAD_DIM)
    found |= _linear("mlp.0", block.attention, 4 * block.attention)
    found |= _linear("mlp.3", 4 * block.attention, block.out)
    if block.width != block.out:
        found |= _linear("project", block.width, block.out)
    return found


def _norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _linear(name: str, into: int, out: int) -> dict[str, Shape]:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


_PLAIN = (
    (r"^patch_embed\.patch_model\.", "conv_proj."),
    (r"^cls_positional_encoding\.cls_token$", "pos_encoding.class_token"),
    (r"^cls_positional_encoding\.pos_embed_(class|spatial|temporal)$", r"pos_encoding.\1_pos"),
    (r"\.attn\.proj\.", ".attn.project.0."),
    (r"\.attn\.pool_([qkv])\.weight$", r".attn.pool_\1.pool.weight"),
    (r"\.attn\.norm_([qkv])\.", r".attn.pool_\1.norm_act.0."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
    (r"^(blocks\.\d+)\.proj\.", r"\1.project."),
    (r"^norm_embed\.", "norm."),
    (r"^head\.proj\.", "head.1."),
)


def renames(shapes: Mapping[str, Shape]) -> dict[str, tuple[str, ...]]:
    """For each of our names the name in pytorchvideo's file, or the names of q, k and v."""
    found: dict[str, tuple[str, ...]] = {}
    for name in shapes:
        fused = _FUSED.fullmatch(name)
        if fused is None:
            ours = name
            for pattern, replacement in _PLAIN:
                ours = re.sub(pattern, replacement, ours)
            found[ours] = (name,)
            continue
        block, kind = fused.groups()
        parts = tuple(f"{block}.{part}.{kind}" for part in "qkv")
        if all(part in shapes for part in parts):
            found[f"{block}.qkv.{kind}"] = parts
        else:
            found[name] = (name,)
    return found


def renamed_shapes(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shapes of a pytorchvideo file under our names."""
    found = {}
    for name, sources in renames(shapes).items():
        first = shapes[sources[0]]
        if len(sources) > 1:
            first = (sum(shapes[source][0] for source in sources), *first[1:])
        found[name] = unbatched(name, first)
    return found


def unbatched(name: str, shape: Shape) -> Shape:
    """Without the leading ones that pytorchvideo's positions have."""
    if name.startswith("pos_encoding."):
        while shape and shape[0] == 1:
            shape = shape[1:]
    return shape
