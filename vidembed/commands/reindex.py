"""The command that builds versions of a collection and moves the alias."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.table import Table

from vidembed.commands.console import console

if TYPE_CHECKING:
    from vidembed.config import ReindexConfig
    from vidembed.reindexing import Reindexed


def reindex(options: ReindexConfig) -> int:
    from vidembed import reindexing

    if options.status:
        _show_versions(options)
        return 0
    if options.rollback:
        live, left = reindexing.rollback(options)
        would = "would point" if options.dry_run else "points"
        print(f"alias {options.alias} {would} to {live} again; {left} stays")
        return 0
    done = reindexing.reindex(
        options, lambda sentence: print(sentence, file=sys.stderr, flush=True)
    )
    print(_sentence(done, options.alias))
    if done.recall is not None:
        print(f"recall@10 of its index: {done.recall:.4f}")
    if done.gate is not None:
        before = "" if done.gate.before is None else f", {done.gate.before:.4f} with the one before"
        print(f"R@10 of {done.gate.queries:,} captions: {done.gate.now:.4f}{before}")
    if done.dropped:
        print(f"dropped: {', '.join(done.dropped)}")
    if done.other_encoder and done.action in ("built", "finished"):
        print(
            f"the vectors are of another encoder than before: {done.encoder}, fingerprint "
            f"{done.fingerprint}. Readers that hold the index open are told so, and open it again"
        )
    return 0


def _sentence(done: Reindexed, alias: str) -> str:
    rows = f"{done.rows:,} rows of {done.encoder}"
    return {
        "built": f"alias {alias} points to {done.live} now, with {rows}",
        "finished": f"alias {alias} points to {done.live} now, with {rows}, built by an earlier "
                    f"call",
        "updated": f"{done.live}, live behind alias {alias}, is up to date, with {rows}",
        "unchanged": f"nothing has changed: {done.live} is live behind alias {alias}, with {rows}; "
                     f"--force builds it anew",
        "withdrawn": f"nothing done: a version with these contents was rolled back, and "
                     f"{done.live} is live; --force builds it anew",
        "planned": f"a new version would be built, with {rows}, and take the place of "
                   f"{done.before or 'nothing: there is no alias yet'}",
    }[done.action]  # fmt: skip


def _show_versions(options: ReindexConfig) -> None:
    from vidembed.reindexing import status

    live, versions = status(options)
    if live is None:
        print(f"there is no alias {options.alias} in {options.milvus}")
    elif live not in [version.name for version in versions]:
        print(f"alias {options.alias} points to {live}, which is no version that vidembed made")
    table = Table(box=None, pad_edge=False)
    for name in ("", "version", "state", "begun (UTC)", "rows", "encoder", "fingerprint", "runs"):
        table.add_column(name, overflow="fold")
    for version in versions:
        state = "being updated" if version.updating else version.state
        table.add_row(
            "live" if version.name == live else "", version.name, state, version.made[:19],
            f"{version.rows:,}", version.encoder, version.fingerprint, "\n".join(version.runs),
        )  # fmt: skip
    console().print(table)
