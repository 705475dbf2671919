"""The encoders by name: a table that loads nothing."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Literal

from vidembed import sources
from vidembed.encode import own
from vidembed.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    from vidembed.encode.entry import Entry
    from vidembed.encode.spec import Encoder, EncoderSpec

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


_FAMILIES = ("clip4clip", "s3d_milnce", "mvit", "x3d", "hub", "pe_core", "videoclip_mugen")


def _entries() -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for family in _FAMILIES:
        module = importlib.import_module(f"vidembed.encode.{family}.entries")
        found |= {row.name: row for row in module.ENTRIES}
    return found


ENTRIES: dict[str, Entry] = _entries()


def entry(name: str) -> Entry:
    """The row of `name`, of the table or `package.module:Class`. Raises ConfigError with the names
    that there are.
    """
    if own.is_own(name):
        return own.entry(name)
    try:
        return ENTRIES[name]
    except KeyError:
        raise ConfigError(
            f"no encoder {name!r}; there are: {', '.join(ENTRIES)}, and package.module:Class"
        ) from None


def describe(name: str, weights: str | None = None, preset: str | None = None) -> EncoderSpec:
    """The spec of an encoder with these weights, checked name for name, nothing loaded.

    preset: one of its named ways of sampling and preprocessing; None: that of the weights.
    Raises ConfigError for an unknown name, WeightsError for weights that are absent or do not fit.
    """
    if weights is not None and sources.exists(weights):
        # Workers load by this name too, and their working directory is another.
        weights = sources.absolute(weights)
    if own.is_own(name):
        return own.describe(name, weights, preset)
    row = entry(name)
    if row.shipped and weights is not None:
        raise ConfigError(f"{name} ships with its weights; --weights is for another encoder")
    weights = weights or row.weights
    if weights is None and not row.shipped:
        raise WeightsError(f"{name} needs --weights. {row.obtain}")
    module = importlib.import_module(f"{row.package}.describe")
    spec: EncoderSpec = module.describe(row, weights, row.preset(preset))
    return spec


def load(spec: EncoderSpec, device: Device = "auto", dtype: Dtype = "auto") -> Encoder:
    """The encoder of a spec, ready on a device.

    auto: CUDA where there is a GPU; bfloat16 there, if that is near enough to float32 for this
    encoder (`Entry.half`); float32 on a CPU.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "--device cuda: torch sees no GPU here; `vidembed doctor` says what it sees"
        )
    if dtype == "auto":
        half = device == "cuda" and entry(spec.name).half
        dtype = "bfloat16" if half else "float32"
    if own.is_own(spec.name):
        return own.load(spec, torch.device(device), getattr(torch, dtype))
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
    preset: str | None = None,
) -> Encoder:
    """An encoder by name, ready to use: of `vidembed encoders`, or `package.module:Class`.

    weights: a file, a folder, an address, or a Hugging Face hub id; None: the encoder's default.
    frames: how many a clip has where the job samples. preset: a named way of sampling and
    preprocessing.

    Raises ConfigError or WeightsError.
    """
    return load(describe(name, weights, preset).sampled(count=frames), device, dtype)
