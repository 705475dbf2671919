"""The charts of evaluation.html: recall over k, the histogram of ranks, the curve of the sweep."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidembed.pages.plots import Axis, Bar, Chart, Line, Mark, compact, decades, points
from vidembed.pages.plots import round_numbers as ticks_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NAMES = {
    "text_to_video": "text → video",
    "video_to_text": "video → text",
    "video_to_video": "video → video",
}
STYLES = {name: at for at, name in enumerate(NAMES)}
_RERANKED = 3
_WIDTH, _HEIGHT = 420, 250
# Of small letters, in the units of the drawing.
_LINE = 12.0
_UNIT = tuple((v / 5, f"{v / 5:g}") for v in range(6))


def name_of(direction: str) -> str:
    """How a direction is called on the page.

    >>> name_of("text_to_video"), name_of("text_to_video_reranked")
    ('text → video', 'text → video, re-ranked')
    """
    plain = direction.removesuffix("_reranked")
    found = NAMES.get(plain, plain.replace("_", " "))
    return found if plain == direction else f"{found}, re-ranked"


def recall_at(rows: pa.Table, ks: Sequence[int], rule: str) -> NDArray[np.float64]:
    """R@k [ks] of the rows of one direction of evaluation.parquet, as `vidembed.metrics` counts.

    rule: `middle`, where of those that score the same a right answer has the mean place;
    `reference`, where it is spread over all of them, and counts as often, but for texts of videos
    that have several. Video to video is always counted by the middle.
    """
    rank, ties = ranks_of(rows)
    direction = rows["direction"][0].as_py()
    if rule == "middle" or direction == "video_to_video":
        return np.array([(rank + ties / 2 <= k).mean() for k in ks], np.float64)
    places = ties + 1
    weight = places
    if direction == "text_to_video":
        first = pc.list_element(rows["relevant"], 0)
        if len(pc.unique(first)) < len(first):
            weight = np.ones(len(rows))
    inside = (np.clip(k - rank + 1, 0, places) / places * weight for k in ks)
    return np.array([part.sum() / weight.sum() for part in inside], np.float64)


def ranks_of(rows: pa.Table) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ranks, inf where there is none, and ties of these rows."""
    rank = pc.fill_null(rows["rank"].cast(pa.float64()), np.inf).to_numpy()
    ties = pc.fill_null(rows["ties"].cast(pa.float64()), 0.0).to_numpy()
    return rank, ties


def recall(result: dict[str, Any], rows: dict[str, pa.Table]) -> Chart:
    """R@k over k, up to the gallery; what the tables hold is marked, with its interval."""
    most = max([2, *(int(result[name]["gallery"]) for name in rows)])
    x = Axis(
        label="k (logarithmic)",
        low=1,
        high=most,
        length=_WIDTH,
        log=True,
        ticks=tuple((v, compact(v)) for v in decades(1, most)),
    )
    y = Axis(label="R@k", low=0, high=1, length=_HEIGHT, up=True, ticks=_UNIT)
    lines = []
    for name, part in rows.items():
        table = result[name]
        ks = _grid(int(table["gallery"]))
        values = recall_at(part, ks, str(result["ties"]))
        line = points(x, y, zip(ks, values.tolist(), strict=True))
        marks = _marks(x, y, table, STYLES[name])
        lines.append(Line(name=name_of(name), style=STYLES[name], points=line, marks=marks))
        again = f"{name}_reranked"
        if again in result and "reranked" in part.column_names:
            found = pc.fill_null(part["reranked"].cast(pa.float64()), np.inf).to_numpy()
            pairs = [(k, float((found <= k).mean())) for k in ks]
            marks = _marks(x, y, result[again], _RERANKED)
            lines.append(
                Line(name=name_of(again), style=_RERANKED, points=points(x, y, pairs), marks=marks)
            )
    return Chart(
        name="recall",
        title="Recall over k",
        about="The share of queries with a right answer among the first k. "
        + " ".join(_in_words(line.name, line.marks) for line in lines),
        x=x,
        y=y,
        lines=tuple(lines),
    )


