"""What is taken out of a run before a job begins: failures to be tried again, and videos that the
manifest does not have any more.

The job holds the run while this happens. A kill on the way leaves a run from which less has been
taken out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from vidembed.hashing import hash_ids
from vidembed.store.done import contains, ordered

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vidembed.store.run import Run

ALL = "all"


def forget_failures(run: Run, kinds: Iterable[str]) -> int:
    """Take out the failed videos of these classes (`all`: of all), so that they are pending again;
    returns how many those are.
    """
    names = pa.array(sorted(set(kinds)), pa.string())
    if ALL in names.to_pylist():
        return run.keep("failures", lambda table: pa.array([False] * len(table), pa.bool_()))
    return run.keep("failures", lambda table: pc.invert(pc.is_in(table["error"], names)))


def prune(run: Run, manifest: Iterable[pa.Table]) -> int:
    """Take out the videos that are in none of these tables; returns how many vectors and failures
    those were. Memory is 16 bytes a row of the manifest.
    """
    there = ordered([hash_ids(table["video_id"]) for table in manifest])

    def known(table: pa.Table) -> Any:
        return pa.array(contains(there, hash_ids(table["video_id"])))

    return run.keep("embeddings", known) + run.keep("failures", known)
