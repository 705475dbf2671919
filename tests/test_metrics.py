"""Retrieval metrics against a count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vidembed import metrics


def counted_rank(scores: list[float], own: int) -> float:
    """The mean place of `own` over all orders of the items that score the same."""
    ordered = sorted(scores, reverse=True)
    places = [i + 1 for i, score in enumerate(ordered) if score == scores[own]]
    return sum(places) / len(places)


@pytest.mark.parametrize("seed", range(5))
def test_ranks_are_those_of_a_sort_with_ties_in_the_middle(seed):
    draw = np.random.default_rng(seed)
    scores = draw.integers(0, 6, (40, 25)).astype(np.float32)
    relevant = draw.integers(0, 25, 40)
    expected = [counted_rank(row.tolist(), own) for row, own in zip(scores, relevant, strict=True)]
    assert metrics.ranks(scores, relevant).tolist() == expected


def test_a_constant_score_is_not_a_perfect_one():
    found = metrics.ranks(np.zeros((3, 101), np.float32), np.array([0, 50, 100]))
    assert found.tolist() == [51.0] * 3


def test_the_best_and_the_worst_rank():
    scores = np.array([[3, 2, 1], [3, 2, 1]], np.float32)
    assert metrics.ranks(scores, np.array([0, 2])).tolist() == [1, 3]


def test_the_table_is_what_the_papers_call_by_these_names():
    table = metrics.retrieval(np.array([1, 2, 4, 11.0]), 50, (1, 5, 10))
    assert table == {
        "R@1": 0.25,
        "R@5": 0.75,
        "R@10": 0.75,
        "MdR": 3.0,
        "MnR": 4.5,
        "MRR": pytest.approx((1 + 1 / 2 + 1 / 4 + 1 / 11) / 4),
        "queries": 4,
        "gallery": 50,
    }


def test_intervals_hold_the_value_and_shrink_with_more_queries():
    draw = np.random.default_rng(0)
    few, many = draw.integers(1, 21, 50), draw.integers(1, 21, 2000)
    widths = []
    for found in (few, many):
        (low, high) = metrics.bootstrap(found.astype(float), (5,))["R@5"]
        assert low <= (found <= 5).mean() <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 3


def test_intervals_are_the_same_every_time():
    found = np.arange(1.0, 30)
    assert metrics.bootstrap(found, (1, 5)) == metrics.bootstrap(found, (1, 5))
