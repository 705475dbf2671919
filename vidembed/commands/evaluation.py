"""What `evaluate` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from vidembed.commands.console import console

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vidembed.evaluation import Evaluation

_NAMES = {
    "text_to_video": "text→video",
    "text_to_video_reranked": "text→video, re-ranked",
    "video_to_text": "video→text",
    "video_to_video": "video→video",
}
_ALSO = {"dual_softmax": "dual softmax", "qb_norm": "QB-Norm"}
_VALUES = 15
_LATENCY = ("mean", "p50", "p90", "p95", "p99")


def show_evaluation(evaluation: Evaluation) -> None:
    result = evaluation.result
    lines = list(_lines(result))
    if lines:
        console().print(_one_answer(lines))
    if "video_to_video" in result:
        _show_labels(result)
    for direction, name in _NAMES.items():
        for column, values in result.get(direction, {}).get("by", {}).items():
            console().print(_breakdown(f"{name} by {column}", values))
    if "milvus" in result:
        _show_milvus(result["milvus"])
    if left_out := result["left_out"]:
        print("left out: " + ", ".join(f"{count:,} {reason}" for reason, count in left_out.items()))


def _lines(result: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is measured by rank: each direction, what it is beside, and its post-processings."""
    exact = result.get("exact", {})
    for direction, name in _NAMES.items():
        if direction not in result or direction == "video_to_video":
            continue
        table = result[direction]
        yield name + (", Milvus" if direction in exact else ""), table
        if direction in exact:
            yield f"{name}, exact", exact[direction]
        for key, label in _ALSO.items():
            for source in (table, exact.get(direction, {})):
                if key in source:
                    yield f"{name}, {label}", source[key]


def _one_answer(lines: Sequence[tuple[str, dict[str, Any]]]) -> Table:
    recalls = [name for name in lines[0][1] if name.startswith("R@")]
    columns = [*recalls, "MdR", "MnR", "MRR", "queries", "gallery"]
    table = _table("", columns)
    for name, values in lines:
        table.add_row(name, *(_number(column, values.get(column)) for column in columns))
    return table


def _show_labels(result: dict[str, Any]) -> None:
    exact = result.get("exact", {}).get("video_to_video")
    sides = [("video→video" + (", Milvus" if exact else ""), result["video_to_video"])]
    sides += [("video→video, exact", exact)] if exact else []
    columns = ["mHR", "mAP", "mAP_cut", "nDCG", "R"]
    table = _table("", [*(f"{name}@k" for name in columns), "MRR", "queries", "gallery"])
    for title, values in sides:
        whole = [_number(name, values[name]) for name in ("MRR", "queries", "gallery")]
        for name in values:
            if name.startswith("mHR@"):
                k = name.partition("@")[2]
                cells = [_number(column, values[f"{column}@{k}"]) for column in columns]
                table.add_row(f"{title}, k = {k}", *cells, *whole)
                # Once: these have no k.
                whole = ["", "", ""]
    console().print(table)


def _breakdown(title: str, values: dict[str, dict[str, Any]]) -> Table:
    first = next(iter(values.values()))
    columns = [name for name in first if name.startswith(("R@", "mHR@", "mAP@"))]
    table = _table(title, [*columns, "MRR", "queries"])
    for value, numbers in list(values.items())[:_VALUES]:
        cells = [_number(name, numbers.get(name)) for name in (*columns, "MRR", "queries")]
        table.add_row(Text(value), *cells)
    if len(values) > _VALUES:
        table.add_row(f"… {len(values) - _VALUES:,} more in evaluation.json")
    return table


def _show_milvus(found: dict[str, Any]) -> None:
    index = found.get("index") or {}
    print(
        f"Milvus collection {found['collection']} at {found['uri']}: "
        f"{index.get('type') or 'no index'}, {found['rows']:,} rows"
    )
    runs = [(_parameters(found.get("search_params")), found)]
    runs += [(_parameters(each["params"]), each) for each in found.get("sweep", [])]
    recalls = list(found.get("ann_recall", {}))
    columns = [f"ANN recall{k}" for k in recalls] + [f"{name} ms" for name in _LATENCY]
    table = _table("searched with", [*columns, "queries/s"])
    for name, each in runs:
        recall = [_number("", each.get("ann_recall", {}).get(k)) for k in recalls]
        latency = each.get("latency_ms") or {}
        times = [f"{latency[k]:,.1f}" if k in latency else "–" for k in _LATENCY]
        speed = each.get("queries_per_s")
        table.add_row(Text(name), *recall, *times, "–" if speed is None else f"{speed:,.0f}")
    console().print(table)


def _parameters(params: dict[str, Any] | None) -> str:
    return ", ".join(f"{k} = {v}" for k, v in (params or {}).items()) or "the index's own"


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(title)
    for name in columns:
        table.add_column(name, justify="right")
    return table


def _number(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    if name in ("queries", "gallery"):
        return f"{value:,}"
    return f"{value:,.1f}" if name in ("MdR", "MnR") else f"{value:.3f}"
