"""report.html: one self-contained page, readable without a network."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidembed.report import RunReport

_TEMPLATES = Path(__file__).parent / "templates"
_WIDTH, _HEIGHT = 720, 200
COLOURS = {"decode": "#2563eb", "encode": "#d97706", "write": "#059669"}


def render(report: RunReport, thumbnails: list[tuple[str, bytes]]) -> str:
    """The page for a report; thumbnails are (video id, JPEG)."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
    pictures = [(name, base64.b64encode(data).decode()) for name, data in thumbnails]
    return environment.get_template("report.html").render(
        report=report, pictures=pictures, plot=plot(report.timeline), colours=COLOURS
    )


def plot(timeline: dict[str, Any]) -> dict[str, Any]:
    """Lines of clips per second over time, in the coordinates of an SVG drawing."""
    series: dict[str, list[float]] = timeline["clips_per_s"]
    count = max((len(values) for values in series.values()), default=0)
    top = max((max(values, default=0.0) for values in series.values()), default=0.0)
    step = _WIDTH / max(1, count - 1)
    lines = {
        name: " ".join(
            f"{i * step:.1f},{_HEIGHT - value / (top or 1) * _HEIGHT:.1f}"
            for i, value in enumerate(values)
        )
        for name, values in series.items()
    }
    return {
        "lines": lines,
        "top": round(top, 1),
        "seconds": round(count * timeline["bucket_s"], 1),
        "width": _WIDTH,
        "height": _HEIGHT,
    }
