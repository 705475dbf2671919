"""The network of MUGEN's VideoCLIP. Names of parameters are those of TorchMultimodal's file.

Hayes et al., "MUGEN: A Playground for Video-Audio-Text Multimodal Understanding and GENeration"
(arXiv 2204.08058); github.com/facebookresearch/multimodal. The video tower is S3D as torchvision
has it, the text tower DistilBERT.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import DistilBertConfig, DistilBertModel

from vidembed.encode.s3d import FEATURES, STEM, WIDE, Block, blocks
from vidembed.encode.videoclip_mugen import layout

if TYPE_CHECKING:
    from torch import Tensor

    from vidembed.encode.videoclip_mugen.layout import Architecture

    Triple = tuple[int, int, int]

# A thousandth, not torch's default: so S3D was trained, after TensorFlow's habit.
_norm = partial(nn.BatchNorm3d, eps=1e-3)


def conv(
    inputs: int, outputs: int, kernel: Triple = (1, 1, 1), stride: Triple = (1, 1, 1)
) -> nn.Sequential:
    """Convolution with as much padding as keeps the size, batch normalisation, ReLU."""
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    made = nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=False)
    return nn.Sequential(made, _norm(outputs), nn.ReLU(inplace=True))


def separable(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    """In space, then in time."""
    return nn.Sequential(
        conv(inputs, outputs, (1, size, size), (1, stride, stride)),
        conv(outputs, outputs, (size, 1, 1), (stride, 1, 1)),
    )


class Mixed(nn.Module):
    def __init__(self, inputs: int, widths: Block) -> None:
        super().__init__()
        self.branch0 = conv(inputs, widths.b0)
        self.branch1 = nn.Sequential(
            conv(inputs, widths.b1_a), separable(widths.b1_a, widths.b1_b, 3)
        )
        self.branch2 = nn.Sequential(
            conv(inputs, widths.b2_a), separable(widths.b2_a, widths.b2_b, 3)
        )
        self.branch3 = nn.Sequential(nn.MaxPool3d(3, 1, 1), conv(inputs, widths.b3))

    def forward(self, x: Tensor) -> Tensor:
        branches = (self.branch0, self.branch1, self.branch2, self.branch3)
        return torch.cat([branch(x) for branch in branches], dim=1)


class S3d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        found: list[nn.Module] = [
            separable(3, STEM, 7, stride=2),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            conv(STEM, STEM),
            separable(STEM, WIDE, 3),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        ]
        for name, inputs, widths in blocks():
            if name == "4b":
                found.append(nn.MaxPool3d(3, 2, 1))
            if name == "5b":
                found.append(nn.MaxPool3d(2, 2))
            found.append(Mixed(inputs, widths))
        self.features = nn.Sequential(*found)


class VideoTower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = S3d()

    def forward(self, clips: Tensor) -> Tensor:
        """[n, 3, 32, 224, 224] to [n, 1024]."""
        # Torch has no such pool of bfloat16 on a CPU.
        x = self.model.features(clips).float()
        # Windows of two moments, then their mean: of four, the inner ones count twice.
        return nn.functional.avg_pool3d(x, (2, 7, 7), stride=1).mean(dim=(2, 3, 4))


class TextTower(nn.Module):
    def __init__(self, layers: int) -> None:
        super().__init__()
        config = DistilBertConfig(
            vocab_size=layout.VOCABULARY,
            max_position_embeddings=layout.POSITIONS,
            n_layers=layers,
            n_heads=layout.HEADS,
            dim=layout.HIDDEN,
            hidden_dim=layout.INNER,
        )
        self.model = DistilBertModel(config)
        # The numbers of positions are in no file; they must have values wherever this is made.
        places = torch.arange(layout.POSITIONS, device="cpu").expand(1, -1)
        self.model.embeddings.register_buffer("position_ids", places, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """int64 [n, tokens], 0 is padding, to what stands at the first token, [n, 768]."""
        hidden = self.model(input_ids=ids, attention_mask=(ids != 0).long()).last_hidden_state
        found: Tensor = hidden[:, 0]
        return found


class Projection(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(inputs, layout.DIM, bias=False)
        self.linear2 = nn.Linear(layout.DIM, layout.DIM, bias=False)
        self.layer_norm = nn.LayerNorm(layout.DIM)

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear1(x)
        found: Tensor = self.layer_norm(x + self.linear2(nn.functional.gelu(x)))
        return found


class VideoClip(nn.Module):
    """Towers in their own type, projections in float32."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.encoder_a = nn.Sequential(TextTower(architecture.layers), Projection(layout.HIDDEN))
        self.encoder_b = nn.Sequential(VideoTower(), Projection(FEATURES))

    def encode_clips(self, clips: Tensor) -> Tensor:
        tower, projection = self.encoder_b
        found: Tensor = projection(tower(clips))
        return found

    def encode_tokens(self, ids: Tensor) -> Tensor:
        tower, projection = self.encoder_a
        found: Tensor = projection(tower(ids).float())
        return found
