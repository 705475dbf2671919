"""The networks of PE-Core, under the names of the file.

An image tower with absolute positions and axial rotary ones, whose tokens one learnt query pools;
a causal text tower as CLIP's, with the exact GELU. Written from the paper (arXiv 2504.13181) and
the layout of open_clip's and timm's checkpoints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, scaled_dot_product_attention

from vidembed.encode.pe_core.layout import POOL_HEADS, VOCABULARY

if TYPE_CHECKING:
    from vidembed.encode.pe_core.layout import Architecture

_EPS = 1e-5
_BASE = 10000.0


def rotation(grid: int, head_size: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of each patch's angles, float32 [grid * grid, head_size].

    Of a head's values, taken in pairs, the first half turns with the column and the second with the
    row; both are counted from 1. Row by row.
    """
    count = head_size // 4
    bands = 1.0 / _BASE ** (torch.arange(count, dtype=torch.float32) / count)
    # Scaled to the grid of training, which is the same one; the rounding is the reference's.
    place = (torch.arange(grid, dtype=torch.float32) + 1.0) / grid * grid
    angles = place[:, None] * bands
    columns = angles[None, :].expand(grid, grid, count)
    rows = angles[:, None].expand(grid, grid, count)
    both = torch.cat([columns, rows], dim=-1).flatten(0, 1).repeat_interleave(2, dim=-1)
    return both.cos(), both.sin()


def rotated(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """x [..., tokens, head_size] with each pair of values turned by its angle, computed in
    float32.
    """
    cos, sin = turn
    quarter = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
    found: Tensor = (x * cos + quarter * sin).to(x.dtype)
    return found


def _heads(x: Tensor, heads: int) -> Tensor:
    """[n, tokens, width] to [n, heads, tokens, width / heads]."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def _whole(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.fc2(gelu(self.fc1(x)))
        return found


class Attention(nn.Module):
    """Self-attention whose queries and keys are turned, but for those of the class token."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        query, key, value = (_heads(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        query, key = (
            torch.cat([part[:, :, :1], rotated(part[:, :, 1:], turn)], dim=2)
            for part in (query, key)
        )
        found: Tensor = self.proj(_whole(scaled_dot_product_attention(query, key, value)))
        return found


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=_EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=_EPS)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.attn(self.norm1(x), turn)
        found: Tensor = x + self.mlp(self.norm2(x))
        return found


class Pool(nn.Module):
    """Tokens [n, tokens, width] to [n, width]: what one learnt query attends to."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.latent = nn.Parameter(torch.empty(1, 1, width))
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=_EPS)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        query = self.q(self.latent).expand(len(x), -1, -1)
        key, value = self.kv(x).chunk(2, dim=-1)
        query, key, value = (_heads(part, POOL_HEADS) for part in (query, key, value))
        x = self.proj(_whole(scaled_dot_product_attention(query, key, value)))
        x = x + self.mlp(self.norm(x))
        return x[:, 0]


class Patches(nn.Module):
    """Pixels [n, 3, image, image] to tokens [n, grid * grid, width], row by row."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.proj(pixels).flatten(2).transpose(1, 2)
        return found


class Trunk(nn.Module):
    def __init__(self, made: Architecture) -> None:
        super().__init__()
        width = made.width
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, made.grid**2 + 1, width))
        self.patch_embed = Patches(width, made.patch)
        self.norm_pre = nn.LayerNorm(width, eps=_EPS)
        self.blocks = nn.ModuleList(Block(width, made.heads) for _ in range(made.depth))
        self.norm = nn.LayerNorm(width, eps=_EPS)
        self.attn_pool = Pool(width)
        self.head = nn.Linear(width, made.dim)

    def forward(self, pixels: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """Normalised pixels [n, 3, image, image] to [n, dim]."""
        patches = self.patch_embed(pixels)
        x = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1)
        x = self.norm_pre(x + self.pos_embed)
        for block in self.blocks:
            x = block(x, turn)
        found: Tensor = self.head(self.attn_pool(self.norm(x)))
        return found


class TextAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        together = linear(x, self.in_proj_weight, self.in_proj_bias)
        query, key, value = (_heads(part, self.heads) for part in together.chunk(3, dim=-1))
        # What comes later is not seen: padding, which is last, changes nothing.
        mixed = scaled_dot_product_attention(query, key, value, is_causal=True)
        found: Tensor = self.out_proj(_whole(mixed))
        return found


class TextMlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.c_proj(gelu(self.c_fc(x)))
        return found


class TextBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=_EPS)
        self.attn = TextAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width, eps=_EPS)
        self.mlp = TextMlp(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        found: Tensor = x + self.mlp(self.ln_2(x))
        return found


class TextBlocks(nn.Module):
    def __init__(self, made: Architecture) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(
            TextBlock(made.text_width, made.text_heads) for _ in range(made.text_depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.resblocks:
            x = block(x)
        return x


class Text(nn.Module):
    def __init__(self, made: Architecture) -> None:
        super().__init__()
        width = made.text_width
        self.positional_embedding = nn.Parameter(torch.empty(made.context, width))
        self.text_projection = nn.Parameter(torch.empty(width, made.dim))
        self.token_embedding = nn.Embedding(VOCABULARY, width)
        self.transformer = TextBlocks(made)
        self.ln_final = nn.LayerNorm(width, eps=_EPS)

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids [n, context] to [n, dim], pooled at the end token, which has the largest id."""
        x = self.token_embedding(ids) + self.positional_embedding
        x = self.ln_final(self.transformer(x))
        pooled = x[torch.arange(len(ids), device=ids.device), ids.argmax(dim=-1)]
        found: Tensor = pooled @ self.text_projection
        return found


class Visual(nn.Module):
    def __init__(self, made: Architecture) -> None:
        super().__init__()
        self.trunk = Trunk(made)

    def forward(self, pixels: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """See `Trunk.forward`."""
        found: Tensor = self.trunk(pixels, turn)
        return found


class PeCore(nn.Module):
    """Both towers. logit_scale, of the loss, is part of the file and of nothing else."""

    def __init__(self, made: Architecture) -> None:
        super().__init__()
        self.visual = Visual(made)
        self.text = Text(made)
        self.logit_scale = nn.Parameter(torch.empty(()))
