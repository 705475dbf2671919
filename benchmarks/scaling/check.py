"""Whether every video of the manifest is in the run, once: by pyarrow alone, not by vidembed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.scaling.stages import DIM, FAILING, vectors_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def check(run: Path, videos: int) -> dict[str, Any]:
    """Counts of what is there. wrong: vectors that are not their video's, of each part's first
    rows.
    """
    embedded = np.zeros(videos, np.uint8)
    failed = np.zeros(videos, np.uint8)
    wrong = parts = size = 0
    for kind, into in (("embeddings", embedded), ("failures", failed)):
        for part in sorted((run / kind).glob("*.parquet")):
            parts += 1
            size += part.stat().st_size
            np.add.at(into, _numbers(pq.read_table(part, columns=["video_id"])["video_id"]), 1)
            if kind == "embeddings":
                wrong += _wrong(part)
    every = embedded.astype(np.int64) + failed
    should_fail = np.arange(videos) % FAILING == 0
    return {
        "videos": videos,
        "embedded": int((embedded > 0).sum()),
        "failed": int((failed > 0).sum()),
        "missing": int((every == 0).sum()),
        "doubled": int((every > 1).sum()),
        "in the wrong place": int(((failed > 0) != should_fail).sum()),
        "wrong vectors": wrong,
        "parts": parts,
        "bytes": size,
    }


def in_order(found: dict[str, Any]) -> bool:
    return not any(
        found[name] for name in ("missing", "doubled", "in the wrong place", "wrong vectors")
    )


def _numbers(ids: Any) -> NDArray[np.int64]:
    numbers: NDArray[np.int64] = pc.utf8_slice_codeunits(ids, -12).cast("int64").to_numpy()
    return numbers


def _wrong(part: Path) -> int:
    table = pq.ParquetFile(part).read_row_group(0, columns=["video_id", "embedding"]).slice(0, 64)
    found = table["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, DIM)
    expected = vectors_of(_numbers(table["video_id"]))
    return int((np.abs(found - expected).max(axis=1) > 1e-5).sum())
