"""VideoMAE, loaded: clips to vectors that compare by cosine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import VideoMAEConfig, VideoMAEModel

from vidembed.encode import weights as files
from vidembed.encode.base import LoadedEncoder, same_weights
from vidembed.encode.hub import folder
from vidembed.encode.hub.network import attending, build, filled
from vidembed.encode.hub.videomae.describe import is_tuned, opened, processing, rename

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vidembed.encode.spec import EncoderSpec

_CLIPS_AT_ONCE = {"cpu": 2, "cuda": 32}
_KEY_BIAS = ".attention.key.bias"


class VideoMAE(VideoMAEModel):  # type: ignore[no-untyped-call]  # transformers' own hook
    """The encoder, and the norm of a classifier where there is one.

    The vector is what the authors' classifier is given: the mean of the tokens, then its norm. A
    network that was not tuned has a norm of the tokens instead.
    """

    def __init__(self, config: VideoMAEConfig, *, tuned: bool) -> None:
        super().__init__(config)
        # Of torch's epsilon, 1e-5, where all other norms have 1e-12.
        self.fc_norm = nn.LayerNorm(config.hidden_size) if tuned else nn.Identity()
        for name, parameter in self.named_parameters():
            # Some versions of transformers have it; no file needs to.
            if name.endswith(_KEY_BIAS):
                parameter.data.zero_()

    def pooled(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels [n, frames, 3, height, width] to vectors [n, dim]."""
        tokens = self(pixel_values=pixels).last_hidden_state
        found: torch.Tensor = self.fc_norm(tokens.mean(dim=1))
        return found


class VideoMAEEncoder(LoadedEncoder):
    """See `vidembed.encode.spec.Encoder`."""

    def __init__(self, spec: EncoderSpec, device: torch.device, dtype: torch.dtype) -> None:
        found, config = opened(spec.weights)
        same_weights(found, spec)
        done = processing(found, config)
        super().__init__(spec, device, dtype, mean=done.mean, std=done.std)
        made: Any = attending(VideoMAEConfig(**folder.plain(config)), "sdpa")
        state = folder.renamed(files.tensors(found), rename)
        tuned = is_tuned(state)
        model: Any = build(
            lambda: VideoMAE(made, tuned=tuned), state, str(found.file), computed=(_KEY_BIAS,)
        )
        self._model = model.to(device=device, dtype=dtype)

    def clip_vectors(self, frames: NDArray[Any], valid: Sequence[int]) -> torch.Tensor:
        """See `LoadedEncoder`."""
        frames = filled(frames, valid)
        step = _CLIPS_AT_ONCE[self.device.type]
        parts = [
            self._model.pooled(self.normalised(frames[at : at + step]))
            for at in range(0, len(frames), step)
        ]
        return torch.cat(parts)


def load(spec: EncoderSpec, device: torch.device, dtype: torch.dtype) -> VideoMAEEncoder:
    return VideoMAEEncoder(spec, device, dtype)
