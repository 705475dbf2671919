"""What is measured of one encoder, and how."""

from __future__ import annotations

import statistics
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from vidembed.encode import registry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from vidembed.encode.spec import Encoder, EncoderSpec

_SECONDS = 1.0
_MOST_ROUNDS = 20
_MATRIX = {"cuda": 8192, "cpu": 1024}


@dataclass(slots=True, kw_only=True)
class Timing:
    """One way of running an encoder. seconds: of each batch by batch size, medians; peak_bytes:
    that torch allocated on the device; copy_seconds: of the pixels of the largest batch on their
    way to the device; cosines: to float32, clip by clip; problem: why there is no more.
    """

    dtype: str
    compiled: bool
    seconds: dict[int, float] = field(default_factory=dict)
    peak_bytes: int | None = None
    copy_seconds: float | None = None
    cosines: list[float] = field(default_factory=list)
    problem: str = ""

    @property
    def best(self) -> tuple[int, float] | None:
        """The batch size of most clips a second, and how many those are."""
        rates = {size: size / seconds for size, seconds in self.seconds.items()}
        return max(rates.items(), key=lambda item: item[1], default=None)


def peak(device: str) -> float:
    """FLOP/s of a large product of bfloat16 matrices."""
    size = _MATRIX[device]
    draw = torch.Generator(device).manual_seed(0)
    left, right = (
        torch.randn(size, size, generator=draw, device=device).to(torch.bfloat16) for _ in "ab"
    )
    return 2 * size**3 / _median(lambda: left @ right, device)


def _counter() -> FlopCounterMode:
    """torch's counter, which knows attention on a GPU only."""

    def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return sdpa_flop_count(query, key, value)

    on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return FlopCounterMode(display=False, custom_mapping={on_cpu: attention})


def giga_macs(encoder: Encoder, clip: NDArray[Any]) -> float:
    """Billions of multiply-adds for one clip: of its matrix products, convolutions, attention."""
    with _counter() as counter:
        encoder.encode_video(clip)
    return counter.get_total_flops() / 2e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How an encoder is run. quick: each clip once, which is the timing too: on a CPU a clip may
    take a minute.
    """

    device: registry.Device
    dtype: registry.Dtype
    compiled: bool
    quick: bool


def run(
    spec: EncoderSpec, clips: NDArray[Any], sizes: Sequence[int], way: Way
) -> tuple[Timing, NDArray[np.float32] | None, float | None]:
    """One way of an encoder: its timing, the clips' vectors, and the billions of multiply-adds
    where it is not compiled. An error is part of the result.
    """
    timing = Timing(dtype=way.dtype, compiled=way.compiled)
    vectors, macs = None, None
    try:
        encoder: Any = registry.load(spec, way.device, way.dtype)
        if way.compiled:
            for module in outermost(encoder, clips[:1]):
                module.compile()
        elif way.dtype == "float32" and not way.quick:
            macs = giga_macs(encoder, clips[:1])
        with _counter() if way.quick else nullcontext() as counter:
            vectors, seconds = _each(encoder, clips)
        if counter is not None:
            macs = counter.get_total_flops() / 2e9 / len(clips)
        if way.quick:
            timing.seconds[1] = seconds
        else:
            _time(timing, encoder, clips, sizes, way)
    except Exception as error:  # noqa: BLE001 - whatever breaks is a finding, and others go on
        text = str(error).strip().splitlines() or [""]
        timing.problem = f"{type(error).__name__}: {text[0][:160]}"
    finally:
        torch.compiler.reset()
        if way.device == "cuda":
            torch.cuda.empty_cache()
    return timing, vectors, macs


def _each(encoder: Encoder, clips: NDArray[Any]) -> tuple[NDArray[np.float32], float]:
    """The vectors of clips, one at a time, and the median of the seconds that one took."""
    vectors, seconds = [], []
    for clip in clips:
        began = time.perf_counter()
        vectors.append(encoder.encode_video(clip[None]))
        seconds.append(time.perf_counter() - began)
    return np.concatenate(vectors), statistics.median(seconds)


def _time(
    timing: Timing, encoder: Encoder, clips: NDArray[Any], sizes: Sequence[int], way: Way
) -> None:
    _reset_peak(way.device)
    for size in sizes:
        batch = clips[np.arange(size) % len(clips)]
        if way.compiled:
            # Compiles anew for another size.
            encoder.encode_video(batch)
        timing.seconds[size] = _median(partial(encoder.encode_video, batch), way.device)
    if way.device == "cuda":
        timing.peak_bytes = torch.cuda.max_memory_allocated()
        timing.copy_seconds = _median(partial(_copied, batch), way.device)


def outermost(encoder: Encoder, clip: NDArray[Any]) -> list[nn.Module]:
    """The modules that an encoder calls and no other module of it does: its network, or the parts
    that it puts together itself. What is around them is numpy, which is not to be compiled.
    """
    found: list[nn.Module] = []
    within: list[nn.Module] = []

    def before(module: nn.Module, _: Any) -> None:
        if not within and module not in found:
            found.append(module)
        within.append(module)

    def after(*_: Any) -> None:
        within.pop()

    hooks = register_module_forward_pre_hook(before), register_module_forward_hook(after)
    try:
        encoder.encode_video(clip)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def cosines(found: NDArray[np.float32], reference: NDArray[np.float32]) -> list[float]:
    """Row by row, in float64."""
    one, other = found.astype(np.float64), reference.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return [float(value) for value in (one * other).sum(axis=1) / lengths]


def _copied(batch: NDArray[Any]) -> torch.Tensor:
    """As `LoadedEncoder.normalised` brings pixels to the device."""
    return torch.from_numpy(batch).pin_memory().to("cuda", non_blocking=True)


def _reset_peak(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()


def _median(work: Callable[[], Any], device: str) -> float:
    """Seconds of a call: the median of several, after some that do not count."""

    def once() -> float:
        began = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    first = once()
    if device == "cuda":
        # The second call still compiles for a new batch size, or tunes.
        once()
        once()
        first = once()
    rounds = max(1 if device == "cpu" else 3, min(_MOST_ROUNDS, int(_SECONDS / max(first, 1e-9))))
    return statistics.median(once() for _ in range(rounds))
