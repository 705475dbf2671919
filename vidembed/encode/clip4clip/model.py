"""CLIP4Clip as torch modules: CLIP's towers and the heads of the paper.

Source: Luo et al., "CLIP4Clip: An Empirical Study of CLIP for End to End Video Clip Retrieval",
arXiv 2104.08860, and its official repository ArrowLuo/CLIP4Clip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vidembed.encode.clip4clip.clip import Clip, quick_gelu

if TYPE_CHECKING:
    from vidembed.encode.clip4clip.layout import Architecture

# The reference masks padded frames with a large finite number, not with -inf: a clip without a
# single valid frame must stay finite.
MASKED = -1_000_000.0


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return quick_gelu(x)


class FrameAttention(nn.Module):
    """nn.MultiheadAttention of torch, its parameters and its start, without its checks of masks,
    which import a library for algebra.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        self._heads = heads
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, key_bias: Tensor) -> Tensor:
        """x [n, length, width]; key_bias [n, length], which is added to each place's logits."""
        projected = nn.functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        query, key, value = (
            part.reshape(*x.shape[:2], self._heads, -1).transpose(1, 2)
            for part in projected.chunk(3, -1)
        )
        bias = key_bias[:, None, None].expand(-1, self._heads, x.shape[1], -1)
        seen = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        out: Tensor = self.out_proj(seen.transpose(1, 2).flatten(2))
        return out


