"""What `compare` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from vidembed.commands.console import console
from vidembed.comparison.read import words

if TYPE_CHECKING:
    from vidembed.comparison import Comparison

_NAMED = 5
_TEXT = 80


def show_comparison(comparison: Comparison) -> None:
    console().print(_sides(comparison.result))
    print()
    for direction in comparison.directions:
        found = comparison[direction]
        print(f"{words(direction)}: {found['queries']:,} queries in both{_alone(found)}")
        console().print(_metrics(found["metrics"]))
        print(
            f"B is better on {found['wins_b']:,} of them, A on {found['wins_a']:,}, "
            f"they are level on {found['level']:,}"
        )
        for title, name in (("most gained", "gained"), ("most lost", "lost")):
            if rows := found[name][:_NAMED]:
                console().print(_changed(f"{title} in B", rows))
        print()
    for note in comparison.result["notes"]:
        print(f"note: {note}")


def _sides(result: dict[str, Any]) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    for side in ("a", "b"):
        facts = result[side]
        what = (facts.get(name) for name in ("encoder", "fingerprint", "backend"))
        words = ", ".join(str(fact) for fact in what if fact)
        table.add_row(side.upper(), Text(facts["evaluation"]), Text(words))
    return table


def _alone(found: dict[str, Any]) -> str:
    alone = [
        f"{found[f'only_{side}']:,} only in {side.upper()}"
        for side in ("a", "b")
        if found[f"only_{side}"]
    ]
    return f"; {', '.join(alone)}, not compared" if alone else ""


def _metrics(found: dict[str, dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in ("A", "B", "B − A", "95% interval", "p"):
        table.add_column(name, justify="right")
    for name, row in found.items():
        digits = 1 if name in ("MdR", "MnR") else 3
        interval = row["ci95"]
        table.add_row(
            name,
            _number(row["a"], digits),
            _number(row["b"], digits),
            _number(row["difference"], digits, signed=True),
            " … ".join(_number(v, digits, signed=True) for v in interval) if interval else "–",
            "–" if row["p"] is None else f"{row['p']:.4f}",
        )
    return table


def _changed(title: str, rows: list[dict[str, Any]]) -> Table:
    by_precision = "average_precision_a" in rows[0]
    table = Table(box=None, pad_edge=False)
    table.add_column(title)
    table.add_column("average precision" if by_precision else "rank", justify="right")
    key, digits = ("average_precision", 3) if by_precision else ("rank", 0)
    for row in rows:
        change = " → ".join(_number(row[f"{key}_{side}"], digits) for side in ("a", "b"))
        table.add_row(_caption(row["query"] or row["query_id"]), change)
    return table


def _caption(text: str) -> Text:
    """A stranger's words: no markup, and nothing that a terminal would obey."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return Text(plain if len(plain) <= _TEXT else plain[: _TEXT - 1] + "…")


def _number(value: float | None, digits: int, *, signed: bool = False) -> str:
    if value is None:
        return "–"
    # A half of a rank, from a tie, is shown.
    digits = max(digits, 0 if float(value).is_integer() or digits > 1 else 1)
    return f"{value:{'+' if signed else ''},.{digits}f}"
