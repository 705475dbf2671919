"""MViT, loaded: clips to vectors that compare by cosine."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from vidembed.encode import weights as files
from vidembed.encode.base import LoadedEncoder, build, same_weights
from vidembed.encode.mvit import describe, layout
from vidembed.encode.mvit.model import Mvit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from vidembed.encode.spec import EncoderSpec

_MEAN = (0.45, 0.45, 0.45)
_STD = (0.225, 0.225, 0.225)
# Of the normalisation behind a pooling: pytorchvideo leaves it at torch's default, torchvision
# gives all of them one value. A file was trained, or ported and measured, with its own.
_POOL_EPS = {"pytorchvideo": 1e-5, "torchvision": 1e-6}


class MvitEncoder(LoadedEncoder):
    """See `vidembed.encode.spec.Encoder`. Videos only; the network computes in `dtype`."""

    def __init__(self, spec: EncoderSpec, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(spec, device, dtype, mean=_MEAN, std=_STD)
        found = same_weights(files.find(spec.weights), spec)
        architecture = layout.ARCHITECTURES[spec.name]
        of_pytorchvideo = describe.check(found, architecture)
        state = layout.drop_duplicates(files.tensors(found))
        if of_pytorchvideo:
            state = _renamed(state)
        eps = _POOL_EPS["pytorchvideo" if of_pytorchvideo else "torchvision"]
        made = partial(Mvit, architecture, eps, len(state["head.1.bias"]))
        self._model = build(made, state, str(found.file)).to(device=device, dtype=dtype)

    def clip_vectors(self, frames: NDArray[Any], valid: Sequence[int]) -> torch.Tensor:
        """See `LoadedEncoder`."""
        vectors: torch.Tensor = self._model(self.normalised(frames).transpose(1, 2))
        return vectors


def load(spec: EncoderSpec, device: torch.device, dtype: torch.dtype) -> MvitEncoder:
    return MvitEncoder(spec, device, dtype)


def _renamed(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A pytorchvideo file's tensors under our names."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    found = {}
    for name, sources in layout.renames(shapes).items():
        tensor = (
            torch.cat([tensors[s] for s in sources]) if len(sources) > 1 else tensors[sources[0]]
        )
        found[name] = tensor.reshape(layout.unbatched(name, tuple(tensor.shape)))
    return found
