"""Commands that search, and compare texts with videos."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.table import Table

from vidembed.commands.console import console

if TYPE_CHECKING:
    from vidembed.config import SearchConfig
    from vidembed.query import Hit


def search(options: SearchConfig) -> int:
    from vidembed.query import search as job

    hits = job(options)
    if options.as_json:
        for hit in hits:
            print(json.dumps(hit.plain(), default=str))
    else:
        show_hits(hits)
    return 0


def show_hits(hits: list[Hit]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("", justify="right")
    table.add_column("score", justify="right")
    again = any(hit.first_score is not None for hit in hits)
    if again:
        table.add_column("first", justify="right")
    for name in ("id", "seconds", "metadata", "uri"):
        table.add_column(name, overflow="fold")
    for rank, hit in enumerate(hits, start=1):
        facts = "  ".join(str(v) for v in hit.metadata.values() if v is not None)
        window = f"{hit.start_s:.1f}–{hit.end_s:.1f}"
        scores = [f"{hit.score:.4f}"]
        if again and hit.first_score is not None:
            scores.append(f"{hit.first_score:.4f}")
        elif again:
            # Not decoded again: its score is the search's.
            scores = ["–", *scores]
        table.add_row(str(rank), *scores, hit.id, window, facts[:120], hit.uri)
    console().print(table)
