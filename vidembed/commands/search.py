"""Commands that search, and compare texts with videos."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeVar

from rich.table import Table
from rich.text import Text

from vidembed.commands.console import console

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidembed.config import SearchConfig, SimilarityConfig
    from vidembed.query import Hit, TextHit

    Shown = TypeVar("Shown", Hit, TextHit)


def search(options: SearchConfig) -> int:
    from vidembed import query

    if options.texts is not None:
        texts = query.rank_texts(options)
        _show(texts, options, show_texts)
    else:
        hits = query.search(options)
        _show(hits, options, show_hits)
    return 0


def _show(
    found: list[Shown], options: SearchConfig, as_table: Callable[[list[Shown]], None]
) -> None:
    if not options.as_json:
        as_table(found)
        return
    for each in found:
        print(json.dumps(each.plain(), default=str))


def similarity(options: SimilarityConfig) -> int:
    from vidembed.query import similarity as job

    done = job(options)
    print(f"{done.texts:,} texts x {done.rows:,} rows: {done.out}")
    return 0


def show_texts(texts: list[TextHit]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("", justify="right")
    table.add_column("score", justify="right")
    table.add_column("text", overflow="fold")
    for rank, each in enumerate(texts, start=1):
        table.add_row(str(rank), f"{each.score:.4f}", Text(each.text))
    console().print(table)


def show_hits(hits: list[Hit]) -> None:
    if not hits:
        print("No row fits.")
        return
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
        # What manifests say is no markup.
        words = (Text(word) for word in (hit.id, window, _cut(facts), hit.uri))
        table.add_row(str(rank), *scores, *words)
    console().print(table)


def _cut(text: str, most: int = 120) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
