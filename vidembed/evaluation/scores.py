"""Scores of queries and candidates: many at once in single precision, few again in double.

A product of matrices in float32 gives the same two vectors another last bit in another block, in
another library or on another device. So it only sifts: it says for which pairs the answer is
certain, and the others are computed again, each pair by itself, in float64 (`exact`). What comes
of it depends on the two vectors alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidembed.evaluation.gallery import Side

# Of float32: half the distance from 1 to the next number.
_UNIT = 2.0**-24
_TINY = 1e-30
# Vectors that are compared in float64 at once; what fits a core's cache.
_PAIR_NUMBERS = 1 << 17
_ROW_PAIRS = 1 << 20


def exact(
    queries: Side,
    gallery: Side,
    query: NDArray[np.int64],
    item: NDArray[np.int64],
    metric: str,
) -> NDArray[np.float64]:
    """Scores float64 [pairs] of queries with items of a gallery, each given by its position.

    The dot product, or minus the squared distance for L2; of several vectors the highest. Equal
    vectors have equal scores, wherever they stand.
    """
    if queries.is_single and gallery.is_single:
        return _row_scores(queries.vectors, gallery.vectors, query, item, metric)
    each = np.diff(queries.starts)[query] * np.diff(gallery.starts)[item]
    found = np.empty(len(query))
    starts = np.concatenate([[0], np.cumsum(each)])
    a = 0
    while a < len(query):
        b = max(a + 1, int(np.searchsorted(starts, starts[a] + _ROW_PAIRS, side="right")) - 1)
        rows, columns = _expanded(queries.starts, gallery.starts, query[a:b], item[a:b])
        values = _row_scores(queries.vectors, gallery.vectors, rows, columns, metric)
        found[a:b] = np.maximum.reduceat(values, starts[a:b] - starts[a])
        a = b
    return found


def _expanded(
    of_query: NDArray[np.int64],
    of_item: NDArray[np.int64],
    query: NDArray[np.int64],
    item: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every row of each query with every row of its item."""
    width = np.diff(of_item)[item]
    each = np.diff(of_query)[query] * width
    within = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
    width = np.repeat(width, each)
    rows = np.repeat(of_query[query], each) + within // width
    columns = np.repeat(of_item[item], each) + within % width
    return rows, columns


def _row_scores(
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    metric: str,
) -> NDArray[np.float64]:
    found = np.empty(len(row))
    step = max(1, _PAIR_NUMBERS // queries.shape[1])
    for a in range(0, len(row), step):
        one = queries[row[a : a + step]].astype(np.float64)
        other = vectors[column[a : a + step]]
        if metric == "L2":
            one -= other
            found[a : a + step] = -np.square(one, out=one).sum(axis=1)
        else:
            one *= other
            # Not einsum, and no cast inside the sum: both cut rows at the ends of their buffers.
            found[a : a + step] = one.sum(axis=1)
    return found


def lengths(side: Side) -> NDArray[np.float64]:
    """The length of each item's longest vector: float64 [items]."""
    if not side.items:
        return np.zeros(0)
    rows = np.sqrt(np.einsum("ij,ij->i", side.vectors, side.vectors).astype(np.float64))
    found: NDArray[np.float64] = np.maximum.reduceat(rows, side.starts[:-1])
    return found


def margins(
    queries: NDArray[np.float64], gallery: NDArray[np.float64], dim: int, metric: str
) -> NDArray[np.float64]:
    """How far a score in float32 may be from the exact one, for each query: float64 [queries].

    From the `lengths` of the queries, and of the gallery. n products summed in any order are off by
    at most n u times the sum of their sizes, u = 2**-24 (Higham, Accuracy and Stability of
    Numerical Algorithms, 2002, §3.1), and that sum is at most the product of the two lengths.
    """
    longest = float(gallery.max(initial=0.0))
    share = 1.1 * (dim + 8) * _UNIT
    if metric == "L2":
        return share * (queries + longest) ** 2 + _TINY
    return share * queries * longest + _TINY


def plain(queries: Side, gallery: Side, metric: str) -> NDArray[np.float32]:
    """Scores float32 [queries, items] by a product of matrices: `exact` but for the `margins`."""
    rows, columns = queries.vectors, gallery.vectors
    found: NDArray[np.float32] = rows @ columns.T
    if metric == "L2":
        found *= 2
        found -= np.einsum("ij,ij->i", rows, rows)[:, None]
        found -= np.einsum("ij,ij->i", columns, columns)
    if not gallery.is_single:
        found = np.maximum.reduceat(found, gallery.starts[:-1], axis=1)
    if not queries.is_single:
        found = np.maximum.reduceat(found, queries.starts[:-1], axis=0)
    return found


def doubled(queries: NDArray[np.float64], gallery: Side) -> NDArray[np.float32]:
    """Dot products float32 [queries, items], of which only the rounding to float32 is seen."""
    found: NDArray[np.float64] = queries @ gallery.vectors.astype(np.float64).T
    if not gallery.is_single:
        found = np.maximum.reduceat(found, gallery.starts[:-1], axis=1)
    return found.astype(np.float32)
