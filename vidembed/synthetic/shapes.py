"""Signed distances to the outlines of the shapes, for antialiased drawing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.float32]
Distance = Callable[[Grid, Grid], Grid]


def _regular(points: int, inner: float = 1.0) -> NDArray[np.float32]:
    """Corners [n, 2] of a polygon with its first corner on top; `inner` < 1 makes a star."""
    count = points if inner == 1.0 else 2 * points
    angles = np.arange(count) * (2 * np.pi / count) - np.pi / 2
    radii = np.where(np.arange(count) % 2, inner, 1.0)
    corners = np.stack([np.cos(angles) * radii, np.sin(angles) * radii], axis=1)
    return corners.astype(np.float32)


def _heart() -> NDArray[np.float32]:
    t = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x / 16.5, -(y + 2.5) / 16.5], axis=1).astype(np.float32)


_ARM = 0.34
_CROSS = np.array(
    [
        (-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM),
        (_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM),
    ],
    dtype=np.float32,
)  # fmt: skip
_SQUARE = np.array([(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)], np.float32)


def _polygon(corners: NDArray[np.float32]) -> Distance:
    """Exact distance to a closed polygon, negative inside (even-odd rule)."""

    def distance(x: Grid, y: Grid) -> Grid:
        nearest = np.full(x.shape, np.inf, np.float32)
        inside = np.zeros(x.shape, bool)
        for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            ex, ey = bx - ax, by - ay
            px, py = x - ax, y - ay
            along = np.clip((px * ex + py * ey) / (ex * ex + ey * ey), 0, 1)
            dx, dy = px - ex * along, py - ey * along
            nearest = np.minimum(nearest, dx * dx + dy * dy)
            if ay != by:
                inside ^= ((ay > y) != (by > y)) & (px < ex / ey * py)
        result: Grid = np.where(inside, -np.sqrt(nearest), np.sqrt(nearest))
        return result

    return distance


def _circle(x: Grid, y: Grid) -> Grid:
    return np.hypot(x, y) - np.float32(0.95)


def _ring(x: Grid, y: Grid) -> Grid:
    ring: Grid = np.abs(np.hypot(x, y) - np.float32(0.75)) - np.float32(0.23)
    return ring


def _crescent(x: Grid, y: Grid) -> Grid:
    bite = np.hypot(x - np.float32(0.5), y + np.float32(0.1)) - np.float32(0.78)
    moon: Grid = np.maximum(np.hypot(x, y) - 1, -bite)
    return moon


# Each within the square [-1, 1]; x to the right, y downwards.
DISTANCES: dict[str, Distance] = {
    "circle": _circle,
    "square": _polygon(_SQUARE),
    "triangle": _polygon(_regular(3)),
    "star": _polygon(_regular(5, inner=0.42)),
    "cross": _polygon(_CROSS),
    "ring": _ring,
    "heart": _polygon(_heart()),
    "crescent": _crescent,
}
