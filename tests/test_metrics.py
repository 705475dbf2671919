"""Metrics of queries with one answer, against sorts by hand and against torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
from torch import tensor
from torchmetrics.functional import retrieval as theirs

from vidembed import metrics

KS = (1, 5, 10)
NAN = float("nan")
INF = float("inf")


def draw(seed: int, levels: int | None, queries: int = 40, gallery: int = 25):
    """Scores [queries, gallery], of so many levels where they are tied, and the answers."""
    rng = np.random.default_rng(seed)
    if levels is None:
        scores = rng.standard_normal((queries, gallery))
    else:
        scores = rng.integers(0, levels, (queries, gallery))
    return scores.astype(np.float32), rng.integers(0, gallery, queries)


def places(row: np.ndarray, own: int) -> list[int]:
    """Every place, from 1, at which the answer's score stands in the sorted row."""
    ordered = sorted(row.tolist(), reverse=True)
    return [i for i, score in enumerate(ordered, start=1) if score == row[own]]


def by_entries(scores, relevant, ks=KS) -> dict[str, float]:
    """As CLIP4Clip counts: each place of each query is an entry."""
    entries = [p for row, own in zip(scores, relevant, strict=True) for p in places(row, own)]
    return {f"R@{k}": sum(p <= k for p in entries) / len(entries) for k in ks} | {
        "MdR": float(np.median(entries)),
        "MnR": sum(entries) / len(entries),
        "MRR": sum(1 / p for p in entries) / len(entries),
    }


def by_mean_place(scores, relevant, ks=KS) -> dict[str, float]:
    found = [np.mean(places(row, own)) for row, own in zip(scores, relevant, strict=True)]
    return {f"R@{k}": np.mean([p <= k for p in found]) for k in ks} | {
        "MdR": np.median(found),
        "MnR": np.mean(found),
        "MRR": np.mean([1 / p for p in found]),
    }


def by_random_orders(scores, relevant, ks=KS) -> dict[str, float]:
    """One entry a query, where a sort leaves it: the mean over all orders of equal scores."""
    found = [places(row, own) for row, own in zip(scores, relevant, strict=True)]
    return {f"R@{k}": np.mean([np.mean([p <= k for p in ps]) for ps in found]) for k in ks} | {
        "MnR": np.mean([np.mean(ps) for ps in found]),
        "MRR": np.mean([np.mean([1 / p for p in ps]) for ps in found]),
    }


def same(table, expected) -> None:
    found = {name: table[name] for name in expected}
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("levels", [None, 2, 6], ids=["random", "two levels", "six levels"])
@pytest.mark.parametrize("seed", range(4))
class TestAgainstASortByHand:
    def test_the_reference_rule(self, seed, levels):
        scores, relevant = draw(seed, levels)
        table = metrics.retrieval(*metrics.ranked(scores, relevant), gallery=25, ks=KS)
        same(table, by_entries(scores, relevant))

    def test_the_middle_rule(self, seed, levels):
        scores, relevant = draw(seed, levels)
        rank, ties = metrics.ranked(scores, relevant)
        table = metrics.retrieval(rank, ties, gallery=25, ks=KS, rule="middle")
        same(table, by_mean_place(scores, relevant))

    def test_several_captions_a_video(self, seed, levels):
        scores, relevant = draw(seed, levels)
        rank, ties = metrics.ranked(scores, relevant)
        table = metrics.retrieval(rank, ties, gallery=25, ks=KS, several=True)
        same(table, by_random_orders(scores, relevant))


@pytest.mark.parametrize("seed", range(3))
def test_without_ties_hit_rate_and_reciprocal_rank_are_those_of_torchmetrics(seed):
    scores, relevant = draw(seed, None)
    rank, ties = metrics.ranked(scores, relevant)
    # Above 0, as to torchmetrics the others are not retrieved at all.
    above = scores - scores.min() + 1
    pairs = [
        (tensor(row), tensor(np.arange(25) == own))
        for row, own in zip(above, relevant, strict=True)
    ]
    expected = {
        f"R@{k}": np.mean([float(theirs.retrieval_hit_rate(s, t, top_k=k)) for s, t in pairs])
        for k in KS
    } | {"MRR": np.mean([float(theirs.retrieval_reciprocal_rank(s, t)) for s, t in pairs])}
    for rule in metrics.RULES:
        table = metrics.retrieval(rank, ties, gallery=25, ks=KS, rule=rule)
        assert {n: table[n] for n in expected} == pytest.approx(expected, abs=1e-6)


def test_the_worked_example_of_the_documentation():
    # Three queries: answers first alone, second with one other, and last with three others.
    rank, ties = np.array([1.0, 2.0, 4.0]), np.array([0, 1, 3])
    # The entries are 1; 2 and 3; 4 to 7.
    same(
        metrics.retrieval(rank, ties, gallery=7, ks=(1, 2, 5)),
        {"R@1": 1 / 7, "R@2": 2 / 7, "R@5": 5 / 7, "MdR": 4.0, "MnR": 4.0},
    )
    # The mean places are 1, 2.5 and 5.5.
    same(
        metrics.retrieval(rank, ties, gallery=7, ks=(1, 2, 5), rule="middle"),
        {"R@1": 1 / 3, "R@2": 1 / 3, "R@5": 2 / 3, "MdR": 2.5, "MnR": 3.0},
    )
    # Shares of the places: 1; 1/2 each; 1/4 each.
    same(
        metrics.retrieval(rank, ties, gallery=7, ks=(1, 2, 5), several=True),
        {"R@1": 1 / 3, "R@2": 1 / 2, "R@5": (1 + 1 + 2 / 4) / 3, "MdR": 2.0, "MnR": 3.0},
    )


