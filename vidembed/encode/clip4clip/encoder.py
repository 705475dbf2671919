"""CLIP4Clip, loaded: clips and texts to vectors that compare by cosine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from vidembed.encode import weights as files
from vidembed.encode.clip4clip import layout
from vidembed.encode.clip4clip.describe import TINY, architecture_of
from vidembed.encode.clip4clip.model import Clip4Clip
from vidembed.encode.clip4clip.tokenizer import CLIP_MERGES, ClipTokenizer, read_merges
from vidembed.errors import WeightsError
from vidembed.pixels import prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from vidembed.encode.clip4clip.layout import Architecture
    from vidembed.encode.spec import EncoderSpec

# Of CLIP's own training, in [0, 1] per RGB channel.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
_TEXT_BATCH = 256
_F = TypeVar("_F", bound="Callable[..., Any]")
_CLIP_VOCABULARY = 49408


def _no_gradients(function: _F) -> _F:
    # torch's decorator loses the signature.
    return torch.inference_mode()(function)


class Clip4ClipEncoder:
    """See `vidembed.encode.spec.Encoder`.

    The CLIP towers compute in `dtype`; the head, the pooling and the result are float32.
    """

    def __init__(self, spec: EncoderSpec, device: torch.device, dtype: torch.dtype) -> None:
        found = files.find(spec.weights or str(TINY))
        if found.digest() != spec.digest:
            raise WeightsError(
                f"the weights {spec.weights} on this machine are not those that the run was "
                f"started with (digest {found.digest()[:16]}, expected {spec.digest[:16]})"
            )
        architecture, reference = architecture_of(found)
        self.spec = spec
        self._device, self._dtype = device, dtype
        self._tokenizer = _tokenizer(found, architecture)
        self._model = _build(architecture, _state(found, architecture, from_reference=reference))
        self._model.clip.to(dtype=dtype)  # type: ignore[call-arg]  # wrapped by transformers
        self._model.to(device=device)
        self._mean = torch.tensor(_MEAN, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(_STD, device=device).view(1, 3, 1, 1)

    @_no_gradients
    def encode_video(
        self, frames: NDArray[np.uint8], valid: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """uint8 RGB [batch, frames, height, width, 3] of any size to float32 [batch, dim]."""
        self._check(frames)
        batch, count = frames.shape[:2]
        if batch == 0:
            return np.empty((0, self.spec.dim), np.float32)
        lengths = torch.tensor([count] * batch if valid is None else list(valid))
        mask = torch.arange(count)[None, :] < lengths[:, None]
        # Padding is masked out by every head: only what counts goes through the image tower.
        chosen = frames.reshape(batch * count, *frames.shape[2:])[mask.flatten().numpy()]
        features = self._frame_features(prepare(chosen, self.spec.clip.resize))
        padded = features.new_zeros(batch * count, features.shape[-1])
        padded[mask.flatten().to(self._device)] = features
        pooled = self._model.pool(padded.view(batch, count, -1), mask.to(self._device))
        return _numpy(pooled)

    @_no_gradients
    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """n texts to float32 [n, dim]."""
        if isinstance(texts, str):
            raise TypeError("expected a list of texts, got one text")
        out = np.empty((len(texts), self.spec.dim), np.float32)
        for begin in range(0, len(texts), _TEXT_BATCH):
            part = texts[begin : begin + _TEXT_BATCH]
            ids = self._tokenizer.encode(part, self.spec.context_length)
            vectors = self._model.encode_tokens(torch.from_numpy(ids).to(self._device))
            out[begin : begin + len(part)] = _numpy(vectors)
        return out

    def _frame_features(self, frames: NDArray[np.uint8]) -> torch.Tensor:
        if not len(frames):
            # Clips without a single valid frame: the image tower refuses an empty batch.
            return torch.zeros((0, self.spec.dim), device=self._device)
        pixels = torch.from_numpy(frames)
        if self._device.type == "cuda":
            pixels = pixels.pin_memory().to(self._device, non_blocking=True)
        # uint8 crosses to the device, a quarter of float32's bytes; arithmetic as ToTensor and
        # Normalize do it: first to [0, 1], then minus mean, then by deviation.
        scaled = pixels.permute(0, 3, 1, 2).float().div_(255.0)
        normal = scaled.sub_(self._mean).div_(self._std)
        return self._model.frame_features(normal.to(self._dtype)).float()

    def _check(self, frames: NDArray[np.uint8]) -> None:
        ok = isinstance(frames, np.ndarray) and frames.ndim == 5 and frames.shape[-1] == 3
        if not ok or frames.dtype != np.uint8 or frames.shape[1] < 1:
            got = f"{getattr(frames, 'dtype', type(frames))} {getattr(frames, 'shape', '')}"
            raise ValueError(
                f"expected uint8 RGB [batch, frames, height, width, 3] with at least one frame, "
                f"got {got}"
            )
        if self._model.architecture.head != "meanP":
            most = self._model.architecture.context_length
            if frames.shape[1] > most:
                raise ValueError(f"at most {most} frames a clip, got {frames.shape[1]}")


def load(spec: EncoderSpec, device: torch.device, dtype: torch.dtype) -> Clip4ClipEncoder:
    return Clip4ClipEncoder(spec, device, dtype)


def _numpy(vectors: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = vectors.float().cpu().numpy()
    return array


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
        if origin.third is not None:
            tensor = tensor.chunk(3)[origin.third]
        state[name] = tensor.t().contiguous() if origin.transpose else tensor
    return state


def _build(architecture: Architecture, state: dict[str, torch.Tensor]) -> Clip4Clip:
    # On the meta device: initialising what is about to be overwritten takes seconds.
    with torch.device("meta"):
        model = Clip4Clip(architecture)
    own = ("frame_position_embeddings.", "transformerClip.", "lstm_visual.")
    named = {k if k.startswith(own) else f"clip.{k}": v for k, v in state.items()}
    model.load_state_dict(named, strict=True, assign=True)
    for module in model.modules():
        # Index buffers are not in any file, and have no values on the meta device.
        ids = getattr(module, "position_ids", None)
        if isinstance(ids, torch.Tensor) and ids.is_meta:
            module.register_buffer(
                "position_ids", torch.arange(ids.shape[-1]).expand(ids.shape), persistent=False
            )
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
