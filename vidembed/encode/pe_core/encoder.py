"""PE-Core, loaded: clips and texts to vectors that compare by cosine."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch

from vidembed.encode import weights as files
from vidembed.encode.base import LoadedEncoder, build, same_weights
from vidembed.encode.clip4clip.tokenizer import CLIP_MERGES, ClipTokenizer, read_merges
from vidembed.encode.pe_core.layout import ARCHITECTURES
from vidembed.encode.pe_core.model import PeCore, rotation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vidembed.encode.spec import EncoderSpec

_HALF = (0.5, 0.5, 0.5)


class PeCoreEncoder(LoadedEncoder):
    """See `vidembed.encode.spec.Encoder`. A clip's vector is the mean of its frames', none of which
    is normalised before.
    """

    def __init__(self, spec: EncoderSpec, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(spec, device, dtype, mean=_HALF, std=_HALF)
        found = same_weights(files.find(spec.weights), spec)
        made = ARCHITECTURES[spec.name]
        model = build(partial(PeCore, made), files.tensors(found), str(found.file))
        self._model = cast("PeCore", model.to(device=device, dtype=dtype))
        cos, sin = rotation(made.grid, made.width // made.heads)
        self._turn = cos.to(device), sin.to(device)
        self._tokenizer = ClipTokenizer.from_merges(read_merges(CLIP_MERGES))

    def clip_vectors(self, frames: NDArray[Any], valid: Sequence[int]) -> torch.Tensor:
        """See `LoadedEncoder`."""
        pixels = self.normalised(frames)
        vectors = self._model.visual(pixels.flatten(0, 1), self._turn)
        found: torch.Tensor = vectors.float().unflatten(0, pixels.shape[:2]).mean(dim=1)
        return found

    def text_vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """See `LoadedEncoder`."""
        ids = self._tokenizer.encode(texts, self.spec.context_length)
        found: torch.Tensor = self._model.text(torch.from_numpy(ids).to(self.device))
        return found


def load(spec: EncoderSpec, device: torch.device, dtype: torch.dtype) -> PeCoreEncoder:
    return PeCoreEncoder(spec, device, dtype)
