"""What is taken out of a run before a job begins: failures to be tried again, videos that the
manifest does not have any more, and videos whose source has changed.

The job holds the run while this happens. A kill on the way leaves a run from which less has been
taken out.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidembed import sources
from vidembed.hashing import hash_ids
from vidembed.store.done import contains, ordered

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from vidembed.access import Access
    from vidembed.store.run import Run

# Sources looked at in parallel.
_LOOKS = 32
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


@dataclass(frozen=True, slots=True)
class Changed:
    """changed: rows taken out; unknown: embedded videos of which it cannot be told, because their
    source was not noted, tells nothing, or cannot be reached.
    """

    changed: int
    unknown: int


def take_out_changed(run: Run, manifest: Iterable[pa.Table], access: Access) -> Changed:
    """Take out the rows whose source is another now than when they were embedded. Of each embedded
    video of these tables the source is looked at; what is in none of them stays.

    Memory is 48 bytes a row of the run.
    """
    columns = ["video_id", "source_state"]
    embedded, noted = [], []
    for _, table in run.iterate(columns):
        hashes = hash_ids(table["video_id"])
        embedded.append(hashes)
        noted.append(hashes[_has_state(table)])
    every, known = ordered(embedded), ordered(noted)
    looked: list[NDArray[np.uint64]] = []
    now: list[NDArray[np.uint64]] = []
    unknown = 0
    with ThreadPoolExecutor(_LOOKS) as pool:
        for table in manifest:
            rows = table.select(["video_id", "uri"])
            hashes = hash_ids(rows["video_id"])
            there = contains(known, hashes)
            unknown += int((contains(every, hashes) & ~there).sum())
            some = rows.filter(pa.array(there))
            states = pool.map(lambda uri: sources.state(uri, access), some["uri"].to_pylist())
            found = pa.chunked_array([pa.array(list(states), pa.string())])
            told = pc.is_valid(found)
            unknown += len(found) - int(pc.sum(told).as_py() or 0)
            ids, found = some["video_id"].filter(told), found.filter(told)
            looked.append(hash_ids(ids))
            now.append(_with_state(ids, found))
    return Changed(_drop_changed(run, ordered(looked), ordered(now)), unknown)


def _drop_changed(run: Run, looked: NDArray[np.uint64], now: NDArray[np.uint64]) -> int:
    dropped = 0
    for part in run.parts():
        table = run.read_part(part, ["video_id", "source_state"])
        stays = ~(contains(looked, hash_ids(table["video_id"])) & _has_state(table))
        if not stays.all():
            stays |= contains(now, _with_state(table["video_id"], table["source_state"]))
        if not stays.all():
            rows = run.read_part(part)
            run.rewrite(part, rows, rows.filter(pa.array(stays)))
            dropped += int((~stays).sum())
    return dropped


def _has_state(table: pa.Table) -> NDArray[np.bool_]:
    if "source_state" not in table.column_names:
        return np.zeros(len(table), bool)
    has: NDArray[np.bool_] = table["source_state"].is_valid().to_numpy()
    return has


def _with_state(ids: pa.ChunkedArray, states: pa.ChunkedArray) -> NDArray[np.uint64]:
    """One number of a video and a state of its source."""
    together = pc.binary_join_element_wise(ids, pc.fill_null(states, ""), "\n")
    if not isinstance(together, pa.ChunkedArray):
        together = pa.chunked_array([together])
    return hash_ids(together)
