"""MViT and MViTv2: transformers whose attention pools, so that the grid of patches shrinks.

Written from the papers (arXiv 2104.11227, 2112.01526); what they leave open is as in
facebookresearch/pytorchvideo and pytorch/vision, whose weights are read. Parameters have
torchvision's names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from vidembed.encode.mvit.layout import HEAD_DIM, SIDE

if TYPE_CHECKING:
    from vidembed.encode.mvit.layout import Architecture, Block

    Grid = tuple[int, int, int]

_EPS = 1e-6


class Mvit(nn.Module):
    """float [batch, 3, frames, 224, 224], normalised, to [batch, 768]: the class token after the
    last normalisation.

    pool_eps: of the normalisation behind a pooling, in which the two origins of weights differ.
    """

    def __init__(self, architecture: Architecture, pool_eps: float, classes: int) -> None:
        super().__init__()
        self.conv_proj = nn.Conv3d(3, HEAD_DIM, (3, 7, 7), stride=(2, 4, 4), padding=(1, 3, 3))
        self.pos_encoding = _Positions(architecture)
        self.blocks = nn.ModuleList(
            _Block(block, architecture, pool_eps) for block in architecture.blocks
        )
        out = architecture.blocks[-1].out
        self.norm = nn.LayerNorm(out, eps=_EPS)
        # Not used; it is in every file.
        self.head = nn.Sequential(nn.Identity(), nn.Linear(out, classes))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        patches = self.conv_proj(pixels)
        grid: Grid = (patches.shape[2], patches.shape[3], patches.shape[4])
        tokens = self.pos_encoding(patches.flatten(2).transpose(1, 2))
        for block in self.blocks:
            tokens, grid = block(tokens, grid)
        vectors: torch.Tensor = self.norm(tokens[:, 0])
        return vectors


class _Positions(nn.Module):
    """Puts the class token before the patches, and in v1 adds to each its place and its time."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.zeros(HEAD_DIM))
        self.absolute = architecture.version == 1
        if self.absolute:
            self.class_pos = nn.Parameter(torch.zeros(HEAD_DIM))
            self.spatial_pos = nn.Parameter(torch.zeros(SIDE * SIDE, HEAD_DIM))
            self.temporal_pos = nn.Parameter(torch.zeros(architecture.times, HEAD_DIM))

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        token: torch.Tensor = self.class_token
        if self.absolute:
            places = self.temporal_pos[:, None] + self.spatial_pos[None]
            patches = patches + places.flatten(0, 1)
            token = token + self.class_pos
        return torch.cat([token.expand(len(patches), 1, -1), patches], dim=1)


class _Block(nn.Module):
    """Attention and MLP, each with a residual; a change of width is in the one or the other."""

    def __init__(self, block: Block, architecture: Architecture, pool_eps: float) -> None:
        super().__init__()
        self.widens_first = architecture.version == 2
        self.norm1 = nn.LayerNorm(block.width, eps=_EPS)
        self.attn = _Attention(block, architecture, pool_eps)
        self.norm2 = nn.LayerNorm(block.attention, eps=_EPS)
        # The numbers are places in torchvision's Sequential; two of them hold dropout there.
        self.mlp = nn.Sequential(
            nn.Linear(block.attention, 4 * block.attention),
            nn.GELU(),
            nn.Identity(),
            nn.Linear(4 * block.attention, block.out),
        )
        self.project = nn.Linear(block.width, block.out) if block.width != block.out else None
        self.pool_skip = (
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
            if block.q_stride > 1
            else None
        )

    def forward(self, tokens: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, Grid]:
        normed = self.norm1(tokens)
        attended, smaller = self.attn(normed, grid)
        if self.project is not None and self.widens_first:
            tokens = self.project(normed)
        if self.pool_skip is not None:
            tokens = _pooled(tokens[:, None], grid, self.pool_skip)[0].squeeze(1)
        tokens = tokens + attended
        normed = self.norm2(tokens)
        if self.project is not None and not self.widens_first:
            tokens = self.project(normed)
        return tokens + self.mlp(normed), smaller


