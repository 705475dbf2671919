"""The metrics of a pair of rankings, their differences, and whether these may be chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vidembed import metrics

if TYPE_CHECKING:
    from vidembed.comparison.pair import Pair
    from vidembed.comparison.read import Asked

Table = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """How metrics are counted and tested."""

    ks: tuple[int, ...]
    rule: metrics.Rule
    rounds: int
    seed: int


def tested(pair: Pair, test: Test) -> Table:
    """By metric: `a`, `b`, `difference` (B - A), `ci95` and `p`, the last two None for medians."""
    if pair.direction == "video_to_video":
        return _tested(_of_video(pair.a, pair, test), _of_video(pair.b, pair, test), test)
    one, two = (_of_text(asked, pair, test) for asked in (pair.a, pair.b))
    if one.names != two.names:
        # An index lost an answer in one of them only: neither has a mean rank to compare.
        one, two = (_without_mean(terms) for terms in (one, two))
    table = _tested(one, two, test)
    for name in {"MdR", "MnR"} - set(table):
        table[name] = _untested(name, pair, test)
    return {n: table[n] for n in (*(f"R@{k}" for k in test.ks), "MdR", "MnR", "MRR")}


def _tested(one: metrics.Terms, two: metrics.Terms, test: Test) -> Table:
    found = metrics.paired(one, two, rounds=test.rounds, seed=test.seed)
    return {
        name: {"a": d.a, "b": d.b, "difference": d.difference, "ci95": list(d.interval), "p": d.p}
        for name, d in found.items()
    }


def _of_video(asked: Asked, pair: Pair, test: Test) -> metrics.Terms:
    """R@k and MRR as `metrics.labelled` counts them, after what the rows hold."""
    place = metrics.first_hit(asked.hits, asked.rank, asked.ties)
    terms = metrics.first_hit_terms(place, test.ks)
    if not pair.measures:
        return terms
    values = np.stack([asked.measures[name] for name in pair.measures], axis=1)
    held = metrics.Terms(names=pair.measures, values=values, weights=terms.weights)
    return held.beside(terms)


def _of_text(asked: Asked, pair: Pair, test: Test) -> metrics.Terms:
    several = pair.several
    terms = metrics.retrieval_terms(
        asked.rank, asked.ties, ks=test.ks, rule=test.rule, several=several
    )
    mean = metrics.mean_rank_terms(asked.rank, asked.ties, rule=test.rule, several=several)
    return terms if mean is None else terms.beside(mean)


def _without_mean(terms: metrics.Terms) -> metrics.Terms:
    keep = [i for i, name in enumerate(terms.names) if name != "MnR"]
    return metrics.Terms(
        names=tuple(terms.names[i] for i in keep),
        values=terms.values[:, keep],
        weights=terms.weights,
    )


def _untested(name: str, pair: Pair, test: Test) -> dict[str, Any]:
    one, two = (
        metrics.retrieval(
            asked.rank, asked.ties, gallery=0, ks=(), rule=test.rule, several=pair.several
        )[name]
        for asked in (pair.a, pair.b)
    )
    known = one is not None and two is not None
    return {
        "a": one,
        "b": two,
        "difference": two - one if known else None,
        "ci95": None,
        "p": None,
    }
