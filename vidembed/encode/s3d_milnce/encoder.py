"""S3D MIL-NCE, loaded: clips and texts to vectors that compare by their product, as they are."""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, cast

from vidembed.encode import weights as files
from vidembed.encode.base import LoadedEncoder, build, same_weights
from vidembed.encode.s3d_milnce import dictionary, layout
from vidembed.encode.s3d_milnce.describe import architecture_of, find, identity
from vidembed.encode.s3d_milnce.model import S3dMilNce

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from vidembed.encode.s3d_milnce.dictionary import Dictionary
    from vidembed.encode.spec import EncoderSpec


class S3dMilNceEncoder(LoadedEncoder):
    """See `vidembed.encode.spec.Encoder`. The video tower computes in `dtype`, texts in float32."""

    def __init__(self, spec: EncoderSpec, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(spec, device, dtype)
        self._found = find(spec.weights)
        same_weights(identity(self._found), spec)
        self._architecture = architecture_of(self._found)
        state = layout.drop_ignored(files.tensors(self._found))
        made = build(partial(S3dMilNce, self._architecture), state, str(self._found.file))
        self._model = cast("S3dMilNce", made.to(device=device))
        for name, part in self._model.named_children():
            if name != "text_module":
                part.to(dtype=dtype)

    @cached_property
    def _dictionary(self) -> Dictionary:
        return dictionary.read(self._found, self._architecture.rows)

    def clip_vectors(self, frames: NDArray[Any], valid: Sequence[int]) -> torch.Tensor:
        """See `LoadedEncoder`."""
        found: torch.Tensor = self._model(self.normalised(frames).transpose(1, 2))
        return found

    def text_vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """See `LoadedEncoder`. Raises WeightsError where the dictionary is missing."""
        words = self.spec.context_length
        return self._model.encode_words([self._dictionary.encode(text, words) for text in texts])


def load(spec: EncoderSpec, device: torch.device, dtype: torch.dtype) -> S3dMilNceEncoder:
    return S3dMilNceEncoder(spec, device, dtype)