class _Attention(nn.Module):
    """Attention over pooled queries, keys and values; in v2 with relative positions, and with the
    pooled queries added to what comes out.
    """

    def __init__(self, block: Block, architecture: Architecture, pool_eps: float) -> None:
        super().__init__()
        self.heads, self.second = block.heads, architecture.version == 2
        self.qkv = nn.Linear(block.width, 3 * block.attention)
        self.project = nn.Sequential(nn.Linear(block.attention, block.attention))
        pools_q = self.second or block.q_stride > 1
        self.pool_q = _Pool(block.q_stride, pool_eps) if pools_q else None
        self.pool_k = _Pool(block.kv_stride, pool_eps)
        self.pool_v = _Pool(block.kv_stride, pool_eps)
        if self.second:
            sides = max(block.side // block.q_stride, block.side // block.kv_stride)
            self.rel_pos_h = nn.Parameter(torch.zeros(2 * sides - 1, HEAD_DIM))
            self.rel_pos_w = nn.Parameter(torch.zeros(2 * sides - 1, HEAD_DIM))
            self.rel_pos_t = nn.Parameter(torch.zeros(2 * architecture.times - 1, HEAD_DIM))

    def forward(self, tokens: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, Grid]:
        batch, count, _ = tokens.shape
        qkv = self.qkv(tokens).view(batch, count, 3, self.heads, HEAD_DIM)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        k, of_keys = self.pool_k(k, grid)
        v, _ = self.pool_v(v, grid)
        if self.pool_q is not None:
            q, grid = self.pool_q(q, grid)
        found = self._attended(q, k, v, grid, of_keys)
        if self.second:
            # The class token is left out of this residual.
            found = torch.cat([found[:, :, :1], found[:, :, 1:] + q[:, :, 1:]], dim=2)
        return self.project(found.transpose(1, 2).flatten(2)), grid

    def _attended(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, of_queries: Grid, of_keys: Grid
    ) -> torch.Tensor:
        scale = HEAD_DIM**-0.5
        attention = nn.functional.scaled_dot_product_attention
        if not self.second:
            return attention(q, k, v, scale=scale)
        # A query's products with the tables are three numbers for each key, one by its time, its
        # row and its column: as further entries of the query, that meet a one where the key has
        # that place, they are added to the scores, and no [queries, keys] tensor is kept.
        places = self._relative(q, of_queries, of_keys) / scale
        more = _one_hot(of_keys, k)
        extra = places.shape[-1]
        q = torch.cat([q, nn.functional.pad(places, (0, 0, 1, 0))], dim=-1)
        more = nn.functional.pad(more, (0, 0, 1, 0)).expand(*k.shape[:3], extra)
        v = nn.functional.pad(v, (0, extra))
        return attention(q, torch.cat([k, more], dim=-1), v, scale=scale)[..., :HEAD_DIM]

    def _relative(self, q: torch.Tensor, of_queries: Grid, of_keys: Grid) -> torch.Tensor:
        """[batch, heads, patches, times + rows + columns of the keys]: the products of queries
        with the tables' rows of their distances to keys.
        """
        patches = q[:, :, 1:].reshape(*q.shape[:2], *of_queries, q.shape[-1])
        tables = (self.rel_pos_t, self.rel_pos_h, self.rel_pos_w)
        at_t, at_h, at_w = (
            table[_distances(of_queries[axis], of_keys[axis], q.device)]
            for axis, table in enumerate(tables)
        )
        found = [
            torch.einsum("bnthwc,tkc->bnthwk", patches, at_t),
            torch.einsum("bnthwc,hkc->bnthwk", patches, at_h),
            torch.einsum("bnthwc,wkc->bnthwk", patches, at_w),
        ]
        return torch.cat(found, dim=-1).flatten(2, 4)


class _Pool(nn.Module):
    """A convolution of each channel over the patches, shared by the heads, then normalised; the
    class token is only normalised.
    """

    def __init__(self, stride: int, eps: float) -> None:
        super().__init__()
        self.pool = nn.Conv3d(
            HEAD_DIM,
            HEAD_DIM,
            3,
            stride=(1, stride, stride),
            padding=1,
            groups=HEAD_DIM,
            bias=False,
        )
        self.norm_act = nn.Sequential(nn.LayerNorm(HEAD_DIM, eps=eps))

    def forward(self, tokens: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, Grid]:
        found, smaller = _pooled(tokens, grid, self.pool)
        return self.norm_act(found), smaller


def _pooled(tokens: torch.Tensor, grid: Grid, pool: nn.Module) -> tuple[torch.Tensor, Grid]:
    """Tokens [batch, heads, 1 + patches, width], pooled behind the class token, and their grid."""
    batch, heads, _, width = tokens.shape
    patches = tokens[:, :, 1:].transpose(2, 3).reshape(batch * heads, width, *grid)
    pooled = pool(patches)
    smaller: Grid = (pooled.shape[2], pooled.shape[3], pooled.shape[4])
    patches = pooled.reshape(batch, heads, width, -1).transpose(2, 3)
    return torch.cat([tokens[:, :, :1], patches], dim=2), smaller


def _distances(queries: int, keys: int, device: torch.device) -> torch.Tensor:
    """[queries, keys]: which row of a table belongs to each pair of places on one axis. The
    coarser of the two is stretched to the finer.
    """
    finer = max(queries, keys)
    q = torch.arange(queries, device=device) * (finer // queries)
    k = torch.arange(keys, device=device) * (finer // keys)
    return q[:, None] - k[None, :] + (keys - 1) * (finer // keys)


def _one_hot(grid: Grid, like: torch.Tensor) -> torch.Tensor:
    """[patches, times + rows + columns]: ones where each patch lies."""
    eyes = [torch.eye(n, dtype=like.dtype, device=like.device) for n in grid]
    t, h, w = grid
    return torch.cat(
        [
            eyes[0][:, None, None].expand(t, h, w, t),
            eyes[1][None, :, None].expand(t, h, w, h),
            eyes[2][None, None].expand(t, h, w, w),
        ],
        dim=-1,
    ).flatten(0, 2)
