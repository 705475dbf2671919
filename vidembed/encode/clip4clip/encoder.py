"""CLIP4Clip, loaded: clips and texts to vectors that compare by cosine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from vidembed.encode import weights as files
from vidembed.encode.base import LoadedEncoder, same_weights, unfilled
from vidembed.encode.clip4clip import layout
from vidembed.encode.clip4clip.describe import TINY, architecture_of
from vidembed.encode.clip4clip.model import Clip4Clip, neighbours
from vidembed.encode.clip4clip.tokenizer import CLIP_MERGES, ClipTokenizer, read_merges
from vidembed.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vidembed.encode.clip4clip.layout import Architecture
    from vidembed.encode.spec import EncoderSpec

# Of CLIP's own training, in [0, 1] per RGB channel.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
_CLIP_VOCABULARY = 49408


class Towers(LoadedEncoder):
    """What encoder and re-ranker have in common: the network, features of frames and of words.

    The CLIP towers compute in `dtype`; the head, the pooling and the result are float32.
    """

    def __init__(self, spec: EncoderSpec, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(spec, device, dtype, mean=_MEAN, std=_STD)
        found = same_weights(files.find(spec.weights or str(TINY)), spec)
        architecture, reference = architecture_of(found)
        self._tokenizer = _tokenizer(found, architecture)
        self._model = _build(architecture, _state(found, architecture, from_reference=reference))
        self._model.clip.to(dtype=dtype)
        self._model.to(device=device)

    def padded_features(
        self, frames: NDArray[Any], valid: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Prepared frames [n, frames, crop, crop, 3] to features float32 [n, frames, dim] and mask
        [n, frames]; the features of padding are zeros.
        """
        batch, count = frames.shape[:2]
        mask = torch.arange(count)[None, :] < torch.tensor(valid)[:, None]
        dim = self._model.architecture.dim
        padded = torch.zeros((batch, count, dim), device=self.device)
        # Padding is masked out by every head: only what counts goes through the image tower, which
        # refuses an empty batch.
        counted = frames[mask.numpy()]
        mask = mask.to(self.device)
        if len(counted):
            pixels = self.normalised(counted)
            if self._model.architecture.spans_frames:
                pixels = neighbours(pixels, mask)
            padded[mask] = self._model.frame_features(pixels).float()
        return padded, mask

    def ids(self, texts: Sequence[str]) -> torch.Tensor:
        """Token ids [n, context_length] on the device."""
        ids = self._tokenizer.encode(texts, self.spec.context_length)
        return torch.from_numpy(ids).to(self.device)


class Clip4ClipEncoder(Towers):
    """See `vidembed.encode.spec.Encoder`."""

    def clip_vectors(self, frames: NDArray[Any], valid: Sequence[int]) -> torch.Tensor:
        """See `LoadedEncoder`."""
        return self._model.pool(*self.padded_features(frames, valid))

    def text_vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """See `LoadedEncoder`."""
        return self._model.encode_tokens(self.ids(texts))


def load(spec: EncoderSpec, device: torch.device, dtype: torch.dtype) -> Towers:
    """An encoder; a re-ranker where the spec has no vectors."""
    if not spec.dim:
        from vidembed.encode.clip4clip.reranker import Reranker

        return Reranker(spec, device, dtype)
    return Clip4ClipEncoder(spec, device, dtype)


def _state(
    found: files.Weights, architecture: Architecture, *, from_reference: bool
) -> dict[str, torch.Tensor]:
    """The file's tensors under our names, float32."""
    tensors = layout.drop_ignored(files.tensors(found))
    if not from_reference:
        return {k: v.float() for k, v in tensors.items()}
    table = layout.renames(architecture, {k: tuple(v.shape) for k, v in tensors.items()})
    state = {}
    for name, origin in table.items():
        tensor = tensors[origin.source].float()
        if origin.stacked:
            tensor = tensor.transpose(1, 2).flatten(1, 2)
        if origin.third is not None:
            tensor = tensor.chunk(3)[origin.third]
        state[name] = tensor.t().contiguous() if origin.transpose else tensor
    return state


def _build(architecture: Architecture, state: dict[str, torch.Tensor]) -> Clip4Clip:
    with unfilled():
        model = Clip4Clip(architecture)
    own = tuple(f"{module}." for module in layout.HEAD_MODULES)
    named = {k if k.startswith(own) else f"clip.{k}": v for k, v in state.items()}
    model.load_state_dict(named, strict=True, assign=True)
    if "lstm_visual.weight_ih_l0" in state:
        model.lstm_visual.flatten_parameters()
    return model.eval().requires_grad_(False)


def _tokenizer(found: files.Weights, architecture: Architecture) -> ClipTokenizer:
    merges = found.side_file("merges.txt")
    vocabulary = architecture.clip["text_config"].get("vocab_size", _CLIP_VOCABULARY)
    if merges is None:
        if vocabulary != _CLIP_VOCABULARY:
            raise WeightsError(f"{found.folder} has no merges.txt for its {vocabulary} tokens")
        return ClipTokenizer.from_merges(read_merges(CLIP_MERGES))
    lines: Any = read_merges(merges)
    # Hugging Face's file begins with a version line.
    lines = [line for line in lines if line.strip() and not line.startswith("#version")]
    return ClipTokenizer.from_merges(lines)
