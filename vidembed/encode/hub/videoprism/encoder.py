"""VideoPrism-LvT, loaded: clips and texts to vectors that compare by cosine."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any

import torch
from transformers import VideoPrismClipModel, VideoPrismConfig

from vidembed.encode import weights as files
from vidembed.encode.base import LoadedEncoder, same_weights
from vidembed.encode.hub import folder
from vidembed.encode.hub.network import attending, build, filled
from vidembed.encode.hub.texts import FolderTokenizer
from vidembed.encode.hub.videoprism.describe import opened, rename

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vidembed.encode.spec import EncoderSpec

# The attention over all tokens of a clip, 4096 by 4096 in each of its heads, is held whole.
_CLIPS_AT_ONCE = {"cpu": 1, "cuda": 4}
_NO_PUNCTUATION = str.maketrans(string.punctuation, " " * len(string.punctuation))


def canonical(text: str) -> str:
    """As the authors' code writes texts: punctuation becomes white space, which is collapsed;
    lower-case; a full stop at the end.

    >>> canonical("Hello, World!")
    'hello world.'
    """
    return " ".join(text.translate(_NO_PUNCTUATION).lower().split()) + "."


class VideoPrismEncoder(LoadedEncoder):
    """See `vidembed.encode.spec.Encoder`. Pixels are in [0, 1], without mean and deviation."""

    def __init__(self, spec: EncoderSpec, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(spec, device, dtype)
        found, config = opened(spec.weights)
        same_weights(found, spec)
        self._tokenizer = FolderTokenizer(found, spec.context_length, lower=False, ends=False)
        # The logits of its attention are capped, which torch's fused attention cannot do.
        made: Any = attending(VideoPrismConfig(**folder.plain(config)), "eager")
        state = folder.renamed(files.tensors(found), rename)
        model: Any = build(
            lambda: VideoPrismClipModel(made),
            state,
            str(found.file),
            computed=(".position_ids", ".position_embedding"),
        )
        self._model = model.to(device=device, dtype=dtype)

    def clip_vectors(self, frames: NDArray[Any], valid: Sequence[int]) -> torch.Tensor:
        """See `LoadedEncoder`."""
        frames = filled(frames, valid)
        step = _CLIPS_AT_ONCE[self.device.type]
        parts = []
        for at in range(0, len(frames), step):
            pixels = self.normalised(frames[at : at + step])
            # Pooled by one query: [n, 1, dim].
            pooled = self._model.video_model(pixel_values_videos=pixels).pooler_output
            parts.append(pooled.flatten(0, 1))
        return torch.cat(parts)

    def text_vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """See `LoadedEncoder`."""
        ids, mask = self._tokenizer.encode([canonical(text) for text in texts])
        found = self._model.text_model(
            input_ids=torch.from_numpy(ids).to(self.device),
            # Without a mask the network would not look at the past only.
            attention_mask=torch.from_numpy(mask).to(self.device),
        )
        vectors: torch.Tensor = found.pooler_output
        return vectors


def load(spec: EncoderSpec, device: torch.device, dtype: torch.dtype) -> VideoPrismEncoder:
    return VideoPrismEncoder(spec, device, dtype)
