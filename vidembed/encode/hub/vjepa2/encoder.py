"""V-JEPA 2, loaded: clips to vectors that compare by cosine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import VJEPA2Config
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2AttentivePooler, VJEPA2Encoder

from vidembed.encode import weights as files
from vidembed.encode.base import LoadedEncoder, same_weights
from vidembed.encode.hub import folder
from vidembed.encode.hub.network import attending, build, filled
from vidembed.encode.hub.vjepa2.describe import has_pooler, opened, processing, rename

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vidembed.encode.spec import EncoderSpec

# 64 frames are 8192 tokens.
_CLIPS_AT_ONCE = {"cpu": 1, "cuda": 8}


class VJEPA2(nn.Module):
    """The encoder, and the pooler of a classifier where there is one.

    The authors name no vector for a whole clip: their probes pool the encoder's tokens, with
    attention that is trained for a task. Where no pooler is trained, it is the mean of the tokens.
    """

    def __init__(self, config: VJEPA2Config, *, pooled: bool) -> None:
        super().__init__()
        self.encoder = VJEPA2Encoder(config)
        if pooled:
            self.pooler = VJEPA2AttentivePooler(config)
        self._pooled = pooled

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels [n, frames, 3, height, width] to vectors [n, dim]."""
        tokens: torch.Tensor = self.encoder(pixel_values_videos=pixels).last_hidden_state
        if not self._pooled:
            return tokens.float().mean(dim=1)
        vectors: torch.Tensor = self.pooler(tokens)
        return vectors


class VJEPA2VideoEncoder(LoadedEncoder):
    """See `vidembed.encode.spec.Encoder`."""

    def __init__(self, spec: EncoderSpec, device: torch.device, dtype: torch.dtype) -> None:
        found, config = opened(spec.weights)
        same_weights(found, spec)
        done = processing(found, config)
        super().__init__(spec, device, dtype, mean=done.mean, std=done.std)
        made: Any = attending(VJEPA2Config(**folder.plain(config)), "sdpa")
        state = folder.renamed(files.tensors(found), rename)
        pooled = has_pooler(state)
        model = build(lambda: VJEPA2(made, pooled=pooled), state, str(found.file))
        self._model = model.to(device=device, dtype=dtype)

    def clip_vectors(self, frames: NDArray[Any], valid: Sequence[int]) -> torch.Tensor:
        """See `LoadedEncoder`."""
        frames = filled(frames, valid)
        step = _CLIPS_AT_ONCE[self.device.type]
        parts = [
            self._model(self.normalised(frames[at : at + step]))
            for at in range(0, len(frames), step)
        ]
        return torch.cat(parts)


def load(spec: EncoderSpec, device: torch.device, dtype: torch.dtype) -> VJEPA2VideoEncoder:
    return VJEPA2VideoEncoder(spec, device, dtype)
