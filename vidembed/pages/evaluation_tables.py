"""The tables of evaluation.html."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vidembed.pages.evaluation_charts import NAMES, STYLES, name_of, params_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_VARIANTS = {"dual_softmax": "dual softmax", "qb_norm": "QB-Norm"}
_VALUES_SHOWN = 24
_BARS = 3
# Of what is best when it is highest; the others are ranks, counts and seconds.
_RATIOS = ("R@", "mHR@", "mAP@", "mAP_cut@", "nDCG@", "MRR")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A number, in text; the interval that it lies in; its share of a whole, for a bar."""

    text: str
    interval: str = ""
    share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """rows: (head, style of the direction or None, cells)."""

    caption: str
    head: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, int | None, Sequence[Cell]]]
    note: str = ""


def number(name: str, value: float | None) -> str:
    """A metric as its kind is shown; a dash where there is none."""
    if value is None:
        return "–"
    if name in ("queries", "gallery"):
        return f"{value:,}"
    if name == "MdR":
        return f"{value:,.1f}".removesuffix(".0")
    return f"{value:,.1f}" if name == "MnR" else f"{value:.3f}"


def _cell(name: str, table: dict[str, Any]) -> Cell:
    interval = table.get("ci95", {}).get(name)
    text = "" if not interval else "–".join(number(name, v) for v in interval)
    return Cell(text=number(name, table.get(name)), interval=text)


def _measures(table: dict[str, Any]) -> list[str]:
    """The names of a table's numbers, in their order."""
    return [
        name
        for name, value in table.items()
        if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
    ]


def _is_labelled(table: dict[str, Any]) -> bool:
    return any(name.startswith("mHR@") for name in table)


def _variants(direction: str, result: dict[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    """(name, table) of a direction, then of its post-processings and of the re-ranked."""
    table = result[direction]
    yield name_of(direction), table
    for key, name in _VARIANTS.items():
        if key in table:
            yield f"{name_of(direction)}, {name}", table[key]
    if (again := f"{direction}_reranked") in result:
        yield name_of(again), result[again]


def metrics(result: dict[str, Any]) -> list[Table]:
    """Directions and their variants as rows; one with many right answers a query has a table of its
    own.
    """
    plain: list[tuple[str, int, dict[str, Any]]] = []
    grids: list[Table] = []
    for direction in (name for name in NAMES if name in result):
        for name, values in _variants(direction, result):
            if _is_labelled(values):
                grids.append(_grid(name, STYLES[direction], values))
            else:
                plain.append((name, STYLES[direction], values))
    if not plain:
        return grids
    wanted = _measures(plain[0][2])
    columns = [name for name in wanted if name.startswith(("R@", "M"))] + ["queries", "gallery"]
    table = Table(
        caption="Texts and their videos; below each number its 95% interval",
        head="direction",
        columns=columns,
        rows=[(n, style, [_cell(c, values) for c in columns]) for n, style, values in plain],
    )
    return [table, *grids]


def _grid(name: str, style: int, table: dict[str, Any]) -> Table:
    """A row for each metric of a direction with many right answers a query, a column for each k."""
    families: dict[str, list[str]] = {}
    for measure in _measures(table):
        if "@" in measure:
            family, _, k = measure.partition("@")
            families.setdefault(family, []).append(k)
    ks = sorted({k for found in families.values() for k in found}, key=int)
    rows = [(family, style, [_cell(f"{family}@{k}", table) for k in ks]) for family in families]
    rest = [f"MRR {_cell('MRR', table).text}"] if "MRR" in table else []
    rest += [f"{table['queries']:,} queries, each among {table['gallery']:,} videos"]
    return Table(
        caption=f"{name}; below each number its 95% interval",
        head="metric",
        columns=[f"k = {k}" for k in ks],
        rows=rows,
        note=", ".join(rest),
    )


def breakdowns(direction: str, table: dict[str, Any]) -> list[Table]:
    """A table for each column that a direction is broken down by, its commonest values first."""
    measures = [name for name in _measures(table) if name.startswith(_RATIOS)]
    if _is_labelled(table):
        preferred = ["R@1", "mHR@10", "mAP@10"]
        measures = [name for name in preferred if name in measures] or measures
    measures = [name for name in measures if name != "MRR"][:_BARS]
    return [
        _breakdown(direction, column, values, table, measures)
        for column, values in table.get("by", {}).items()
    ]


def _breakdown(
    direction: str,
    column: str,
    values: dict[str, dict[str, Any]],
    whole: dict[str, Any],
    measures: list[str],
) -> Table:
    ordered = sorted(values.items(), key=lambda item: (-item[1]["queries"], item[0]))
    shown = [("all", whole), *ordered[:_VALUES_SHOWN]]
    hidden = len(ordered) - _VALUES_SHOWN
    return Table(
        caption=f"{name_of(direction)}, by {column}",
        head=column,
        columns=["queries", *measures],
        rows=[
            (
                value,
                STYLES[direction],
                [
                    Cell(text=f"{table['queries']:,}"),
                    *(
                        Cell(text=number(name, table.get(name)), share=table.get(name))
                        for name in measures
                    ),
                ],
            )
            for value, table in shown
        ],
        note=f"{hidden:,} rarer values are in evaluation.json." if hidden > 0 else "",
    )


def differences(result: dict[str, Any]) -> Table | None:
    """Each metric of the exact ranking beside the index's."""
    rows: list[tuple[str, int | None, list[Cell]]] = []
    for direction, exact in (result.get("exact") or {}).items():
        if direction not in result:
            continue
        for name in _measures(exact):
            one, other = exact[name], result[direction].get(name)
            if name in ("queries", "gallery"):
                continue
            gap = "–" if one is None or other is None else f"{other - one:+.3f}"
            cells = [Cell(text=number(name, v)) for v in (one, other)]
            head = f"{name_of(direction)}, {name}"
            rows.append((head, STYLES.get(direction), [*cells, Cell(text=gap)]))
    if not rows:
        return None
    return Table(
        caption="The exact ranking, and what the index makes of it",
        head="metric",
        columns=["exact", "Milvus", "difference"],
        rows=rows,
    )


def _fine(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def sweep(steps: list[dict[str, Any]]) -> Table:
    """Each setting of the sweep: what it finds, and how long that takes."""
    recalls = sorted(
        {at for step in steps for at in step["ann_recall"]}, key=lambda at: int(at[1:])
    )
    measures = list(dict.fromkeys(name for step in steps for name in _measures(step)))
    measures = [name for name in measures if name.startswith(_RATIOS)]
    latencies = [p for p in ("p50", "p95", "p99") if p in steps[0]["latency_ms"]]
    rows = []
    for step in steps:
        cells = [Cell(text=_fine(step["ann_recall"].get(at))) for at in recalls]
        cells += [Cell(text=number(name, step.get(name))) for name in measures]
        cells += [Cell(text=f"{step['latency_ms'][p]:,.2f}") for p in latencies]
        cells.append(Cell(text=f"{step['queries_per_s']:,.0f}"))
        rows.append((params_text(step["params"]), None, cells))
    return Table(
        caption="Each setting of the sweep; latencies in milliseconds of one query",
        head="setting",
        columns=[
            *(f"ANN recall{at}" for at in recalls),
            *measures,
            *(f"{p}, ms" for p in latencies),
            "queries/s",
        ],
        rows=rows,
    )
