"""MUGEN's VideoCLIP, loaded: clips and texts to vectors that compare by cosine."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from vidembed.encode import weights as files
from vidembed.encode.base import LoadedEncoder, build, same_weights
from vidembed.encode.videoclip_mugen import layout, tokenizer
from vidembed.encode.videoclip_mugen.describe import architecture_of
from vidembed.encode.videoclip_mugen.model import VideoClip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vidembed.encode.spec import EncoderSpec

# Of the training on Kinetics-400, in [0, 1] per RGB channel.
_MEAN = (0.43216, 0.394666, 0.37645)
_STD = (0.22803, 0.22145, 0.216989)
_FRAMES = 32


class VideoClipEncoder(LoadedEncoder):
    """See `vidembed.encode.spec.Encoder`. The towers compute in `dtype`, projections in float32."""

    def __init__(self, spec: EncoderSpec, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(spec, device, dtype, mean=_MEAN, std=_STD)
        found = same_weights(files.find(spec.weights), spec)
        architecture = architecture_of(found)
        state = layout.renamed(files.tensors(found))
        made = build(partial(VideoClip, architecture), state, str(found.file))
        self._model = cast("VideoClip", made.to(device=device))
        for tower in (self._model.encoder_a[0], self._model.encoder_b[0]):
            tower.to(dtype=dtype)

    def clip_vectors(self, frames: NDArray[Any], valid: Sequence[int]) -> torch.Tensor:
        """See `LoadedEncoder`. The network sees 32 frames: of n others those at int(k * n / 32), as
        VideoTransform takes them.
        """
        if frames.shape[1] != _FRAMES:
            frames = frames[:, np.arange(_FRAMES) * frames.shape[1] // _FRAMES]
        return self._model.encode_clips(self.normalised(frames).transpose(1, 2))

    def text_vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """See `LoadedEncoder`."""
        ids = tokenizer.encode(texts, self.spec.context_length)
        return self._model.encode_tokens(torch.from_numpy(ids).to(self.device))


def load(spec: EncoderSpec, device: torch.device, dtype: torch.dtype) -> VideoClipEncoder:
    return VideoClipEncoder(spec, device, dtype)
