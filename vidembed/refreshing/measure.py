"""The evaluation of the live version beside the one before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vidembed.comparison import compare
from vidembed.config import CompareConfig
from vidembed.errors import ConfigError
from vidembed.evaluation import evaluate
from vidembed.refreshing.round import Measured

if TYPE_CHECKING:
    from vidembed.refreshing.asked import Asked
    from vidembed.refreshing.history import History
    from vidembed.store.merged import Merged

_DIRECTIONS = ("text_to_video", "video_to_text", "video_to_video")


def measured(
    asked: Asked, merged: Merged, history: History, name: str, last: Measured | None
) -> Measured:
    """Evaluate, write that into the round's folder, and compare it with the last evaluation."""
    config = asked.config
    folder = history.folder(name)
    found = evaluate(config.to_evaluate(folder), merged)
    metrics = {
        direction: _numbers(found.result[direction])
        for direction in _DIRECTIONS
        if direction in found.result
    }
    paired: dict[str, Any] = {}
    notes: list[str] = []
    if last is not None:
        paired, notes = _paired(history.folder(last.round), folder)
    return Measured(
        round=name,
        key=asked.key(merged),
        backend=config.backend,
        metrics=metrics,
        change=_change(metrics, last, paired),
        against=last.round if last else None,
        notes=notes,
    )


def _numbers(table: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in table.items() if isinstance(value, int | float)}


def _paired(before: str, now: str) -> tuple[dict[str, Any], list[str]]:
    """The test of each metric over the queries that are in both, and what to know about it."""
    try:
        found = compare(CompareConfig(a=before, b=now))
    except ConfigError as error:
        return {}, [f"not tested by pairs: {error}"]
    return {name: found[name] for name in found.directions}, list(found.result["notes"])


def _change(
    metrics: dict[str, dict[str, float]], last: Measured | None, paired: dict[str, Any]
) -> dict[str, dict[str, dict[str, float | None]]]:
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for direction, table in metrics.items():
        before = last.metrics.get(direction, {}) if last else {}
        tests = paired.get(direction, {}).get("metrics", {})
        found[direction] = {
            name: {
                "before": before[name],
                "difference": round(value - before[name], 6),
                "p": tests.get(name, {}).get("p"),
            }
            for name, value in table.items()
            if name in before
        }
    return found
