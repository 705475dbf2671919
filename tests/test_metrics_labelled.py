"""Metrics of queries with many answers, against lists by hand and against torchmetrics."""

from __future__ import annotations

from math import log2

import numpy as np
import pytest
from torch import tensor
from torchmetrics.functional import retrieval as theirs

from vidembed import metrics

KS = (1, 5, 10, 30)
GALLERY = 30


def draw(seed: int, levels: int | None):
    """Scores [20, 30], and which of the gallery are answers: one at least of each query."""
    rng = np.random.default_rng(seed)
    shape = (20, GALLERY)
    scores = rng.standard_normal(shape) if levels is None else rng.integers(0, levels, shape)
    relevant = rng.random(shape) < 0.2
    relevant[:, 7] |= ~relevant.any(axis=1)
    return scores.astype(np.float32), relevant


def found_by(scores, relevant, width: int = GALLERY) -> metrics.Labelled:
    order = np.argsort(-scores, axis=1, kind="stable")[:, :width]
    best = np.where(relevant, scores, -np.inf).max(axis=1)[:, None]
    return metrics.Labelled(
        hits=np.take_along_axis(relevant, order, axis=1),
        relevant=relevant.sum(axis=1),
        rank=1.0 + (scores > best).sum(axis=1),
        ties=((scores == best) & ~relevant).sum(axis=1),
        gallery=GALLERY,
    )


def by_lists(scores, relevant, ks=KS) -> dict[str, float]:
    """Query by query, place by place."""
    sums: dict[str, list[float]] = {}
    for row, answers in zip(scores, relevant, strict=True):
        places = sorted(range(GALLERY), key=lambda item: (-row[item], item))
        hits = [bool(answers[item]) for item in places]
        many = int(answers.sum())
        one = {"MRR": 1 / (hits.index(True) + 1)}
        for k in ks:
            precision = [sum(hits[: i + 1]) / (i + 1) for i in range(k)]
            ideal = sum(1 / log2(i + 2) for i in range(min(k, many)))
            one |= {
                f"mHR@{k}": sum(hits[:k]) / many,
                f"mAP@{k}": sum(precision) / k,
                f"mAP_cut@{k}": sum(p for p, h in zip(precision, hits, strict=False) if h) / many,
                f"nDCG@{k}": sum(1 / log2(i + 2) for i in range(k) if hits[i]) / ideal,
                f"R@{k}": float(any(hits[:k])),
            }
        for name, value in one.items():
            sums.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in sums.items()}


@pytest.mark.parametrize("levels", [None, 1, 3], ids=["random", "all the same", "three levels"])
@pytest.mark.parametrize("seed", range(3))
def test_every_metric_is_that_of_a_count_by_hand(seed, levels):
    scores, relevant = draw(seed, levels)
    table = metrics.labelled(found_by(scores, relevant), KS)
    expected = by_lists(scores, relevant)
    assert {name: table[name] for name in expected} == pytest.approx(expected, rel=1e-12)
    assert (table["queries"], table["gallery"]) == (20, GALLERY)


@pytest.mark.parametrize("levels", [None, 3], ids=["random", "tied"])
def test_recall_ndcg_hit_rate_and_reciprocal_rank_are_those_of_torchmetrics(levels):
    scores, relevant = draw(5, levels)
    table = metrics.labelled(found_by(scores, relevant), KS)
    # torchmetrics shares what ties gain among them; here the first in the gallery comes first.
    order = np.argsort(-scores, axis=1, kind="stable")
    place = np.argsort(order, axis=1, kind="stable")
    # Above 0, as to torchmetrics the others are not retrieved at all.
    above = (GALLERY - place).astype(np.float32)
    pairs = [(tensor(p), tensor(r)) for p, r in zip(above, relevant, strict=True)]
    names = {"mHR": theirs.retrieval_recall, "nDCG": theirs.retrieval_normalized_dcg,
             "R": theirs.retrieval_hit_rate}  # fmt: skip
    expected = {
        f"{name}@{k}": np.mean([float(function(p, r, top_k=k)) for p, r in pairs])
        for name, function in names.items()
        for k in KS
    }
    expected["MRR"] = np.mean([float(theirs.retrieval_reciprocal_rank(p, r)) for p, r in pairs])
    # Of the whole gallery: before, torchmetrics divides by the hits and not by the answers.
    whole = [float(theirs.retrieval_average_precision(p, r)) for p, r in pairs]
    expected[f"mAP_cut@{GALLERY}"] = np.mean(whole)
    assert {name: table[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_the_tutorial_s_average_precision_is_over_all_places_and_not_over_hits():
    hits = np.array([[True, False, True, False]])
    found = metrics.Labelled(
        hits=hits, relevant=np.array([4]), rank=np.ones(1), ties=np.zeros(1, np.int64), gallery=4
    )
    # Precision at the four places: 1, 1/2, 2/3, 2/4.
    assert metrics.average_precision(found, 4) == pytest.approx([(1 + 1 / 2 + 2 / 3 + 1 / 2) / 4])
    assert metrics.average_precision_cut(found, 4) == pytest.approx([(1 + 2 / 3) / 4])
    assert metrics.hit_ratio(found, 4) == [0.5]


def test_a_gallery_smaller_than_k_is_looked_at_whole():
    scores, relevant = draw(2, None)
    found = found_by(scores, relevant)
    assert metrics.average_precision(found, 99) == pytest.approx(
        metrics.average_precision(found, GALLERY)
    )
    assert metrics.hit_ratio(found, 99).tolist() == [1.0] * 20


def test_a_first_hit_behind_the_places_that_came_back_counts_by_its_rank():
    found = metrics.first_hit(
        np.array([[False, True], *[[False, False]] * 4]),
        np.array([2.0, 3.0, 9.0, np.inf, 1.0]),
        np.array([0, 0, 3, 0, 2]),
    )
    # The last one is behind two others of its score: where the places end, at best.
    assert found.tolist() == [2.0, 3.0, 10.5, np.inf, 3.0]


def test_places_that_do_not_reach_to_k_are_refused():
    scores, relevant = draw(2, None)
    with pytest.raises(ValueError, match="hits of 5 places do not tell the first 10"):
        metrics.labelled(found_by(scores, relevant, width=5), (10,))


def test_queries_without_an_answer_are_the_caller_s_to_leave_out():
    with pytest.raises(ValueError, match="2 queries have no answer"):
        metrics.Labelled(
            hits=np.zeros((3, 4), np.bool_), relevant=np.array([0, 1, 0]), rank=np.ones(3),
            ties=np.zeros(3, np.int64), gallery=4,
        )  # fmt: skip


def test_more_hits_than_answers_are_refused():
    with pytest.raises(ValueError, match="more hits than answers"):
        metrics.Labelled(
            hits=np.ones((1, 4), np.bool_), relevant=np.array([3]), rank=np.ones(1),
            ties=np.zeros(1, np.int64), gallery=4,
        )  # fmt: skip
