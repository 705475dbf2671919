"""What an encoder is: facts that are known without weights or torch, and two verbs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from vidembed.clips import Sampling
from vidembed.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from vidembed.clips import ClipSpec, Pad, SamplingKind

Metric = Literal["COSINE", "IP", "L2"]


@dataclass(frozen=True, slots=True)
class FrameCounts:
    """How many frames a clip (one of its windows) may have: from `least` to `most`, by `step`."""

    least: int = 1
    most: int | None = None
    step: int = 1

    def __contains__(self, count: object) -> bool:
        return (
            isinstance(count, int)
            and self.least <= count <= (self.most or count)
            and (count - self.least) % self.step == 0
        )

    def __str__(self) -> str:
        if self.most == self.least:
            return str(self.least)
        limits = f"{self.least} to {self.most}" if self.most else f"{self.least} or more"
        return limits if self.step == 1 else f"{limits} in steps of {self.step}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSpec:
    """One encoder with its weights, before anything is loaded.

    dim: of the vector; clip: the frames it wants; metric: the one its vectors are made for
    (COSINE: they have unit length); context_length: tokens of a text, 0 for a video-only encoder.
    weights: where they are, as the user named them; digest: SHA-256 of their bytes. counts: how
    many frames a clip may have, or one window of it.
    """

    name: str
    dim: int
    clip: ClipSpec
    metric: Metric
    context_length: int
    weights: str
    digest: str
    architecture: str
    counts: FrameCounts = FrameCounts()

    @property
    def identity(self) -> dict[str, Any]:
        """What makes two vectors comparable: network, weights, preprocessing and sampling."""
        return {
            "encoder": self.name,
            "architecture": self.architecture,
            "weights": self.digest,
            "clip": self.clip.describe(),
        }

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of SHA-256 over `identity`."""
        text = json.dumps(self.identity, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def sampled(
        self,
        *,
        kind: SamplingKind | None = None,
        count: int | None = None,
        fps: float | None = None,
    ) -> EncoderSpec:
        """The same encoder with another sampling; None keeps what the encoder's reference does.

        A kind is for the whole clip: windows are given up. Raises ConfigError for a count that the
        network cannot take.
        """
        sampling = self.clip.sampling
        if kind is not None and (kind != sampling.kind or sampling.seconds is not None):
            pad: Pad = "mask" if kind == "clip4clip" else "repeat"
            sampling = Sampling(kind=kind, count=sampling.count, fps=sampling.fps, pad=pad)
        if count is not None and count not in self.counts:
            raise ConfigError(f"--frames {count}: {self.name} takes {self.counts} frames a clip")
        if count is not None:
            sampling = replace(sampling, count=count)
        if fps is not None:
            sampling = replace(sampling, fps=fps)
        return replace(self, clip=replace(self.clip, sampling=sampling))

    def prepared(self, clip: ClipSpec) -> EncoderSpec:
        """The same encoder for clips of another sampling and preprocessing."""
        return replace(self, clip=clip)


class Encoder(Protocol):
    """An encoder that is loaded. The same input gives the same vector, whatever the batch."""

    @property
    def spec(self) -> EncoderSpec: ...

    def encode_video(
        self, frames: NDArray[np.uint8], valid: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """uint8 RGB [batch, frames, height, width, 3] of any size to float32 [batch, dim].

        The encoder's own resize, crop and normalisation are applied. Frames that are `crop` x
        `crop` pixels already count as resized; so do those of float32, 0 to 255, which an encoder
        takes besides whose resize is computed in that type.
        frames: those of one clip, or of k windows one after the other, whose vectors are averaged.
        valid: how many leading frames of each clip count, the rest being padding; None: all.
        ValueError, with what was expected and what came, for another dtype or shape.
        """
        ...

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """n texts to float32 [n, dim]; ValueError for a video-only encoder."""
        ...
