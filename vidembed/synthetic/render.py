"""Draw a scene: uint8 RGB frames, a function of the scene and the random generator alone."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vidembed.synthetic.motions import PATHS, Path
from vidembed.synthetic.shapes import DISTANCES, Distance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidembed.synthetic.scenes import Scene

# Hue in degrees, saturation, value. Jitter keeps neighbours apart (see `_color`).
_HSV: dict[str, tuple[float, float, float]] = {
    "red": (0, 0.92, 0.86),
    "orange": (28, 0.95, 0.97),
    "yellow": (56, 0.90, 0.97),
    "green": (125, 0.85, 0.68),
    "cyan": (183, 0.80, 0.92),
    "blue": (226, 0.88, 0.85),
    "purple": (276, 0.75, 0.66),
    "pink": (330, 0.45, 0.98),
    "white": (0, 0.0, 0.95),
    "gray": (0, 0.0, 0.50),
    "black": (0, 0.0, 0.07),
}
_RADIUS = (0.15, 0.20)
_TEXTURE = 3.0


def render(
    scene: Scene, frames: int, height: int, width: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw a whole clip, evenly spaced in time: uint8 RGB [frames, height, width, 3]."""
    return render_at(scene, np.linspace(0.0, 1.0, frames), (height, width), rng)


def render_at(
    scene: Scene,
    times: NDArray[np.float64],
    size: tuple[int, int],
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Draw single moments of a clip: uint8 RGB [n, height, width, 3].

    `times` [n] go from 0, the first frame of the clip, to 1, its last; `size` is (height, width).
    What the generator draws does not depend on `times`, so a frame drawn alone equals the same
    frame of the whole clip. All of the motion lies in the centred square of the frame, so that
    a centre crop loses none of it.
    """
    take = plan(scene, times, size, rng)
    ground = _background(scene.pattern, take, size)
    distance = DISTANCES[scene.shape]
    out = np.empty((len(times), *size, 3), np.uint8)
    still = np.clip(ground + 0.5, 0, 255).astype(np.uint8)
    for frame, x, y, scale in zip(out, take.path.x, take.path.y, take.path.scale, strict=True):
        frame[...] = still
        if scale > 0:
            pose = (float(x), float(y), float(take.radius * scale), take.tilt)
            _draw(frame, ground, take.ink, distance, pose)
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """Everything about a clip that its scene leaves to chance."""

    ground: NDArray[np.float32]
    """Main colour of the background, RGB [3] in 0..255."""
    period: float
    """Of the pattern, in frame heights."""
    shift: tuple[float, float]
    """Of the pattern, in half periods."""
    upright: bool
    """Whether stripes stand upright."""
    slope: tuple[float, float]
    """Of the light, a share per frame height."""
    grain: NDArray[np.float32]
    """[height, width, 1]."""
    ink: NDArray[np.float32]
    """Colour of the shape, RGB [3] in 0..255."""
    radius: float
    """Of the shape at scale 1, in frame heights."""
    tilt: float
    """Of the shape, in radians."""
    path: Path


def plan(
    scene: Scene, times: NDArray[np.float64], size: tuple[int, int], rng: np.random.Generator
) -> Take:
    """Draw the lots for a clip: what `render_at` with the same generator paints."""

    def pair(low: float, high: float) -> tuple[float, float]:
        first, second = rng.uniform(low, high, 2)
        return float(first), float(second)

    # Fields are evaluated in this order, which is part of what a seed means.
    return Take(
        ground=_color(scene.background, rng),
        period=float(rng.uniform(0.2, 0.3)),
        shift=pair(0, 1),
        upright=bool(rng.uniform() < 0.5),
        slope=pair(-0.05, 0.05),
        grain=rng.standard_normal((*size, 1), dtype=np.float32) * np.float32(_TEXTURE),
        ink=_color(scene.color, rng),
        radius=float(rng.uniform(*_RADIUS)),
        tilt=float(rng.uniform(-0.14, 0.14)),
        path=PATHS[scene.motion](times, rng),
    )


def _draw(
    frame: NDArray[np.uint8],
    ground: NDArray[np.float32],
    ink: NDArray[np.float32],
    distance: Distance,
    pose: tuple[float, float, float, float],
) -> None:
    """Blend the shape into `frame`; `pose` is x, y, radius (in heights) and tilt (radians).

    Only the box around the shape is touched: distances are what drawing costs.
    """
    height, width = frame.shape[:2]
    x, y, radius, tilt = pose
    column, row, reach = width / 2 + x * height, height / 2 + y * height, radius * height * 1.2 + 2
    left, right = max(0, int(column - reach)), min(width, int(column + reach) + 1)
    top, bottom = max(0, int(row - reach)), min(height, int(row + reach) + 1)
    if left >= right or top >= bottom:
        return
    unit = radius * height
    dx = ((np.arange(left, right, dtype=np.float32) + 0.5 - column) / unit)[None, :]
    dy = ((np.arange(top, bottom, dtype=np.float32) + 0.5 - row) / unit)[:, None]
    cos, sin = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
    outline = distance(dx * cos + dy * sin, dy * cos - dx * sin)
    alpha = np.clip(0.5 - outline * np.float32(unit), 0, 1)[..., None]
    under = ground[top:bottom, left:right]
    blended = under + (ink - under) * alpha
    frame[top:bottom, left:right] = np.clip(blended + 0.5, 0, 255).astype(np.uint8)


def _background(pattern: str, take: Take, size: tuple[int, int]) -> NDArray[np.float32]:
    """Float32 [height, width, 3] in 0..255: the pattern, a slight gradient and a fine grain."""
    height, width = size
    base = take.ground
    dark = base.mean() < 100
    other = base + (255 - base) * np.float32(0.25) if dark else base * np.float32(0.72)
    x = ((np.arange(width) - width / 2) / height)[None, :]
    y = ((np.arange(height) - height / 2) / height)[:, None]
    across = np.floor(2 * (x / take.period + take.shift[0])) % 2 + 0 * y
    down = np.floor(2 * (y / take.period + take.shift[1])) % 2 + 0 * x
    shade = {
        "plain": 0 * across,
        "striped": across if take.upright else down,
        "checkered": (across + down) % 2,
    }[pattern]
    mixed = base + (other - base) * shade[..., None].astype(np.float32)
    light = (1 + take.slope[0] * x + take.slope[1] * y)[..., None].astype(np.float32)
    ground: NDArray[np.float32] = (mixed * light + take.grain).astype(np.float32)
    return ground


def _color(name: str, rng: np.random.Generator) -> NDArray[np.float32]:
    """RGB float32 [3] in 0..255 near the named colour."""
    hue, saturation, value = _HSV[name]
    jitter = rng.uniform(-1, 1, 3)
    hue = (hue + 6 * jitter[0]) % 360 / 360
    saturation *= 1 + 0.06 * jitter[1]
    value += 0.045 * jitter[2]
    rgb = colorsys.hsv_to_rgb(hue, min(saturation, 1.0), min(max(value, 0.0), 1.0))
    return np.array(rgb, np.float32) * np.float32(255)
