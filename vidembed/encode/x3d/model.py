"""X3D: a small residual network of separable convolutions over space and time.

Written from the paper (arXiv 2004.04730); what it leaves open is as in
facebookresearch/pytorchvideo, whose weights are read and whose names the parameters have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from vidembed.encode.x3d.layout import DIM, HEAD, STEM

if TYPE_CHECKING:
    from vidembed.encode.x3d.layout import Architecture, Block


class X3d(nn.Module):
    """float [batch, 3, frames, side, side], normalised, to [batch, 2048]: what the classifier is
    given, before it.
    """

    def __init__(self, architecture: Architecture, classes: int) -> None:
        super().__init__()
        stages = [_Stage(blocks) for blocks in architecture.stages]
        head = _Head(architecture.stages[-1][-1].out, architecture.pool, classes)
        self.blocks = nn.Sequential(_Stem(), *stages, head)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        vectors: torch.Tensor = self.blocks(pixels)
        return vectors


class _Stem(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = _StemConv()
        self.norm = nn.BatchNorm3d(STEM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.conv(x)))


class _StemConv(nn.Module):
    """Over the plane first, then over time. The files call the first one conv_t."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_t = nn.Conv3d(3, STEM, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1), bias=False)
        self.conv_xy = nn.Conv3d(STEM, STEM, (5, 1, 1), padding=(2, 0, 0), groups=STEM, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.conv_xy(self.conv_t(x))
        return found


class _Stage(nn.Module):
    def __init__(self, blocks: list[Block]) -> None:
        super().__init__()
        self.res_blocks = nn.Sequential(*map(_Block, blocks))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.res_blocks(x)
        return found


class _Block(nn.Module):
    """A bottleneck and its shortcut."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.branch2 = _Bottleneck(block)
        self.branch1_conv = (
            nn.Conv3d(block.width, block.out, 1, stride=(1, block.stride, block.stride), bias=False)
            if block.shortcut
            else nn.Identity()
        )
        self.branch1_norm = nn.BatchNorm3d(block.out) if block.width != block.out else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.branch1_norm(self.branch1_conv(x)) + self.branch2(x))


class _Bottleneck(nn.Module):
    def __init__(self, block: Block) -> None:
        super().__init__()
        inner = block.inner
        self.conv_a = nn.Conv3d(block.width, inner, 1, bias=False)
        self.norm_a = nn.BatchNorm3d(inner)
        self.conv_b = nn.Conv3d(
            inner,
            inner,
            3,
            stride=(1, block.stride, block.stride),
            padding=1,
            groups=inner,
            bias=False,
        )
        squeeze = _Squeeze(inner, block.reduced) if block.reduced else nn.Identity()
        self.norm_b = nn.Sequential(nn.BatchNorm3d(inner), squeeze)
        self.conv_c = nn.Conv3d(inner, block.out, 1, bias=False)
        self.norm_c = nn.BatchNorm3d(block.out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm_a(self.conv_a(x)))
        x = nn.functional.silu(self.norm_b(self.conv_b(x)))
        found: torch.Tensor = self.norm_c(self.conv_c(x))
        return found


class _Squeeze(nn.Module):
    """Squeeze and excitation: channels weighted by what all of the clip shows."""

    def __init__(self, width: int, reduced: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv3d(width, reduced, 1), nn.ReLU(), nn.Conv3d(reduced, width, 1), nn.Sigmoid()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = x * self.block(x.mean(dim=(2, 3, 4), keepdim=True))
        return found


class _Head(nn.Module):
    """At a larger crop than in training several windows of the average fit: each goes on by
    itself, and the mean is taken after the activation.
    """

    def __init__(self, width: int, pool: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.pool = _HeadPool(width, pool)
        # Not used; it is in every file.
        self.proj = nn.Linear(DIM, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.pool(x).mean(dim=(2, 3, 4))
        return found


class _HeadPool(nn.Module):
    def __init__(self, width: int, pool: tuple[int, int, int]) -> None:
        super().__init__()
        self.pre_conv = nn.Conv3d(width, HEAD, 1, bias=False)
        self.pre_norm = nn.BatchNorm3d(HEAD)
        self.pool = nn.AvgPool3d(pool, stride=1)
        self.post_conv = nn.Conv3d(HEAD, DIM, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.pre_norm(self.pre_conv(x)))
        # torch has no half-precision average on a CPU.
        x = self.pool(x.float()).to(x.dtype)
        return torch.relu(self.post_conv(x))
