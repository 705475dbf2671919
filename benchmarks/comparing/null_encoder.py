"""An encoder of one's own, `benchmarks.comparing.null_encoder:Zeros`: frames come, zeros go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vidembed.clips import ClipSpec, Resize, Sampling
from vidembed.encode.own import digest
from vidembed.encode.spec import EncoderSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CLIP = ClipSpec(
    sampling=Sampling(kind="uniform", count=12),
    resize=Resize(short_side=224, crop=224),
)


class Zeros:
    @classmethod
    def describe(cls, weights: str | None = None, preset: str | None = None) -> EncoderSpec:
        return EncoderSpec(
            name=cls.__name__, dim=512, clip=_CLIP, metric="IP", context_length=0,
            weights="", digest=digest(cls), architecture="none",
        )  # fmt: skip

    def __init__(self, spec: EncoderSpec, device: Any, dtype: Any) -> None:
        self.spec = spec

    def encode_video(self, frames: NDArray[np.uint8], valid: Any = None) -> NDArray[np.float32]:
        return np.zeros((len(frames), 512), np.float32)

    def encode_text(self, texts: list[str]) -> NDArray[np.float32]:
        raise ValueError("it has no texts")
