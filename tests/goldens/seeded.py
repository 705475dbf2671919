"""Weights and clips from a seed: the same on every machine, with numpy alone.

The reference implementation and ours are given the same, so that only what comes out is kept. The
streams are those of `numpy.random.RandomState`, which numpy promises never to change; clips are
drawn with integers, so that no rounding can differ.
"""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

_TABLES = ("pos", "embed", "token", "cls", "class", "word_embd", "probe", "latent")


def weights(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Tensors by name and shape, float32 (int64 where batches are counted). Each depends on its own
    name only, and is scaled so that activations neither fade nor explode.
    """
    return {name: _tensor(name, tuple(shape), seed) for name, shape in shapes.items()}


def _tensor(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if shape == ():
        return np.array(1.0 if "logit" not in name else math.log(20.0), np.float32)
    draw = np.random.RandomState([seed, zlib.crc32(name.encode())])
    unit = (draw.random_sample(shape) * 2 - 1).astype(np.float32) * np.float32(math.sqrt(3))
    if name.endswith("running_var"):
        return 1 + np.float32(0.2) * np.abs(unit)
    if name.endswith(("running_mean", "bias")):
        return np.float32(0.1) * unit
    if len(shape) == 1:
        return 1 + np.float32(0.1) * unit
    is_kernel = len(shape) > 3 or "proj" in name
    if any(word in name.lower() for word in _TABLES) and not is_kernel:
        return np.float32(0.3) * unit
    return unit * np.float32(math.sqrt(1.5 / math.prod(shape[1:])))


def clip(frames: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """A clip that looks like footage to a network: uint8 RGB [frames, height, width, 3], smooth
    areas, edges, texture and grain, which move.
    """
    draw = np.random.RandomState([seed, frames, height, width])
    ground = _upscaled(draw.randint(0, 256, (8, 8, 3)), height + 2 * frames, width + 3 * frames, 9)
    shape = _upscaled(draw.randint(0, 2, (5, 5, 1)) * 255, height + frames, width + frames, 3)
    colour = draw.randint(0, 256, (1, 1, 3))
    out = np.empty((frames, height, width, 3), np.uint8)
    for t in range(frames):
        below = ground[2 * t : 2 * t + height, 3 * t : 3 * t + width]
        cover = shape[frames - t : frames - t + height, t : t + width]
        grain = draw.randint(-12, 13, (height, width, 1))
        mixed = (below * (255 - cover) + colour * cover) // 255
        out[t] = np.clip(mixed + grain, 0, 255)
    return out


def _upscaled(cells: np.ndarray, height: int, width: int, blur: int) -> np.ndarray:
    rows = np.arange(height) * len(cells) // height
    columns = np.arange(width) * cells.shape[1] // width
    big = cells[rows][:, columns].astype(np.int64)
    for axis in (0, 1):
        steps = [np.roll(big, k, axis) for k in range(-(blur // 2), blur // 2 + 1)]
        big = sum(steps) // blur
    return big


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest distance of a row from its golden, over the golden's length."""
    found, expected = np.atleast_2d(found).astype(np.float64), np.atleast_2d(expected)
    return float(
        (np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1)).max()
    )


def torch_state(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Any]:
    """`weights` as torch tensors."""
    import torch

    return {name: torch.from_numpy(np.asarray(a)) for name, a in weights(shapes, seed).items()}
