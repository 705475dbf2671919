"""Two evaluations of the same queries: what differs, by how much, and whether it may be chance."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vidembed import sources
from vidembed.comparison.pair import Pair
from vidembed.comparison.read import Evaluated, words
from vidembed.comparison.significance import Test, tested
from vidembed.errors import ConfigError

if TYPE_CHECKING:
    from vidembed.config import CompareConfig

# Wins and losses that the result names; comparison.parquet has them all.
_NAMED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What comparison.json has, a row per query as comparison.parquet has it, and where they are.

    `comparison["text_to_video"]["metrics"]["R@1"]` is `{"a", "b", "difference", "ci95", "p"}`.
    """

    out: str
    result: dict[str, Any]
    rows: pa.Table

    def __getitem__(self, direction: str) -> dict[str, Any]:
        found: dict[str, Any] = self.result[direction]
        return found

    @property
    def directions(self) -> list[str]:
        return [name for name in self.result if "_to_" in name]


def compare(config: CompareConfig) -> Comparison:
    """Pair the queries of two evaluations, test the differences (B - A), write and return them.

    Raises ConfigError where one of the two cannot be read, or they share no query.
    """
    a, b = Evaluated.open(config.a), Evaluated.open(config.b)
    rules = {str(one.result.get("ties")) for one in (a, b)}
    test = Test(
        ks=config.k,
        rule="middle" if rules == {"middle"} else "reference",
        rounds=config.rounds,
        seed=config.seed,
    )
    notes = [] if len(rules) == 1 else [f"ties count by the {test.rule} rule, in both"]
    found: dict[str, Any] = {}
    tables: list[pa.Table] = []
    for direction in a.directions:
        if direction not in b.directions:
            continue
        asked_a, asked_b = a.asked(direction), b.asked(direction)
        pair = Pair.of(direction, asked_a, asked_b)
        if pair is None:
            notes.append(f"{words(direction)}: no query is in both")
            continue
        notes += pair.unlike()
        only = {"only_a": len(asked_a) - len(pair), "only_b": len(asked_b) - len(pair)}
        found[direction] = {"metrics": tested(pair, test)} | only | _won(pair)
        tables.append(pair.table())
    if not tables:
        raise ConfigError(_nothing_shared(a, b))
    result = {
        "a": _identity(a),
        "b": _identity(b),
        **found,
        "notes": notes,
        "ties": test.rule,
        "k": list(test.ks),
        "rounds": test.rounds,
        "seed": test.seed,
    }
    out = sources.absolute(config.out) if config.out else b.folder
    comparison = Comparison(out=out, result=result, rows=pa.concat_tables(tables))
    _write(comparison)
    return comparison


def _won(pair: Pair) -> dict[str, Any]:
    """How many queries each won, and those of the largest gains and losses of B."""
    gain = pair.gain()
    order = np.argsort(-gain, kind="stable")
    wins, losses = int((gain > 0).sum()), int((gain < 0).sum())
    return {
        "queries": len(pair),
        "gallery": [pair.a.gallery, pair.b.gallery],
        "wins_a": losses,
        "wins_b": wins,
        "level": len(pair) - wins - losses,
        "gained": [pair.changed(int(row)) for row in order[: min(_NAMED, wins)]],
        "lost": [pair.changed(int(row)) for row in order[::-1][: min(_NAMED, losses)]],
    }


def _identity(one: Evaluated) -> dict[str, Any]:
    facts = ("run", "encoder", "fingerprint", "metric", "backend", "layout")
    return {"evaluation": one.folder} | {f: one.result[f] for f in facts if f in one.result}


def _nothing_shared(a: Evaluated, b: Evaluated) -> str:
    shared = [direction for direction in a.directions if direction in b.directions]
    if not shared:
        there = [", ".join(map(words, one.directions)) or "no rows" for one in (a, b)]
        return f"nothing to compare: {a.folder} has {there[0]}, {b.folder} has {there[1]}"
    first = [one.asked(shared[0]).ids[0] for one in (a, b)]
    return (
        f"{a.folder} and {b.folder} share no query: the first of {words(shared[0])} is "
        f"{str(first[0])!r} in A and {str(first[1])!r} in B; evaluate both with the same --queries"
    )


def _write(comparison: Comparison) -> None:
    text = json.dumps(comparison.result, indent=2) + "\n"
    sources.write_whole(sources.join(comparison.out, "comparison.json"), text.encode())
    sink = pa.BufferOutputStream()
    pq.write_table(comparison.rows, sink, compression="zstd")
    data = sink.getvalue().to_pybytes()
    sources.write_whole(sources.join(comparison.out, "comparison.parquet"), data)
