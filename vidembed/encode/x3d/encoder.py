"""X3D, loaded: clips to vectors."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from vidembed.encode import weights as files
from vidembed.encode.base import LoadedEncoder, build, same_weights
from vidembed.encode.x3d import describe, layout
from vidembed.encode.x3d.model import X3d

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from vidembed.encode.spec import EncoderSpec

_MEAN = (0.45, 0.45, 0.45)
_STD = (0.225, 0.225, 0.225)


class X3dEncoder(LoadedEncoder):
    """See `vidembed.encode.spec.Encoder`. Videos only; the network computes in `dtype`."""

    def __init__(self, spec: EncoderSpec, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(spec, device, dtype, mean=_MEAN, std=_STD)
        found = same_weights(files.find(spec.weights), spec)
        architecture = layout.ARCHITECTURES[spec.name]
        describe.check(found, architecture)
        state = files.tensors(found)
        made = partial(X3d, architecture, len(state["blocks.5.proj.bias"]))
        self._model = build(made, state, str(found.file)).to(device=device, dtype=dtype)

    def clip_vectors(self, frames: NDArray[Any], valid: Sequence[int]) -> torch.Tensor:
        """See `LoadedEncoder`."""
        vectors: torch.Tensor = self._model(self.normalised(frames).transpose(1, 2))
        return vectors


def load(spec: EncoderSpec, device: torch.device, dtype: torch.dtype) -> X3dEncoder:
    return X3dEncoder(spec, device, dtype)
