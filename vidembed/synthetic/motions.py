"""Paths of the shapes over a clip, each distinct from the others in eight uniform frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Path:
    """Where the shape is at each of n moments; arrays [n], lengths in frame heights."""

    x: Values
    """To the right of the centre of the frame."""
    y: Values
    """Below the centre of the frame."""
    scale: Values
    """A factor on the radius; 0 where the shape is not seen."""


Motion = Callable[[Values, np.random.Generator], Path]


def _straight(right: int, down: int) -> Motion:
    """Through the frame along one axis or both, off the middle by a little."""

    def motion(t: Values, rng: np.random.Generator) -> Path:
        reach_x, reach_y = rng.uniform(0.2, 0.32, 2)
        aside_x, aside_y = (
            rng.uniform(-0.06, 0.06, 2) if right and down else rng.uniform(-0.2, 0.2, 2)
        )
        travel = 2 * t - 1
        return Path(
            x=right * reach_x * travel + (0 if right and not down else aside_x),
            y=down * reach_y * travel + (0 if down and not right else aside_y),
            scale=np.ones_like(t),
        )

    return motion


def _circling(direction: int) -> Motion:
    """Around the middle of the frame; +1 is clockwise, because y points downwards."""

    def motion(t: Values, rng: np.random.Generator) -> Path:
        radius = rng.uniform(0.2, 0.29)
        angle = rng.uniform(0, 2 * np.pi) + direction * 2 * np.pi * rng.uniform(0.9, 1.4) * t
        return Path(radius * np.cos(angle), radius * np.sin(angle), np.ones_like(t))

    return motion


def _zoom(start: float, end: float) -> Motion:
    def motion(t: Values, rng: np.random.Generator) -> Path:
        x, y = rng.uniform(-0.15, 0.15, 2)
        return Path(np.full_like(t, x), np.full_like(t, y), start + (end - start) * t)

    return motion


def _bounces(t: Values, rng: np.random.Generator) -> Path:
    floor, height = rng.uniform(0.2, 0.3), rng.uniform(0.4, 0.55)
    hops = np.abs(np.sin(np.pi * (rng.uniform(2.0, 3.0) * t + rng.uniform(0, 1))))
    return Path(np.full_like(t, rng.uniform(-0.2, 0.2)), floor - height * hops, np.ones_like(t))


def _sways(t: Values, rng: np.random.Generator) -> Path:
    phase = 2 * np.pi * (rng.uniform(1.5, 2.2) * t + rng.uniform(0, 1))
    x = rng.uniform(0.2, 0.3) * np.sin(phase)
    return Path(x, np.full_like(t, rng.uniform(-0.2, 0.2)), np.ones_like(t))


def _blinks(t: Values, rng: np.random.Generator) -> Path:
    x, y = rng.uniform(-0.2, 0.2, 2)
    lit = (rng.uniform(2.2, 3.2) * t + rng.uniform(0, 0.4)) % 1.0 < 0.55
    return Path(np.full_like(t, x), np.full_like(t, y), lit.astype(np.float64))


def _still(t: Values, rng: np.random.Generator) -> Path:
    x, y = rng.uniform(-0.2, 0.2, 2)
    return Path(np.full_like(t, x), np.full_like(t, y), np.ones_like(t))


PATHS: dict[str, Motion] = {
    "left": _straight(-1, 0),
    "right": _straight(1, 0),
    "up": _straight(0, -1),
    "down": _straight(0, 1),
    "up_left": _straight(-1, -1),
    "up_right": _straight(1, -1),
    "down_left": _straight(-1, 1),
    "down_right": _straight(1, 1),
    "clockwise": _circling(1),
    "counter_clockwise": _circling(-1),
    "grows": _zoom(0.5, 1.5),
    "shrinks": _zoom(1.5, 0.5),
    "bounces": _bounces,
    "sways": _sways,
    "blinks": _blinks,
    "still": _still,
}
