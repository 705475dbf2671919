"""report.html: one self-contained page, readable without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vidembed.pages.plots import Axis, Chart, Line, compact, points, round_numbers
from vidembed.pages.template import fill

if TYPE_CHECKING:
    from vidembed.report import RunReport

_WIDTH, _HEIGHT = 760, 200
_STYLES = {"decode": 0, "encode": 1, "write": 2}


def render(report: RunReport, thumbnails: list[tuple[str, bytes]]) -> str:
    """The page for a report; thumbnails are (video id, JPEG)."""
    chart = rates(report.timeline)
    return fill("report.html", report=report, pictures=thumbnails, chart=chart)


def rates(timeline: dict[str, Any]) -> Chart:
    """Clips per second of each stage over time."""
    series: dict[str, list[float]] = timeline["clips_per_s"]
    bucket = float(timeline["bucket_s"])
    count = max((len(values) for values in series.values()), default=0)
    top = max((max(values, default=0.0) for values in series.values()), default=0.0)
    seconds = max(1, count - 1) * bucket
    x = Axis(
        label="seconds",
        low=0.0,
        high=seconds,
        length=_WIDTH,
        ticks=tuple((v, compact(v)) for v in round_numbers(0, seconds, 8)),
    )
    y = Axis(
        label="clips per second",
        low=0.0,
        high=top or 1.0,
        length=_HEIGHT,
        up=True,
        ticks=tuple((v, compact(v)) for v in round_numbers(0, top or 1.0, 4)),
    )
    lines = tuple(
        Line(
            name=name,
            style=_STYLES[name],
            points=points(x, y, ((i * bucket, value) for i, value in enumerate(values))),
        )
        for name, values in series.items()
    )
    return Chart(
        name="rates",
        title="Clips per second of each stage",
        about=f"Over {seconds:.0f} seconds; at most {top:.1f} clips per second.",
        x=x,
        y=y,
        lines=lines,
    )
