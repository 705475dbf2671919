"""Post-processings of a matrix of scores that use more than one query: against hubs, the gallery
items that are near to everything.

Both are made for text to video, where the whole set of queries, or a bank of others, is known. They
say what a search with that knowledge would find, not what one query finds alone: report them beside
the plain numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TEMPERATURE = 0.01
BETA = 20.0

TEMPERATURES = {"COSINE": TEMPERATURE, "IP": 100 * TEMPERATURE}
"""For `dual_softmax`, by metric: inner products are taken for logits, as are 100 times cosines."""
BETAS = {"COSINE": BETA, "IP": BETA / 100}
"""For `QueryBank`, by metric: as `TEMPERATURES`."""


def dual_softmax(
    scores: NDArray[np.float32], temperature: float = TEMPERATURE
) -> NDArray[np.float64]:
    """Each score times its share of the softmax over all queries of the same gallery item.

    scores: float32 [queries, some gallery], higher is nearer: ALL queries, and any part of the
    gallery, as each column is normalised by itself. Returns float64 [queries, some gallery]: the
    product s * softmax(s / temperature) over axis 0. In float32 small shares would be 0, and tie.

    Cheng et al., Improving Video-Text Retrieval by Multi-Stream Corpus Alignment and Dual Softmax
    Loss (CAMoE), arXiv 2109.04290, as code that builds on CLIP4Clip has it at inference: of CLIP's
    logits, 100 times the cosine, with a temperature of 1. Of cosines, that is 0.01; of inner
    products that are logits themselves, 1. Not for L2: of scores that are all negative the product
    turns the order round.
    """
    if temperature <= 0:
        raise ValueError(f"temperature {temperature}: expected more than 0")
    exact = scores.astype(np.float64)
    shares = exact / temperature
    shares -= shares.max(axis=0, keepdims=True)
    np.exp(shares, out=shares)
    shares /= shares.sum(axis=0, keepdims=True)
    shares *= exact
    return shares


@dataclass(frozen=True, slots=True, kw_only=True)
class BankBlock:
    """What `QueryBank` learns from one block of scores of bank queries.

    first_query, first_item: where the block begins. log_sum: float64 [some gallery], the logarithm
    of the sum over the block's queries of exp(beta * score). best: float32 [some bank queries], the
    highest score of each in the block. item: int64 [some bank queries], whose it is, as a position
    in the gallery; of equal ones the first.
    """

    first_query: int
    first_item: int
    log_sum: NDArray[np.float64]
    best: NDArray[np.float32]
    item: NDArray[np.int64]


def bank_block(
    scores: NDArray[np.float32], *, first_query: int = 0, first_item: int = 0, beta: float = BETA
) -> BankBlock:
    """Reduce scores of bank queries, float32 [some bank queries, some gallery], higher is nearer.

    Blocks may be reduced anywhere, in any order; `QueryBank.add` takes them together.
    """
    item = scores.argmax(axis=1)
    return BankBlock(
        first_query=first_query,
        first_item=first_item,
        log_sum=_log_sum(scores, beta),
        best=scores[np.arange(len(scores)), item],
        item=item + first_item,
    )


def _log_sum(scores: NDArray[np.float32], beta: float) -> NDArray[np.float64]:
    exact = scores * np.float64(beta)
    top = exact.max(axis=0)
    exact -= top
    np.exp(exact, out=exact)
    found: NDArray[np.float64] = np.log(exact.sum(axis=0)) + top
    return found


class QueryBank:
    """What QB-Norm's dynamic inverted softmax must know of a bank of other queries.

    Bogolin et al., Cross Modal Retrieval with Querybank Normalisation, arXiv 2112.12777, as the
    authors' code has it with k = 1: of each gallery item the sum over the bank of
    exp(beta * score), and whether it is the nearest of some bank query. Memory: 8 bytes an item,
    12 a bank query.

        bank = QueryBank(queries=len(others), gallery=len(videos))
        for each block of others x videos:
            bank.add(bank_block(scores, first_query=…, first_item=…))
        applies = bank.applies(nearest)               # of the plain ranking, [queries]
        for each block of queries x videos:
            better = qb_norm(scores, bank.offset[first_item:last_item], applies)
    """

    def __init__(self, *, queries: int, gallery: int, beta: float = BETA) -> None:
        if beta <= 0:
            raise ValueError(f"beta {beta}: expected more than 0")
        if queries < 1:
            raise ValueError("a query bank needs at least one query")
        self.beta = beta
        self._log_sum = np.full(gallery, -np.inf)
        self._best = np.full(queries, -np.inf, np.float32)
        self._item = np.full(queries, -1, np.int64)

    def add(self, block: BankBlock) -> None:
        """Take in a block that `bank_block` reduced with the same beta; each exactly once."""
        items = slice(block.first_item, block.first_item + len(block.log_sum))
        self._log_sum[items] = np.logaddexp(self._log_sum[items], block.log_sum)
        rows = slice(block.first_query, block.first_query + len(block.best))
        best, item = self._best[rows], self._item[rows]
        # Of equal scores the first item, whatever the order in which blocks come.
        nearer = (block.best > best) | ((block.best == best) & (block.item < item))
        best[nearer], item[nearer] = block.best[nearer], block.item[nearer]

    @property
    def offset(self) -> NDArray[np.float64]:
        """float64 [gallery]: what `qb_norm` takes from the scores of each item."""
        if np.isneginf(self._log_sum).any() or (self._item < 0).any():
            raise ValueError("some blocks of the query bank were not added")
        found: NDArray[np.float64] = self._log_sum / self.beta
        return found

    def applies(self, nearest: NDArray[np.int64]) -> NDArray[np.bool_]:
        """bool [queries]: which queries are normalised.

        nearest: int64 [queries], the position of each query's nearest item before normalisation.
        Only a query whose nearest item is also the nearest of some bank query is normalised.
        """
        return np.isin(nearest, self._item)


def qb_norm(
    scores: NDArray[np.float32], offset: NDArray[np.float64], applies: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Scores float32 [queries, some gallery] by QB-Norm's dynamic inverted softmax.

    offset: float64 [some gallery], these items' part of `QueryBank.offset`; applies: bool
    [queries], from `QueryBank.applies`. The rows that it names get s - log(sum over the bank of
    exp(beta * s)) / beta, which is the paper's exp(beta * s) / sum in the same order and without
    overflow. The others stay. Compare scores within a row only.
    """
    found: NDArray[np.float32] = np.where(
        applies[:, None], (scores - offset[None, :]).astype(np.float32), scores
    )
    return found
