"""Vectors as matrices, and how they compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def similarity(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], metric: str
) -> NDArray[np.float32]:
    """Scores [queries, vectors], higher is nearer: dot product, or minus the squared distance."""
    dots: NDArray[np.float32] = queries @ vectors.T
    if metric != "L2":
        return dots
    found: NDArray[np.float32] = (
        2 * dots - (queries**2).sum(axis=1)[:, None] - (vectors**2).sum(axis=1)[None, :]
    )
    return found


def matrix(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """An embedding column as float32 [rows, dim]."""
    rows = pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)
    values: NDArray[np.float32] = rows.flatten().to_numpy()
    return values.reshape(len(rows), -1)