def test_between_two_middle_ranks_is_their_mean_and_with_several_captions_the_lower_one():
    rank, ties = np.array([1.0, 2, 5, 9]), np.zeros(4, np.int64)
    assert metrics.retrieval(rank, ties, gallery=9, ks=())["MdR"] == 3.5
    assert metrics.retrieval(rank, ties, gallery=9, ks=(), several=True)["MdR"] == 2.0


@pytest.mark.parametrize("queries", [7, 8])
def test_with_several_captions_the_median_is_the_lower_one_of_torch(queries):
    rank = np.random.default_rng(queries).permutation(40)[:queries] + 1.0
    found = metrics.retrieval(rank, np.zeros(queries, np.int64), gallery=40, ks=(), several=True)
    assert found["MdR"] == float(tensor(rank).median())


def test_a_constant_score_is_not_a_perfect_one():
    scores, relevant = np.zeros((3, 101), np.float32), np.array([0, 50, 100])
    for rule in metrics.RULES:
        table = metrics.retrieval(
            *metrics.ranked(scores, relevant), gallery=101, ks=(1,), rule=rule
        )
        assert table["R@1"] <= 1 / 101
        assert (table["MdR"], table["MnR"]) == (51, 51)


def test_a_million_that_score_the_same_cost_no_more_than_one():
    rank, ties = np.ones(1000), np.full(1000, 999_999)
    table = metrics.retrieval(rank, ties, gallery=1_000_000, ks=(10,))
    harmonic = float((1.0 / np.arange(1, 1_000_001)).sum())
    same(table, {"R@10": 1e-5, "MdR": 500_000.5, "MnR": 500_000.5, "MRR": harmonic / 1e6})


@pytest.mark.parametrize(
    ("rank", "ties"), [(1, 63), (1, 64), (60, 9), (64, 1), (66, 70), (900, 90)]
)
def test_the_reciprocal_rank_of_many_ties_is_the_mean_over_all_their_places(rank, ties):
    table = metrics.retrieval(np.array([float(rank)]), np.array([ties]), gallery=999, ks=())
    expected = (1.0 / np.arange(rank, rank + ties + 1)).mean()
    assert table["MRR"] == pytest.approx(expected, rel=1e-12)


def test_what_an_index_did_not_give_back_is_a_miss():
    rank, ties = np.array([1.0, 2.0, INF, 3.0]), np.zeros(4, np.int64)
    for rule in metrics.RULES:
        table = metrics.retrieval(rank, ties, gallery=9, ks=(1, 5), rule=rule)
        same(table, {"R@1": 0.25, "R@5": 0.75, "MRR": (1 + 1 / 2 + 1 / 3) / 4, "MdR": 2.5})
        assert table["MnR"] is None


def test_a_median_among_those_not_given_back_is_none():
    table = metrics.retrieval(np.array([1.0, INF, INF]), np.zeros(3, np.int64), gallery=9, ks=(5,))
    assert table["MdR"] is None
    # Half of them: the mean of the two in the middle is infinite, the lower one is not.
    rank, ties = np.array([1.0, 2.0, INF, INF]), np.array([0, 1, 0, 0])
    assert metrics.retrieval(rank, ties, gallery=9, ks=(), rule="middle")["MdR"] is None
    assert metrics.retrieval(rank, ties, gallery=9, ks=(), several=True)["MdR"] == 3.0


def test_the_table_says_how_many_queries_and_candidates_there_were():
    table = metrics.retrieval(np.array([1.0, 2]), np.zeros(2, np.int64), gallery=50, ks=(1, 50))
    assert list(table) == ["R@1", "R@50", "MdR", "MnR", "MRR", "queries", "gallery"]
    assert (table["queries"], table["gallery"]) == (2, 50)


@pytest.mark.parametrize(
    ("rank", "ties", "words"),
    [
        ([0.5], [0], "ranks from 1"),
        ([NAN], [0], "ranks from 1"),
        ([1.0], [-1], "ties from 0"),
        ([1.0, 2.0], [0], "expected \\[queries\\] twice"),
        ([], [], "no queries"),
    ],
)
def test_what_is_no_ranking_is_refused(rank, ties, words):
    with pytest.raises(ValueError, match=words):
        metrics.retrieval(np.array(rank), np.array(ties, np.int64), gallery=9, ks=(1,))


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="expected reference or middle"):
        metrics.retrieval(np.ones(1), np.zeros(1, np.int64), gallery=1, ks=(), rule="best")


def test_ranks_have_their_ties_in_the_middle():
    scores, relevant = draw(9, 3)
    expected = [np.mean(places(row, own)) for row, own in zip(scores, relevant, strict=True)]
    assert metrics.ranks(scores, relevant).tolist() == expected
