"""Charts as values: positions in an SVG drawing, which `templates/charts.html` draws.

Lines differ by colour, by dash and by the shape of their marks: see `page.css`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Values from low to high, on `length` units of the drawing; `up` puts the low ones below."""

    label: str
    low: float
    high: float
    length: float
    log: bool = False
    up: bool = False
    ticks: tuple[tuple[float, str], ...] = ()

    def at(self, value: float) -> float:
        """Where a value lies, from 0 to `length`; one beyond the ends lies on them."""
        low, high, value = (self._scaled(v) for v in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        share = min(1.0, max(0.0, share))
        return round((1 - share if self.up else share) * self.length, 1)

    def _scaled(self, value: float) -> float:
        return math.log(max(value, 1e-12)) if self.log else value

    @property
    def marks(self) -> list[tuple[float, str]]:
        """(place, text) of the ticks."""
        return [(self.at(value), text) for value, text in self.ticks]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A point with what it says when pointed at, and from where to where its value may lie."""

    x: float
    y: float
    title: str
    label: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """style: from 0, its colour, dash and shape; points: as SVG has them."""

    name: str
    style: int
    points: str
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    x: float
    y: float
    width: float
    height: float
    title: str
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """name: unique on its page; about: what a reader who does not see it should know.

    pointer: (x, text) of an upright line.
    """

    name: str
    title: str
    about: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...] = ()
    bars: tuple[Bar, ...] = ()
    style: int = 0
    pointer: tuple[float, str] | None = None

    @property
    def width(self) -> float:
        return self.x.length

    @property
    def height(self) -> float:
        return self.y.length


def points(x: Axis, y: Axis, values: Iterable[tuple[float, float]]) -> str:
    """A line through these values, as the attribute of an SVG polyline."""
    return " ".join(f"{x.at(a):g},{y.at(b):g}" for a, b in values)


def round_numbers(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers from low to high, for ticks.

    >>> round_numbers(0, 1), round_numbers(0.93, 1.0, 4)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.94, 0.96, 0.98, 1.0])
    """
    span = high - low
    if span <= 0:
        return [low]
    rough = span / count
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(scale * m for m in (1, 2, 2.5, 5, 10) if scale * m >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each power of ten from low to high; of many powers only the 1.

    >>> decades(1, 60), decades(1, 1e6)
    ([1, 2, 5, 10, 20, 50], [1, 10, 100, 1000, 10000, 100000, 1000000])
    """
    least, most = math.floor(math.log10(low)), math.ceil(math.log10(high))
    parts: Sequence[int] = (1, 2, 5) if most - least <= 3 else (1,)
    values = [part * 10.0**power for power in range(least, most + 1) for part in parts]
    return [int(v) if v >= 1 else v for v in values if low <= v * (1 + 1e-9) <= high * (1 + 1e-9)]


def compact(value: float) -> str:
    """A short number for a tick.

    >>> compact(1000), compact(25000), compact(1500000), compact(0.25)
    ('1k', '25k', '1.5M', '0.25')
    """
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"
