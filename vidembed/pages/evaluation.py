"""evaluation.html: one self-contained page, readable without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from vidembed.pages import evaluation_charts as charts
from vidembed.pages import evaluation_tables as tables
from vidembed.pages.evaluation_charts import NAMES, STYLES, name_of, params_text
from vidembed.pages.template import fill

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from vidembed.pages.gallery import Example


def render(result: dict[str, Any], rows: pa.Table, examples: Sequence[Example]) -> str:
    """The page of an evaluation.

    result: what evaluation.json holds; rows: evaluation.parquet; examples: those that
    `vidembed.evaluation.examples` chose, with their pictures. Nothing in them needs to be trusted.
    """
    parts = {
        name: rows.filter(pc.equal(rows["direction"], name)) for name in NAMES if name in result
    }
    return fill(
        "evaluation.html",
        run=str(result.get("run", "")),
        facts=_facts(result),
        headlines=[_headline(name, result[name]) for name in parts],
        tables=tables.metrics(result),
        recall=charts.recall(result, parts) if parts else None,
        histograms=[charts.histogram(name, result[name], part) for name, part in parts.items()],
        milvus=_milvus(result),
        breakdowns=[table for name in parts for table in tables.breakdowns(name, result[name])],
        left_out=_left_out(result.get("left_out")),
        galleries=_galleries(result, examples),
    )


def _facts(result: dict[str, Any]) -> list[tuple[str, str]]:
    known = (
        ("encoder", "encoder"),
        ("fingerprint", "fingerprint"),
        ("metric", "metric"),
        ("backend", "backend"),
        ("layout", "layout of the queries"),
        ("ties", "ties"),
    )
    found = [(label, str(result[key])) for key, label in known if result.get(key)]
    if result.get("created"):
        found.append(("made", str(result["created"]).replace("T", " ").replace("+00:00", " UTC")))
    if result.get("segments"):
        found.append(("segments", f"{result['segments']:,}"))
    if "seconds" in result:
        found.append(("took", f"{result['seconds']:,.1f} s"))
    return found


def _headline(direction: str, table: dict[str, Any]) -> dict[str, Any]:
    names = [name for name in table if name.startswith("mAP@")] or [
        name for name in table if name.startswith("R@")
    ]
    chosen = names[:3]
    if names and names[0].startswith("mAP@"):
        chosen = [name for name in ("R@1", "mHR@10", "mAP@10") if name in table] or names[:3]
    return {
        "name": name_of(direction),
        "style": STYLES[direction],
        "values": [(name, tables.number(name, table[name])) for name in chosen],
        "queries": table["queries"],
        "gallery": table["gallery"],
    }


def _left_out(left_out: object) -> list[tuple[str, int]]:
    if not isinstance(left_out, dict):
        return []
    return [(str(reason), count) for reason, count in left_out.items() if count]


def _milvus(result: dict[str, Any]) -> dict[str, Any] | None:
    """What came through the index: its facts, the differences from the exact ranking, the sweep."""
    found = result.get("milvus")
    if not found:
        return None
    steps = found.get("sweep") or []
    return {
        "facts": _milvus_facts(found),
        "recalls": [(f"ANN recall{at}", f"{v:.4f}") for at, v in found["ann_recall"].items()],
        "latency": _latency(found),
        "differences": tables.differences(result),
        "chart": charts.sweep(steps) if steps else None,
        "sweep": tables.sweep(steps) if steps else None,
    }


def _milvus_facts(found: dict[str, Any]) -> list[tuple[str, str]]:
    index = {k: v for k, v in (found.get("index") or {}).items() if v not in (None, "", {})}
    facts = [
        ("collection", str(found.get("collection", ""))),
        ("address", str(found.get("uri", ""))),
        ("index", params_text(index) if index else ""),
        ("search parameters", params_text(found.get("search_params") or {})),
    ]
    if "rows" in found:
        facts.append(("rows", f"{found['rows']:,}"))
    return [(name, value) for name, value in facts if value]


def _latency(found: dict[str, Any]) -> list[tuple[str, str]]:
    measured = found.get("latency_ms") or {}
    shown = [(f"{name} latency", f"{value:,.2f} ms") for name, value in measured.items()]
    if found.get("queries_per_s") is not None:
        shown.append(("queries per second", f"{found['queries_per_s']:,.0f}"))
    return shown


def _galleries(result: dict[str, Any], examples: Sequence[Example]) -> list[dict[str, Any]]:
    """The examples by direction, in the order of the directions."""
    return [
        {
            "name": name_of(direction),
            "videos": direction != "video_to_text",
            "size": result[direction]["gallery"],
            "examples": own,
        }
        for direction in NAMES
        if (own := [example for example in examples if example.direction == direction])
    ]