def _grid(gallery: int) -> list[int]:
    """Every k up to 100, then some of each power of ten, up to the gallery."""
    far = np.geomspace(100, max(gallery, 101), 80).round().astype(int)
    return sorted({k for k in (*range(1, 101), *far.tolist()) if k <= max(gallery, 1)})


def _marks(x: Axis, y: Axis, table: dict[str, Any], style: int) -> tuple[Mark, ...]:
    found = []
    for k, value in _recalls(table):
        if k > x.high:
            continue
        low, high = table.get("ci95", {}).get(f"R@{k}", (None, None))
        title = f"R@{k} {value:.3f}"
        if low is not None:
            title += f" (95%: {low:.3f} to {high:.3f})"
        # Beside each other, for at one k the whiskers of several lines would hide each other.
        at = round(x.at(k) + 3 * (style - 1), 1) if low is not None else x.at(k)
        found.append(
            Mark(
                x=at,
                y=y.at(value),
                title=title,
                low=None if low is None else y.at(low),
                high=None if high is None else y.at(high),
            )
        )
    return tuple(found)


def _recalls(table: dict[str, Any]) -> list[tuple[int, float]]:
    found = [(int(name[2:]), value) for name, value in table.items() if name.startswith("R@")]
    return sorted(found)


def _in_words(name: str, marks: Sequence[Mark]) -> str:
    return f"{name}: {', '.join(mark.title for mark in marks)}."


def histogram(name: str, table: dict[str, Any], rows: pa.Table) -> Chart:
    """How many queries have which rank, in bins that double; the median is marked."""
    rank, ties = ranks_of(rows)
    middle = np.floor(rank + ties / 2)
    known = middle[np.isfinite(middle)]
    bins = max(2, math.floor(math.log2(max(int(table["gallery"]), known.max(initial=1)))) + 1)
    counts = np.bincount(np.log2(known).astype(int), minlength=bins).tolist()
    labels = [_bin_name(at) for at in range(len(counts))]
    lost = len(middle) - len(known)
    if lost:
        counts.append(lost)
        labels.append("none")
    top = max(counts) / len(middle)
    x, y = _histogram_axes(labels, top)
    room = _WIDTH / len(counts)
    bars = tuple(
        Bar(
            x=round(at * room + room * 0.08, 1),
            y=y.at(count / len(middle)),
            width=round(room * 0.84, 1),
            height=round(y.length - y.at(count / len(middle)), 1),
            title=f"rank {label}: {count:,} queries, {count / len(middle):.1%}",
            label=f"{count / len(middle):.0%}" if count and len(counts) <= 12 else "",
        )
        for at, (count, label) in enumerate(zip(counts, labels, strict=True))
    )
    said = ", ".join(f"{label}: {count:,}" for label, count in zip(labels, counts, strict=True))
    median = table["MdR"] if table.get("MdR") is not None else float(np.median(middle))
    named = f"median {median:g}" if np.isfinite(median) else "median: not found"
    return Chart(
        name=f"ranks-{name}",
        title=f"Ranks, {name_of(name)}",
        about=f"Queries by the rank of their right answer. {said}. {named.capitalize()}.",
        x=x,
        y=y,
        bars=bars,
        style=STYLES[name],
        pointer=(round(_place(median, len(counts)) * room, 1), named),
    )


def _histogram_axes(labels: list[str], top: float) -> tuple[Axis, Axis]:
    # Every second one, or third, where they would touch.
    every = math.ceil(sum(len(label) + 1.5 for label in labels) * 6.5 / _WIDTH)
    ticks = tuple((at + 0.5, label) for at, label in enumerate(labels) if at % every == 0)
    x = Axis(
        label="rank of the right answer",
        low=0,
        high=len(labels),
        length=_WIDTH,
        ticks=ticks,
    )
    y = Axis(
        label="share of queries",
        low=0,
        # Room for the median's name above the highest bar.
        high=top * 1.25,
        length=_HEIGHT * 0.85,
        up=True,
        ticks=tuple((v, f"{v:.0%}") for v in ticks_of(0, min(1.0, top * 1.1), 4)),
    )
    return x, y


