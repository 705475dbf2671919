"""Post-processings block by block are those of the whole matrix, as their authors write them."""

from __future__ import annotations

import numpy as np
import pytest

from vidembed import metrics


def cosines(seed: int, rows: int, columns: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (rows, columns)).astype(np.float32)


def order(scores: np.ndarray) -> list[list[int]]:
    return np.argsort(-scores, axis=1, kind="stable").tolist()


def dual_softmax_by_hand(scores: np.ndarray, temperature: float) -> np.ndarray:
    weights = np.exp(scores.astype(np.longdouble) / temperature)
    return scores * weights / weights.sum(axis=0)


@pytest.mark.parametrize("temperature", [0.01, 1.0])
def test_dual_softmax_is_the_product_with_the_softmax_over_queries(temperature):
    scores = cosines(0, 30, 50)
    found = metrics.dual_softmax(scores, temperature)
    assert found == pytest.approx(dual_softmax_by_hand(scores, temperature), rel=1e-9)


def test_dual_softmax_of_blocks_of_the_gallery_is_that_of_all():
    scores = cosines(1, 30, 50)
    whole = metrics.dual_softmax(scores)
    blocks = [metrics.dual_softmax(scores[:, at : at + 7]) for at in range(0, 50, 7)]
    assert np.concatenate(blocks, axis=1).tolist() == whole.tolist()


def test_dual_softmax_leaves_no_ties_where_there_were_none():
    # The smallest share is e^-200, which float32 does not have.
    scores = cosines(2, 40, 200)
    found = metrics.dual_softmax(scores)
    assert np.isfinite(found).all()
    assert all(len(np.unique(row)) == 200 for row in found)


def test_dual_softmax_takes_a_hub_down():
    # The last video is near to every text; the texts' own are a little less near.
    scores = np.array([[0.30, 0.1, 0.1, 0.31], [0.1, 0.30, 0.1, 0.31], [0.1, 0.1, 0.30, 0.31]])
    assert scores.argmax(axis=1).tolist() == [3, 3, 3]
    assert metrics.dual_softmax(scores.astype(np.float32)).argmax(axis=1).tolist() == [0, 1, 2]


def qb_norm_by_hand(bank: np.ndarray, scores: np.ndarray, beta: float) -> np.ndarray:
    """As the authors' code: rows whose first item is the first of some bank query."""
    bank, exact = bank.astype(np.longdouble), scores.astype(np.longdouble)
    activated = set(bank.argmax(axis=1).tolist())
    rows = [i for i, row in enumerate(exact) if int(row.argmax()) in activated]
    exact[rows] = np.exp(beta * exact[rows]) / np.exp(beta * bank).sum(axis=0)
    return exact


def bank_in_blocks(scores: np.ndarray, rows: int, columns: int, beta: float, seed: int):
    """A bank that was given the blocks in any order."""
    bank = metrics.QueryBank(queries=scores.shape[0], gallery=scores.shape[1], beta=beta)
    starts = [(q, g) for q in range(0, scores.shape[0], rows)
              for g in range(0, scores.shape[1], columns)]  # fmt: skip
    for q, g in np.random.default_rng(seed).permutation(starts).tolist():
        block = scores[q : q + rows, g : g + columns]
        bank.add(metrics.bank_block(block, first_query=q, first_item=g, beta=beta))
    return bank


@pytest.mark.parametrize("beta", [1.0, 20.0, 500.0])
@pytest.mark.parametrize(("rows", "columns"), [(60, 40), (7, 9), (1, 40), (60, 1)])
def test_qb_norm_ranks_as_its_authors_do_however_it_is_cut(beta, rows, columns):
    other, scores = cosines(3, 60, 40), cosines(4, 25, 40)
    bank = bank_in_blocks(other, rows, columns, beta, seed=5)
    applies = bank.applies(scores.argmax(axis=1))
    assert 0 < applies.sum() < 25, "some rows are normalised, some are not"
    blocks = [
        metrics.qb_norm(scores[:, at : at + 11], bank.offset[at : at + 11], applies)
        for at in range(0, 40, 11)
    ]
    found = np.concatenate(blocks, axis=1)
    assert found.dtype == np.float32
    assert order(found) == order(qb_norm_by_hand(other, scores, beta))
    assert found[~applies].tolist() == scores[~applies].tolist()


def test_a_tie_in_the_bank_activates_the_first_item_however_it_is_cut():
    other = np.array([[0.5, 0.9, 0.9, 0.9]], np.float32)
    for columns in (4, 2, 1):
        for seed in range(8):
            bank = bank_in_blocks(other, 1, columns, 20.0, seed=seed)
            assert bank.applies(np.arange(4)).tolist() == [False, True, False, False]


def test_scores_whose_exponential_is_beyond_float64_are_normalised_all_the_same():
    # Inner products, not cosines: e^(20 * 300) is no number.
    other, scores = 300 * cosines(6, 30, 20), 300 * cosines(7, 10, 20)
    bank = bank_in_blocks(other, 8, 6, 20.0, seed=1)
    found = metrics.qb_norm(scores, bank.offset, bank.applies(scores.argmax(axis=1)))
    assert np.isfinite(found).all()


def test_a_bank_that_did_not_get_all_its_blocks_says_so():
    bank = metrics.QueryBank(queries=2, gallery=4)
    bank.add(metrics.bank_block(cosines(0, 2, 3)))
    with pytest.raises(ValueError, match="some blocks of the query bank were not added"):
        _ = bank.offset


def test_settings_without_a_meaning_are_refused():
    with pytest.raises(ValueError, match="temperature 0: expected more than 0"):
        metrics.dual_softmax(cosines(0, 2, 2), 0)
    with pytest.raises(ValueError, match="beta 0: expected more than 0"):
        metrics.QueryBank(queries=1, gallery=1, beta=0)
    with pytest.raises(ValueError, match="at least one query"):
        metrics.QueryBank(queries=0, gallery=1)
