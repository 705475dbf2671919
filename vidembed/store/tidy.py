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
from vidembed.errors import ManifestError
from vidembed.hashing import hash_ids
from vidembed.store.done import contains, ordered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from vidembed.access import Access
    from vidembed.amounts import Limit
    from vidembed.store.run import Run

# Sources looked at in parallel.
_LOOKS = 32
ALL = "all"
_KINDS = ("embeddings", "failures")


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
    known = _known(manifest)
    return sum(run.keep(kind, known) for kind in _KINDS)


def check_prune(run: Run, manifest: Iterable[pa.Table], most: Limit) -> None:
    """Raise ManifestError where `prune` would take out more of the vectors and failures: half a
    manifest looks like a corpus that has lost the other half.
    """
    known = _known(manifest)
    rows = gone = 0
    for kind in _KINDS:
        for _, table in run.iterate(["video_id"], kind):
            rows += len(table)
            gone += len(table) - (pc.sum(known(table)).as_py() or 0)
    if most.exceeded(gone, rows):
        raise ManifestError(
            f"--prune would take {gone:,} of {rows:,} rows out of {run.uri}, and --max-prune "
            f"allows {most}: is the manifest whole? Nothing was taken out; if it is, a higher "
            f"--max-prune does it"
        )


def _known(manifest: Iterable[pa.Table]) -> Callable[[pa.Table], Any]:
    """Which rows of a part are of the manifest's videos."""
    there = ordered([hash_ids(table["video_id"]) for table in manifest])
    return lambda table: pa.array(contains(there, hash_ids(table["video_id"])), pa.bool_())


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