class ResidualAttentionBlock(nn.Module):
    """One pre-norm block of the frame transformer, with the reference's parameter names.

    Its layer norms have epsilon 1e-12 where CLIP's have 1e-5: the reference defines a class of
    its own for them, and the difference shows in the fifth digit of a similarity.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = FrameAttention(width, heads)
        self.ln_1 = nn.LayerNorm(width, eps=1e-12)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, width * 4))
        self.mlp.add_module("gelu", QuickGELU())
        self.mlp.add_module("c_proj", nn.Linear(width * 4, width))
        self.ln_2 = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor, key_bias: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x), key_bias)
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class FrameTransformer(nn.Module):
    """The `transformerClip` of seqTransf: attention over the frames of one clip."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        heads = max(1, width // 64)
        self.resblocks = nn.ModuleList(ResidualAttentionBlock(width, heads) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        key_bias = (1.0 - mask) * MASKED
        for block in self.resblocks:
            x = block(x, key_bias)
        return x


class PairTransformer(nn.Module):
    """The `cross` of tightTransf: attention over a text and the frames of one clip, and what its
    first place gathers.
    """

    def __init__(self, width: int, layers: int, positions: int) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict({"position_embeddings": nn.Embedding(positions, width)})
        self.transformer = FrameTransformer(width, layers)
        self.pooler = nn.ModuleDict(
            {"ln_pool": nn.LayerNorm(width, eps=1e-12), "dense": nn.Linear(width, width)}
        )
        self.activation = QuickGELU()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[pairs, 1 + frames, dim], the text first, to [pairs, dim]."""
        positions = self.embeddings["position_embeddings"]
        x = x + positions(torch.arange(x.shape[1], device=x.device))
        first = self.pooler["ln_pool"](self.transformer(x, mask)[:, 0])
        pooled: Tensor = self.activation(self.pooler["dense"](first))
        return pooled


class Clip4Clip(nn.Module):
    """Two towers whose vectors compare by cosine: frames of a clip, and words.

    The CLIP part keeps Hugging Face's parameter names below `clip.`; the head keeps the
    reference's (`frame_position_embeddings`, `transformerClip`, `lstm_visual`; `cross` and
    `similarity_dense` of tightTransf, which has scores of pairs in the place of vectors).
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.clip = Clip(architecture.clip)
        dim = architecture.dim
        if architecture.head in ("seqLSTM", "seqTransf"):
            self.frame_position_embeddings = nn.Embedding(architecture.context_length, dim)
        if architecture.head == "seqTransf":
            self.transformerClip = FrameTransformer(dim, architecture.head_layers)
        if architecture.head == "seqLSTM":
            self.lstm_visual = nn.LSTM(dim, dim, batch_first=True)
        if architecture.head == "tightTransf":
            layers, positions = architecture.head_layers, architecture.context_length
            self.cross = PairTransformer(dim, layers, positions)
            self.similarity_dense = nn.Linear(dim, 1)

    def frame_features(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [n, 3, height, width] to projected frame features [n, dim].

        Where a patch spans frames: [n, 9, height, width], see `neighbours`.
        """
        features: Tensor = self.clip.visual_projection(self.clip.vision_model(pixels))
        return features

    def pool(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Frame features [batch, frames, dim] and mask [batch, frames] (1 valid, 0 padding) to
        unit vectors [batch, dim]: the head, then each frame to unit length, then the masked
        mean, then unit length again.
        """
        head = self.architecture.head
        mask = mask.to(frames.dtype)
        if head == "seqTransf":
            positions = self.frame_position_embeddings.weight[: frames.shape[1]]
            frames = self.transformerClip(frames + positions, mask) + frames
        elif head == "seqLSTM":
            # Unpacked: the LSTM runs forward in time, so padding after the valid prefix cannot
            # reach it, and the mask drops what comes later.
            frames = self.lstm_visual(frames)[0] + frames
        frames = nn.functional.normalize(frames, dim=-1)
        weights = mask.unsqueeze(-1)
        count = weights.sum(dim=1).clamp(min=1.0)
        return nn.functional.normalize((frames * weights).sum(dim=1) / count, dim=-1)

    def encode_clips(self, pixels: Tensor, mask: Tensor) -> Tensor:
        """Normalised pixels [batch, frames, 3, height, width] to unit vectors [batch, dim]."""
        batch, count = pixels.shape[:2]
        features = self.frame_features(pixels.flatten(0, 1))
        return self.pool(features.view(batch, count, -1), mask)

    def score(self, words: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """The pair scores of tightTransf [texts, clips] from `word_features` [texts, dim], frame
        features [clips, frames, dim] and mask [clips, frames]; none of them normalised.
        """
        clips = len(frames)
        pairs = [
            words[:, None, None].expand(-1, clips, 1, -1),
            frames[None].expand(len(words), -1, -1, -1),
        ]
        joined = torch.cat(pairs, dim=2).flatten(0, 1)
        valid = nn.functional.pad(mask.to(frames.dtype), (1, 0), value=1.0).repeat(len(words), 1)
        scores: Tensor = self.similarity_dense(self.cross(joined, valid))
        return scores.view(len(words), clips)

    def encode_tokens(self, ids: Tensor) -> Tensor:
        """Token ids [n, length] to unit vectors [n, dim]."""
        return nn.functional.normalize(self.word_features(ids), dim=-1)

    def word_features(self, ids: Tensor) -> Tensor:
        """Token ids [n, length] to projected features [n, dim], those of the first end-of-text."""
        text = self.clip.text_model
        hidden = text(ids)
        # The vocabulary's last id ends a text; a text that is cut still has it.
        last = text.embeddings.token_embedding.num_embeddings - 1
        end = torch.eq(ids, last).int().argmax(dim=-1)
        pooled = hidden[torch.arange(len(ids), device=ids.device), end]
        features: Tensor = self.clip.text_projection(pooled)
        return features


def neighbours(pixels: Tensor, mask: Tensor) -> Tensor:
    """Each valid frame between the one before and the one after it, as channels: normalised pixels
    [n, 3, height, width] of the n frames that `mask` [batch, frames] counts to [n, 9, …].

    Before the first frame and after the last one of a clip are zeros, as its padding is.
    """
    batch, count = mask.shape
    padded = pixels.new_zeros(batch, count + 2, *pixels.shape[1:])
    padded[:, 1:-1][mask] = pixels
    return torch.cat([padded[:, at : at + count][mask] for at in range(3)], dim=1)
