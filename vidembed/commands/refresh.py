"""The command of the scheduled round."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from vidembed.commands.console import console
from vidembed.errors import BusyError
from vidembed.pages.refresh import failures, measures, words

if TYPE_CHECKING:
    from vidembed.config import RefreshConfig
    from vidembed.refreshing import Refreshed


def refresh(options: RefreshConfig) -> int:
    from vidembed.refreshing import refresh as job

    try:
        done = job(options, lambda sentence: print(sentence, file=sys.stderr, flush=True))
    except BusyError as error:
        # No matter of words: a scheduler must be able to tell it from a wrong option.
        print(f"vidembed: {error}. Nothing was started (--if-running)", file=sys.stderr)
        return 1
    if done is None:
        return 0
    show_round(done)
    if done.cause is not None:
        raise done.cause
    return done.exit_code


def show_round(done: Refreshed) -> None:
    report = done.plain()
    steps = Table(box=None, pad_edge=False)
    for name in ("step", "state", "seconds", "what came of it"):
        steps.add_column(name, justify="right" if name == "seconds" else "left", overflow="fold")
    for step in done.steps:
        steps.add_row(step.name, step.state, f"{step.seconds:,.1f}", Text(step.sentence))
    console().print(steps)
    if done.embedded is not None:
        told = [
            f"{kind} {count:,}" + (f" ({more:+,})" if more else "")
            for kind, count, more in failures(report["embedded"])
        ]
        print(f"failed: {', '.join(told) or 'none'}")
    if done.index is not None:
        _show_index(report["index"])
    _show_measures(report["evaluation"])
    print(f"{done.verdict}: {done.sentence}")
    print(f"report: {done.out.rstrip('/')}/refreshes/{done.name}/refresh.html")


def _show_index(index: dict[str, Any]) -> None:
    before = f", {index['rows_before']:,} in {index['before']}" if index["before"] else ""
    print(f"index: {index['rows']:,} rows{before}")
    if index["recall"] is not None:
        last = index["recall_before"]
        earlier = "" if last is None else f", last measured {last:.4f}"
        print(f"recall@10 of the index: {index['recall']:.4f}{earlier}")
    if gate := index["gate"]:
        before = "" if gate["before"] is None else f", {gate['before']:.4f} with the live version"
        print(f"R@10 of {gate['queries']:,} captions: {gate['now']:.4f}{before}")


def _show_measures(evaluation: dict[str, Any] | None) -> None:
    if not evaluation:
        return
    table = Table(box=None, pad_edge=False)
    for name in ("evaluation", "before", "now", "difference", "p"):
        table.add_column(name, justify="left" if name == "evaluation" else "right")
    for direction, rows in measures(evaluation).items():
        for name, *cells in rows:
            table.add_row(f"{words(direction)} {name}", *cells)
    console().print(table)
    for note in evaluation["notes"]:
        print(f"note: {note}")
