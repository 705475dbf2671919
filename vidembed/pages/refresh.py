"""refresh.html: one round on one page, readable without a network."""

from __future__ import annotations

from typing import Any

from vidembed.pages.template import fill, number

_WHOLE = ("queries", "gallery")


def render(report: dict[str, Any]) -> str:
    """The page of a round; report: what refresh.json holds."""
    return fill(
        "refresh.html",
        report=report,
        failures=failures(report.get("embedded")),
        tables=[
            {"name": words(direction), "rows": rows}
            for direction, rows in measures(report.get("evaluation")).items()
        ],
    )


def words(direction: str) -> str:
    """A direction as people read it: text→video."""
    return direction.replace("_to_", "→")


def failures(embedded: dict[str, Any] | None) -> list[tuple[str, int, int | None]]:
    """(class, videos, how many more than before), of the most first; None where nothing is known
    of before.
    """
    if not embedded:
        return []
    known = embedded["failed_before"] is not None
    before = embedded["failures_before"]
    return [
        (kind, count, count - before.get(kind, 0) if known else None)
        for kind, count in embedded["failures"].items()
    ]


def measures(evaluation: dict[str, Any] | None) -> dict[str, list[tuple[str, str, str, str, str]]]:
    """By direction: metric, before, now, difference and p as text; dashes where there is none."""
    found: dict[str, list[tuple[str, str, str, str, str]]] = {}
    for direction, table in (evaluation["metrics"] if evaluation else {}).items():
        changes = evaluation["change"].get(direction, {}) if evaluation else {}
        found[direction] = [
            _measure(name, value, changes.get(name, {})) for name, value in table.items()
        ]
    return found


def _measure(
    name: str, value: float, change: dict[str, float | None]
) -> tuple[str, str, str, str, str]:
    digits = 0 if name in _WHOLE else 1 if name in ("MdR", "MnR") else 3
    before, difference, p = (change.get(key) for key in ("before", "difference", "p"))
    moved = "–" if difference is None else f"{difference:+,.{digits}f}"
    return name, number(before, digits), number(value, digits), moved, number(p)
