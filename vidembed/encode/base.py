"""What loaded encoders have in common: frames checked, prepared, normalised; windows averaged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from vidembed.errors import WeightsError
from vidembed.pixels import prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from vidembed.encode.spec import EncoderSpec
    from vidembed.encode.weights import Weights

    Triple = tuple[float, float, float]
    F = TypeVar("F", bound=Callable[..., Any])

_TEXT_BATCH = 256
# Clips, or windows of clips, that go through a network at once: what is more is not faster, and
# must not fill the memory.
_MOST_AT_ONCE = {"cpu": 8, "cuda": 64}


def no_gradients(function: F) -> F:
    """torch.inference_mode as a decorator that keeps the signature."""
    return torch.inference_mode()(function)


class LoadedEncoder(ABC):
    """The part of `vidembed.encode.spec.Encoder` that does not depend on the network.

    A network is added with `clip_vectors`, and `text_vectors` where it reads texts. mean, std: per
    RGB channel, in [0, 1], of its own training.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        device: torch.device,
        dtype: torch.dtype,
        *,
        mean: Triple = (0.0, 0.0, 0.0),
        std: Triple = (1.0, 1.0, 1.0),
    ) -> None:
        self.spec = spec
        self.device, self.dtype = device, dtype
        self._mean = torch.tensor(mean, device=device).view(3, 1, 1)
        self._std = torch.tensor(std, device=device).view(3, 1, 1)

    @abstractmethod
    def clip_vectors(self, frames: NDArray[Any], valid: Sequence[int]) -> torch.Tensor:
        """Prepared frames [n, frames, crop, crop, 3], 0 to 255, to vectors [n, dim]; they need not
        have unit length yet.
        """

    def text_vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """Texts to vectors [n, dim]; they need not have unit length yet."""
        raise ValueError(f"{self.spec.name} has no text tower: it encodes videos only")

    @no_gradients
    def encode_video(
        self, frames: NDArray[np.uint8], valid: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """See `vidembed.encode.spec.Encoder.encode_video`."""
        self._check(frames)
        batch, count = frames.shape[:2]
        windows = self._windows(count)
        if not batch:
            return np.empty((0, self.spec.dim), np.float32)
        views = frames.reshape(batch * windows, count // windows, *frames.shape[2:])
        lengths = [views.shape[1]] * len(views) if valid is None or windows > 1 else list(valid)
        found = []
        most = _MOST_AT_ONCE[self.device.type]
        for at in range(0, len(views), most):
            part = self._prepared(views[at : at + most])
            found.append(self.clip_vectors(part, lengths[at : at + most]).float())
        vectors = torch.cat(found)
        if windows > 1:
            vectors = vectors.view(batch, windows, -1).mean(dim=1)
        return self._finished(vectors)

    @no_gradients
    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """n texts to float32 [n, dim]; ValueError for a video-only encoder."""
        if not self.spec.context_length:
            raise ValueError(f"{self.spec.name} has no text tower: it encodes videos only")
        if isinstance(texts, str):
            raise TypeError("expected a list of texts, got one text")
        out = np.empty((len(texts), self.spec.dim), np.float32)
        for at in range(0, len(texts), _TEXT_BATCH):
            part = list(texts[at : at + _TEXT_BATCH])
            out[at : at + len(part)] = self._finished(self.text_vectors(part).float())
        return out

    def normalised(self, frames: NDArray[Any]) -> torch.Tensor:
        """Prepared frames [..., height, width, 3] on the device, [..., 3, height, width]: to
        [0, 1], minus the mean, divided by the deviation, in the encoder's dtype.
        """
        pixels = torch.from_numpy(np.ascontiguousarray(frames))
        if self.device.type == "cuda":
            pixels = pixels.pin_memory().to(self.device, non_blocking=True)
        # uint8 crosses to the device, a quarter of float32's bytes.
        scaled = pixels.movedim(-1, -3).to(torch.float32, copy=True).div_(255.0)
        return scaled.sub_(self._mean).div_(self._std).to(self.dtype)

    def _prepared(self, views: NDArray[Any]) -> NDArray[Any]:
        resize = self.spec.clip.resize
        if views.dtype != np.uint8 or views.shape[2:4] == (resize.crop, resize.crop):
            # As a job's frames are: to scale them once more would cut off their margins, where a
            # frame is scaled to more than the crop.
            return views
        prepared = prepare(views.reshape(-1, *views.shape[2:]), resize)
        return prepared.reshape(*views.shape[:2], *prepared.shape[1:])

    def _finished(self, vectors: torch.Tensor) -> NDArray[np.float32]:
        if self.spec.metric == "COSINE":
            vectors = nn.functional.normalize(vectors, dim=-1)
        found: NDArray[np.float32] = vectors.cpu().numpy()
        return found

    def _windows(self, count: int) -> int:
        """How many windows `count` frames are."""
        counts, sampling = self.spec.counts, self.spec.clip.sampling
        if count == sampling.total:
            return sampling.windows
        if count in counts:
            return 1
        if counts.least == counts.most and count % counts.least == 0 and count:
            return count // counts.least
        several = f", or windows of {counts} each" if counts.least == counts.most else ""
        raise ValueError(f"{self.spec.name} takes {counts} frames a clip{several}, got {count}")

    def _check(self, frames: NDArray[Any]) -> None:
        crop, kind = self.spec.clip.resize.crop, self.spec.clip.resize.pixel_type
        ok = isinstance(frames, np.ndarray) and frames.ndim == 5 and frames.shape[-1] == 3
        if ok and kind == "float32" and frames.dtype == np.float32:
            ok = frames.shape[2:4] == (crop, crop)
        elif ok:
            ok = frames.dtype == np.uint8
        if not ok or frames.shape[1] < 1:
            got = f"{getattr(frames, 'dtype', type(frames))} {getattr(frames, 'shape', '')}"
            resized = "" if kind == "uint8" else f", or float32 resized to {crop} x {crop}"
            raise ValueError(
                f"expected uint8 RGB [batch, frames, height, width, 3] with at least one frame"
                f"{resized}, got {got}"
            )


class _Unfilled(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


@contextmanager
def unfilled() -> Iterator[None]:
    """Networks that are made meanwhile have no values yet: they are on the meta device, and no
    parameter is drawn at random, which takes seconds, or, on that device, torch's compiler: a
    second to import, for nothing.
    """
    with torch.device("meta"), _Unfilled():
        yield


def build(module: Callable[[], nn.Module], state: dict[str, torch.Tensor], where: str) -> nn.Module:
    """A network made by `module` with these tensors, float32, ready to infer.

    Raises WeightsError where names or shapes do not fit, and where a buffer is left without values.
    """
    with unfilled():
        made = module()
    try:
        made.load_state_dict({k: _single(v) for k, v in state.items()}, strict=True, assign=True)
    except RuntimeError as error:
        raise WeightsError(f"{where} does not fit the encoder: {error}") from error
    empty = [n for n, t in [*made.named_parameters(), *made.named_buffers()] if t.is_meta]
    if empty:
        raise WeightsError(f"{where} leaves without values: {', '.join(empty[:5])}")
    return made.eval().requires_grad_(False)


def _single(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def same_weights(found: Weights, spec: EncoderSpec) -> Weights:
    """`found`, the weights of this machine, if they are those of the spec. Raises WeightsError."""
    if found.digest() != spec.digest:
        raise WeightsError(
            f"the weights {spec.weights} on this machine are not those that the run was started "
            f"with (digest {found.digest()[:16]}, expected {spec.digest[:16]})"
        )
    return found
