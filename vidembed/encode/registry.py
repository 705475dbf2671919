"""The encoders by name: a table that loads nothing."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from vidembed import sources
from vidembed.errors import ConfigError

if TYPE_CHECKING:
    from vidembed.encode.spec import Encoder, EncoderSpec

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of the table of encoders.

    weights: what `--weights` is where it is not given; None: shipped. obtain: how to get weights.
    """

    name: str
    package: str
    modalities: tuple[str, ...]
    dim: str
    frames: str
    size: str
    metric: str
    sampling: str
    parameters: str
    weights: str | None
    licence: str
    source: str
    obtain: str


_CLIP4CLIP = "vidembed.encode.clip4clip"

ENTRIES: dict[str, Entry] = {
    e.name: e
    for e in (
        Entry(
            name="clip4clip",
            package=_CLIP4CLIP,
            modalities=("video", "text"),
            dim="512",
            frames="12",
            size="224",
            metric="COSINE",
            sampling="CLIP4Clip files: 1 fps, at most 12, masked; Hugging Face: 12 uniform",
            parameters="151 M (meanP) to 164 M (seqTransf)",
            weights="Searchium-ai/clip4clip-webvid150k",
            licence="the weights' own (CLIP and CLIP4Clip code: MIT)",
            source="arXiv 2104.08860, github.com/ArrowLuo/CLIP4Clip",
            obtain=(
                "A pytorch_model.bin.N that CLIP4Clip's training wrote (meanP, seqLSTM, seqTransf; "
                "ViT-B/32 or B/16), or the folder or hub id of any Hugging Face CLIP. Without "
                "--weights: `hf download Searchium-ai/clip4clip-webvid150k --local-dir "
                "clip4clip-webvid150k`, then --weights clip4clip-webvid150k."
            ),
        ),
        Entry(
            name="clip4clip-tiny",
            package=_CLIP4CLIP,
            modalities=("video", "text"),
            dim="128",
            frames="8",
            size="64",
            metric="COSINE",
            sampling="8 uniform",
            parameters="3.1 M",
            weights=None,
            licence="Apache-2.0",
            source="trained by this project on drawn clips; for trying and testing only",
            obtain="Shipped. It knows drawn shapes, not real footage.",
        ),
    )
}


def entry(name: str) -> Entry:
    """The row of `name`. Raises ConfigError with the names that there are."""
    try:
        return ENTRIES[name]
    except KeyError:
        raise ConfigError(f"no encoder {name!r}; there are: {', '.join(ENTRIES)}") from None


def describe(name: str, weights: str | None = None) -> EncoderSpec:
    """The spec of an encoder with these weights, checked name for name, nothing loaded.

    Raises ConfigError for an unknown name, WeightsError for weights that are absent or do not fit.
    """
    row = entry(name)
    if row.weights is None and weights is not None:
        raise ConfigError(f"{name} ships with its weights; --weights is for another encoder")
    module = importlib.import_module(f"{row.package}.describe")
    if weights is not None and sources.exists(weights):
        # Workers load by this name too, and their working directory is another.
        weights = sources.absolute(weights)
    spec: EncoderSpec = module.describe(name, weights or row.weights)
    return spec


def load(spec: EncoderSpec, device: Device = "auto", dtype: Dtype = "auto") -> Encoder:
    """The encoder of a spec, ready on a device.

    auto: CUDA where there is a GPU; bfloat16 there, float32 on a CPU.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "--device cuda: torch sees no GPU here; `vidembed doctor` says what it sees"
        )
    if dtype == "auto":
        dtype = "bfloat16" if device == "cuda" else "float32"
    module = importlib.import_module(f"{entry(spec.name).package}.encoder")
    encoder: Encoder = module.load(spec, torch.device(device), getattr(torch, dtype))
    return encoder


def load_encoder(
    name: str,
    weights: str | None = None,
    *,
    device: Device = "auto",
    dtype: Dtype = "auto",
    frames: int | None = None,
) -> Encoder:
    """An encoder by name, ready to use; see `vidembed encoders`.

    weights: a file, a folder, an address, or a Hugging Face hub id; None: the encoder's default.
    frames: how many a clip has where the job samples; `encode_video` takes clips of any length.

    Raises ConfigError or WeightsError.
    """
    return load(describe(name, weights).sampled(count=frames), device, dtype)
