"""The network of S3D MIL-NCE. Names of parameters are those of the released file.

Miech, Alayrac, Smaira, Laptev, Sivic, Zisserman, "End-to-End Learning of Visual Representations
from Uncurated Instructional Videos" (arXiv 1912.06430); github.com/antoine77340/S3D_HowTo100M.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from vidembed.encode.s3d import FEATURES, STEM, WIDE, Block, blocks
from vidembed.encode.s3d_milnce.layout import HIDDEN, WORD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from vidembed.encode.s3d_milnce.layout import Architecture

    Triple = tuple[int, int, int]

# Padding pads with zeros, which is right after a ReLU only: a pool's maximum is never below 0.
_POOL_SPACE = ((1, 3, 3), (1, 2, 2))
_POOL_ALL = ((3, 3, 3), (2, 2, 2))
_POOL_LAST = ((2, 2, 2), (2, 2, 2))


class Conv(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: Triple, *, stride: int = 1, padding: Triple
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn1 = nn.BatchNorm3d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(self.bn1(self.conv1(x)))


def point(inputs: int, outputs: int) -> Conv:
    return Conv(inputs, outputs, (1, 1, 1), padding=(0, 0, 0))


class Separable(Conv):
    """3 x 3 x 3 in two: in space, then in time, each with its own normalisation and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, (1, 3, 3), padding=(0, 1, 1))
        self.conv2 = nn.Conv3d(outputs, outputs, (3, 1, 1), padding=(1, 0, 0), bias=False)
        self.bn2 = nn.BatchNorm3d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(self.bn2(self.conv2(super().forward(x))))


class Gate(nn.Module):
    """Each channel is weighted by what all channels' means over time and space say of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.sigmoid(self.fc(x.mean(dim=(2, 3, 4))))
        return x * weights[:, :, None, None, None]


class Mixed(nn.Module):
    def __init__(self, inputs: int, widths: Block) -> None:
        super().__init__()
        self.conv_b0 = point(inputs, widths.b0)
        self.conv_b1_a = point(inputs, widths.b1_a)
        self.conv_b1_b = Separable(widths.b1_a, widths.b1_b)
        self.conv_b2_a = point(inputs, widths.b2_a)
        self.conv_b2_b = Separable(widths.b2_a, widths.b2_b)
        self.conv_b3_b = point(inputs, widths.b3)
        self.gating_b0 = Gate(widths.b0)
        self.gating_b1 = Gate(widths.b1_b)
        self.gating_b2 = Gate(widths.b2_b)
        self.gating_b3 = Gate(widths.b3)

    def forward(self, x: Tensor) -> Tensor:
        pooled = nn.functional.max_pool3d(x, 3, 1, 1)
        branches = (
            self.gating_b0(self.conv_b0(x)),
            self.gating_b1(self.conv_b1_b(self.conv_b1_a(x))),
            self.gating_b2(self.conv_b2_b(self.conv_b2_a(x))),
            self.gating_b3(self.conv_b3_b(pooled)),
        )
        return torch.cat(branches, dim=1)


def pool(x: Tensor, window: tuple[Triple, Triple]) -> Tensor:
    """As TensorFlow's "SAME": what a window lacks is added at the end, and every window counts."""
    kernel, stride = window
    padding: list[int] = []
    for size, step in zip(reversed(kernel), reversed(stride), strict=True):
        lacking = max(size - step, 0)
        padding += [lacking // 2, lacking - lacking // 2]
    return nn.functional.max_pool3d(nn.functional.pad(x, padding), kernel, stride, ceil_mode=True)


def folded(x: Tensor) -> Tensor:
    """[n, 3, 2t, 2h, 2w] to [n, 24, t, h, w]: place in the block first, then colour."""
    n, colours, t, h, w = x.shape
    cells = x.reshape(n, colours, t // 2, 2, h // 2, 2, w // 2, 2)
    return cells.permute(0, 3, 5, 7, 1, 2, 4, 6).reshape(n, 8 * colours, t // 2, h // 2, w // 2)


class Words(nn.Module):
    """Word vectors, each put through one layer, and of every feature the largest."""

    def __init__(self, rows: int, dim: int) -> None:
        super().__init__()
        self.word_embd = nn.Embedding(rows, WORD)
        self.fc1 = nn.Linear(WORD, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, dim)

    def forward(self, ids: Tensor) -> Tensor:
        """int64 [n, words] to [n, dim]. Row 0, of the padding, takes part in the maximum."""
        hidden = torch.relu(self.fc1(self.word_embd(ids)))
        found: Tensor = self.fc2(hidden.amax(dim=1))
        return found


class S3dMilNce(nn.Module):
    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.is_folded = architecture.folded
        if self.is_folded:
            self.conv1 = Conv(24, STEM, (2, 4, 4), padding=(1, 2, 2))
        else:
            self.conv1 = Conv(3, STEM, (3, 7, 7), stride=2, padding=(1, 3, 3))
        self.conv_2b = point(STEM, STEM)
        self.conv_2c = Separable(STEM, WIDE)
        self.gating = Gate(WIDE)
        for name, inputs, widths in blocks():
            self.add_module(f"mixed_{name}", Mixed(inputs, widths))
        self.fc = nn.Linear(FEATURES, architecture.dim)
        self.text_module = Words(architecture.rows, architecture.dim)

    def forward(self, clips: Tensor) -> Tensor:
        """[n, 3, frames, height, width] in [0, 1] to [n, dim]; all three even where frames are
        folded.
        """
        x = self.conv1(folded(clips) if self.is_folded else clips)
        if self.is_folded:
            # An even kernel that pads both ends has one window too many.
            x = x[:, :, 1:, 1:, 1:]
        x = self.gating(self.conv_2c(self.conv_2b(pool(x, _POOL_SPACE))))
        x = self._mixed(pool(x, _POOL_SPACE), "3b", "3c")
        x = self._mixed(pool(x, _POOL_ALL), "4b", "4c", "4d", "4e", "4f")
        x = self._mixed(pool(x, _POOL_LAST), "5b", "5c")
        found: Tensor = self.fc(x.mean(dim=(2, 3, 4)))
        return found

    def _mixed(self, x: Tensor, *names: str) -> Tensor:
        for name in names:
            x = self.get_submodule(f"mixed_{name}")(x)
        return x

    def encode_words(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """Rows of the table of words, 0 for padding, [n, words] to [n, dim]."""
        table = self.text_module.word_embd.weight
        found: Tensor = self.text_module(torch.tensor(ids, device=table.device))
        return found
