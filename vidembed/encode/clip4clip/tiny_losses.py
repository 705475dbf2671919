"""What `clip4clip-tiny` is trained on: captions, labels and places of shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vidembed.encode.clip4clip.tiny_data import ATTRIBUTES

if TYPE_CHECKING:
    from collections.abc import Sequence

# Divides places (x, y, radius in frame heights), so that each spans about -1 to 1.
_PLACE_UNIT = torch.tensor((0.25, 0.25, 0.2))


class Labels(nn.Module):
    """Classifiers of the attributes, one linear layer each."""

    def __init__(self, dim: int, names: Sequence[str]) -> None:
        super().__init__()
        self.columns = [list(ATTRIBUTES).index(name) for name in names]
        self.layers = nn.ModuleList(nn.Linear(dim, len(ATTRIBUTES[name])) for name in names)

    def loss(self, features: Tensor, truth: Tensor) -> Tensor:
        """Sum of the attributes' cross-entropies; `features` [n, dim], `truth` [n, 5]."""
        parts = [
            nn.functional.cross_entropy(layer(features), truth[:, column])
            for layer, column in zip(self.layers, self.columns, strict=True)
        ]
        return torch.stack(parts).sum()


class Places(nn.Module):
    """Reads from a frame's features where the shape is and how large.

    Motion is nothing but this over time: a tower that learns what is seen and not where leaves
    the frame transformer nothing to see motion by.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layer = nn.Linear(dim, 3)

    def loss(self, features: Tensor, truth: Tensor) -> Tensor:
        """Mean squared error in units of about half the span; both [n, dim or 3].

        Where the shape is not seen, only its radius of 0 counts.
        """
        error = (self.layer(features) - truth / _PLACE_UNIT) ** 2
        seen = (truth[:, 2:] > 0).float()
        loss: Tensor = (error * torch.cat([seen, seen, torch.ones_like(seen)], dim=1)).mean()
        return loss


def contrastive(clips: Tensor, texts: Tensor, scale: Tensor, excluded: Tensor) -> Tensor:
    """Symmetric InfoNCE of unit vectors [n, dim]; row i of each belongs together.

    `excluded` bool [texts, clips]: pairs that fit as well without belonging together.
    """
    logits = (scale.exp() * texts @ clips.T).masked_fill(excluded, float("-inf"))
    own = torch.arange(len(logits))
    forward = nn.functional.cross_entropy(logits, own)
    return (forward + nn.functional.cross_entropy(logits.T, own)) / 2
