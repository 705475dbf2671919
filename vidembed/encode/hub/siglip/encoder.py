"""SigLIP, loaded: frames one by one through the image tower, their mean is the clip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import SiglipConfig, SiglipModel

from vidembed.encode import weights as files
from vidembed.encode.base import LoadedEncoder, same_weights
from vidembed.encode.hub import folder
from vidembed.encode.hub.network import attending, build
from vidembed.encode.hub.siglip.describe import opened, processing, rename
from vidembed.encode.hub.texts import FolderTokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vidembed.encode.spec import EncoderSpec


class SiglipEncoder(LoadedEncoder):
    """See `vidembed.encode.spec.Encoder`.

    Each frame's vector gets unit length before the mean, as for CLIP; padding is left out.
    """

    def __init__(self, spec: EncoderSpec, device: torch.device, dtype: torch.dtype) -> None:
        found, config = opened(spec.weights)
        same_weights(found, spec)
        done = processing(found, config)
        super().__init__(spec, device, dtype, mean=done.mean, std=done.std)
        # The tower attends to padding and is pooled at the last position: the length is part of
        # what a text means to it.
        self._tokenizer = FolderTokenizer(found, spec.context_length, lower=True, ends=True)
        made: Any = attending(SiglipConfig(**folder.plain(config)), "sdpa")
        state = folder.renamed(files.tensors(found), rename)
        model: Any = build(lambda: SiglipModel(made), state, str(found.file))
        self._model = model.to(device=device, dtype=dtype)

    def clip_vectors(self, frames: NDArray[Any], valid: Sequence[int]) -> torch.Tensor:
        """See `LoadedEncoder`."""
        batch, count = frames.shape[:2]
        mask = torch.arange(count)[None, :] < torch.tensor(valid)[:, None]
        padded = torch.zeros((batch, count, self.spec.dim), device=self.device)
        if mask.any():
            pixels = self.normalised(frames[mask.numpy()])
            features = self._model.vision_model(pixel_values=pixels).pooler_output.float()
            padded[mask.to(self.device)] = nn.functional.normalize(features, dim=-1)
        return padded.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1).to(self.device)

    def text_vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """See `LoadedEncoder`."""
        ids, _ = self._tokenizer.encode(texts)
        found = self._model.text_model(input_ids=torch.from_numpy(ids).to(self.device))
        vectors: torch.Tensor = found.pooler_output
        return vectors


def load(spec: EncoderSpec, device: torch.device, dtype: torch.dtype) -> SiglipEncoder:
    return SiglipEncoder(spec, device, dtype)