def _bin_name(at: int) -> str:
    low, high = 2**at, 2 ** (at + 1) - 1
    if at == 0:
        return "1"
    return f"{low}–{high}" if high < 1000 else f"{compact(low)}+"


def _place(rank: float, bins: int) -> float:
    """Where a rank stands among the bins: of a whole number, in the middle of its own room."""
    if not np.isfinite(rank):
        return bins - 0.5
    at = math.floor(math.log2(rank))
    return float(at + (rank - 2**at + 0.5) / 2**at)


def sweep(steps: list[dict[str, Any]]) -> Chart | None:
    """ANN recall against latency, a point for each setting; None where there is no measure."""
    shared = set.intersection(*(set(step["ann_recall"]) for step in steps))
    if not shared:
        return None
    at = "@10" if "@10" in shared else max(shared, key=lambda key: int(key[1:]))
    recalls = [float(step["ann_recall"][at]) for step in steps]
    speeds = {p: [float(step["latency_ms"][p]) for step in steps] for p in ("p50", "p95")}
    x = _latency_axis([value for values in speeds.values() for value in values])
    low, high = min(recalls), max(recalls)
    room = max(high - low, 0.01) * 0.12
    y = Axis(
        label=f"ANN recall{at}",
        low=max(0.0, low - room),
        high=min(1.0, high + room) if high < 1 else 1.0,
        length=_HEIGHT,
        up=True,
        ticks=tuple((v, f"{v:g}") for v in ticks_of(max(0.0, low - room), min(1.0, high + room))),
    )
    names = [params_text(step["params"]) for step in steps]
    lines = []
    for style, (name, values) in enumerate(speeds.items()):
        pairs = sorted(zip(values, recalls, names, strict=True), key=lambda pair: pair[1])
        marks = tuple(
            Mark(
                x=x.at(ms),
                y=y.at(found),
                title=f"{label}: ANN recall{at} {found:.4f}, {name} {ms:.2f} ms",
                label=shown if name == "p50" else "",
            )
            for (ms, found, label), shown in zip(pairs, _apart(x, y, pairs), strict=True)
        )
        line = points(x, y, ((ms, found) for ms, found, _ in pairs))
        lines.append(Line(name=f"{name} latency", style=style, points=line, marks=marks))
    said = ". ".join(mark.title for line in lines for mark in line.marks)
    return Chart(
        name="sweep",
        title="What recall costs",
        about=f"ANN recall{at} against milliseconds of a query. {said}.",
        x=x,
        y=y,
        lines=tuple(lines),
    )


def _apart(x: Axis, y: Axis, pairs: list[tuple[float, float, str]]) -> list[str]:
    """The names of points, but for those that would be written over another."""
    taken: list[tuple[float, float]] = []
    shown = []
    for ms, found, name in pairs:
        place = (x.at(ms), y.at(found))
        free = all(
            abs(place[0] - other[0]) > 7 * len(name) or abs(place[1] - other[1]) > _LINE
            for other in taken
        )
        shown.append(name if free else "")
        taken += [place] if free else []
    return shown


def _latency_axis(values: list[float]) -> Axis:
    low, high = min(values), max(values)
    log = low > 0 and high > 8 * low
    if not log:
        low, high = 0.0, high * 1.08 or 1.0
        marks = ticks_of(low, high)
    else:
        low, high = low / 1.7, high * 1.2
        marks = decades(low, high)
    return Axis(
        label="latency of a query, ms" + (" (logarithmic)" if log else ""),
        low=low,
        high=high,
        length=_WIDTH,
        log=log,
        ticks=tuple((v, compact(v)) for v in marks),
    )


def params_text(params: dict[str, Any]) -> str:
    """A setting in few words.

    >>> params_text({"ef": 64}), params_text({})
    ('ef 64', 'default')
    """
    return ", ".join(f"{name} {_plain(value)}" for name, value in params.items()) or "default"


def _plain(value: object) -> str:
    return params_text(value) if isinstance(value, dict) else str(value)
