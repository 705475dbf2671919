"""Intervals and tests say what they claim to say: on draws whose truth is known."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from vidembed import metrics


def terms_of(rank, ties=None, ks=(1, 5), **how) -> metrics.Terms:
    rank = np.asarray(rank, np.float64)
    ties = np.zeros(len(rank), np.int64) if ties is None else np.asarray(ties)
    return metrics.retrieval_terms(rank, ties, ks=ks, **how)


def test_intervals_hold_the_value_and_shrink_with_the_root_of_the_queries():
    rng = np.random.default_rng(0)
    widths = []
    for size in (100, 10_000):
        terms = terms_of(rng.integers(1, 21, size))
        low, high = metrics.bootstrap(terms)["R@5"]
        assert low <= terms.means()["R@5"] <= high
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(10, rel=0.25)


def test_95_of_100_intervals_hold_the_truth():
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        low, high = metrics.bootstrap(terms_of(rng.integers(1, 21, 200)), rounds=300)["R@5"]
        held += low <= 0.25 <= high
    assert 0.91 <= held / 200 <= 0.98


def test_intervals_are_the_same_every_time_and_others_with_another_seed():
    terms = terms_of(np.arange(1, 30))
    assert metrics.bootstrap(terms) == metrics.bootstrap(terms)
    assert metrics.bootstrap(terms, seed=1)["MRR"] != metrics.bootstrap(terms)["MRR"]


def test_with_ties_queries_are_drawn_and_not_entries():
    rng = np.random.default_rng(3)
    rank, ties = rng.integers(1, 8, 60).astype(float), rng.integers(0, 6, 60)
    entries = [np.arange(r, r + t + 1) for r, t in zip(rank, ties, strict=True)]
    drawn = []
    for _ in range(4000):
        some = np.concatenate([entries[i] for i in rng.integers(0, 60, 60)])
        drawn.append((some <= 5).mean())
    expected = np.quantile(drawn, [0.025, 0.975])
    assert metrics.bootstrap(terms_of(rank, ties), rounds=4000)["R@5"] == pytest.approx(
        expected, abs=0.01
    )


def test_a_thousand_rounds_over_many_queries_take_little_memory():
    terms = terms_of(np.random.default_rng(0).integers(1, 500, 20_000), ks=(1, 5, 10, 50))
    tracemalloc.start()
    metrics.bootstrap(terms)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32e6, "all draws at once would be 160 MB"


def test_a_ranking_beside_itself_differs_by_nothing_and_by_chance():
    rng = np.random.default_rng(4)
    rank, ties = rng.integers(1, 50, 200), rng.integers(0, 3, 200)
    for rule in metrics.RULES:
        terms = terms_of(rank, ties, rule=rule)
        for found in metrics.paired(terms, terms, rounds=500).values():
            assert (found.difference, found.interval, found.p) == (0.0, (0.0, 0.0), 1.0)


def test_a_clearly_better_ranking_is_seen_and_by_how_much():
    rng = np.random.default_rng(5)
    before = rng.integers(2, 40, 300)
    after = np.maximum(1, before // 3)
    found = metrics.paired(terms_of(before), terms_of(after), rounds=2000)
    for name in ("R@1", "R@5", "MRR"):
        one = found[name]
        assert one.p == 1 / 2001, "no round was as extreme"
        assert one.difference == pytest.approx(one.b - one.a)
        assert 0 < one.interval[0] < one.difference < one.interval[1]
    back = metrics.paired(terms_of(after), terms_of(before), rounds=2000)["R@5"]
    assert (back.difference, back.p) == (-found["R@5"].difference, 1 / 2001)


def test_the_p_value_is_that_of_all_ways_to_exchange_a_few_queries():
    # Of 8 queries, 6 gain a first place and 1 loses it; 1 stays.
    before = terms_of([2, 2, 2, 2, 2, 2, 1, 1], ks=(1,))
    after = terms_of([1, 1, 1, 1, 1, 1, 2, 1], ks=(1,))
    sums = [sum(1 if bits >> i & 1 else -1 for i in range(7)) for bits in range(2**7)]
    exact = np.mean([abs(s) >= 5 for s in sums])
    found = metrics.paired(before, after, rounds=20_000)["R@1"].p
    assert found == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000))


def test_with_ties_a_query_is_exchanged_with_all_its_places():
    sides = [([1, 4, 2, 6, 1, 3], [0, 2, 5, 0, 3, 1]), ([1, 1, 6, 2, 1, 1], [4, 0, 0, 5, 0, 0])]
    places = [[np.arange(r, r + t + 1) for r, t in zip(*side, strict=True)] for side in sides]

    def difference(bits: int) -> float:
        a, b = ([places[(bits >> i & 1) ^ side][i] for i in range(6)] for side in (0, 1))
        return (np.concatenate(b) <= 5).mean() - (np.concatenate(a) <= 5).mean()

    exact = np.mean([abs(difference(bits)) >= abs(difference(0)) - 1e-12 for bits in range(2**6)])
    one, two = (terms_of(*side) for side in sides)
    found = metrics.paired(one, two, rounds=20_000)["R@5"]
    assert found.difference == pytest.approx(difference(0))
    assert 0.05 < exact < 0.95
    assert found.p == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000))


def test_where_nothing_differs_one_test_in_twenty_is_below_a_twentieth():
    rng = np.random.default_rng(6)
    below = []
    for _ in range(300):
        quality = rng.exponential(1.0, 80)
        a, b = (1 + np.floor(quality * rng.exponential(4.0, 80)) for _ in range(2))
        p = metrics.paired(terms_of(a), terms_of(b), rounds=199)["MRR"].p
        below.append([p <= 0.05, p <= 0.5])
    small, half = np.mean(below, axis=0)
    assert 0.025 <= small <= 0.08
    assert 0.42 <= half <= 0.58


def test_where_nothing_differs_but_ties_the_test_holds_as_well():
    rng = np.random.default_rng(7)
    below = []
    for _ in range(300):
        a, b = (terms_of(rng.integers(1, 9, 60), rng.integers(0, 5, 60)) for _ in range(2))
        below.append(metrics.paired(a, b, rounds=199)["R@5"].p <= 0.05)
    assert 0.02 <= np.mean(below) <= 0.085


def test_other_queries_or_metrics_are_refused():
    with pytest.raises(ValueError, match="same metrics and the same queries"):
        metrics.paired(terms_of([1, 2]), terms_of([1]))
    with pytest.raises(ValueError, match="same metrics and the same queries"):
        metrics.paired(terms_of([1, 2]), terms_of([1, 2], ks=(1,)))
