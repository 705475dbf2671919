"""Vectors in memory-bounded blocks: the nearest rows of a run, exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vidembed import schema

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidembed.store.run import Run


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


def nearest(run: Run, query: NDArray[np.float32], top: int) -> list[dict[str, Any]]:
    """The `top` rows of a run nearest to one vector [dim], best first: all columns and `score`.

    Reads one part at a time: memory is that of the largest part.
    """
    best: list[tuple[float, str, int]] = []
    for part, table in run.iterate(["embedding"]):
        if not len(table):
            continue
        scores = similarity(query[None], matrix(table["embedding"]), run.record["metric"])[0]
        keep = np.argpartition(-scores, min(top, len(scores)) - 1)[:top]
        best += [(float(scores[i]), part, int(i)) for i in keep]
        best = sorted(best, key=lambda hit: -hit[0])[:top]
    return [_row(run, part, index, score) for score, part, index in best]


def _row(run: Run, part: str, index: int, score: float) -> dict[str, Any]:
    table = run.read_part(part)
    names = [n for n in table.column_names if n != "embedding"]
    row: dict[str, Any] = table.select(names).slice(index, 1).to_pylist()[0]
    return {**row, "score": score}


def metadata(row: dict[str, Any]) -> dict[str, Any]:
    """What of a row came from the manifest."""
    return {k: v for k, v in row.items() if k not in schema.RESERVED and k != "score"}
