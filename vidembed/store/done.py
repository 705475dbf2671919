"""What a run has finished, and what of a manifest is left to do.

A video is finished when it has failed, or when as many segments of it are committed as each of its
rows says that there are. Of a video that is half finished, only the missing segments are done.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidembed import schema
from vidembed.hashing import hash_ids

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from vidembed.store.run import Run

SKIP = pa.field("skip", pa.list_(pa.int32()))
"""Beside a manifest row: segments that a run has already; null where it has the whole video."""


@dataclass(frozen=True, slots=True)
class Done:
    """Finished videos as sorted 128-bit hashes (16 bytes each), and half-finished ones by id.

    doubled: videos that are there more than once, which must never be: a video of which some
    segments are embedded and which then failed is one of them, until `settled` has put it right.
    """

    hashes: NDArray[np.uint64]
    partial: dict[str, list[int]]
    embedded: int
    failed: int
    clips: int
    doubled: int

    def skips(self, videos: pa.ChunkedArray, hashes: NDArray[np.uint64] | None) -> pa.Array:
        """The column `skip` for these ids; their hashes may be left out where none is finished."""
        whole = np.zeros(len(videos), bool)
        if hashes is not None:
            whole = contains(self.hashes, hashes)
        if self.partial:
            ids = videos.to_pylist()
            skips = [
                None if w else self.partial.get(v, []) for v, w in zip(ids, whole, strict=True)
            ]
            return pa.array(skips, SKIP.type)
        nothing = pa.array(np.zeros(len(videos) + 1, np.int32))
        return pa.ListArray.from_arrays(nothing, pa.array([], pa.int32()), mask=pa.array(whole))


def contains(hashes: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of `wanted` are among `hashes`, sorted; both uint64 [n, 2]."""
    found = np.zeros(len(wanted), bool)
    if not len(hashes):
        return found
    low = np.searchsorted(hashes[:, 0], wanted[:, 0], side="left")
    # Runs of equal first halves are as good as always one long; the second half decides.
    for step in range(4):
        at = np.minimum(low + step, len(hashes) - 1)
        found |= (hashes[at] == wanted).all(axis=1)
    return found


def ordered(hashes: list[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """These hashes in one array, sorted as `contains` wants it."""
    every = np.concatenate([np.empty((0, 2), np.uint64), *hashes])
    found: NDArray[np.uint64] = every[np.lexsort((every[:, 1], every[:, 0]))]
    return found


def remaining(rows: pa.Table, done: Mapping[str, Done]) -> pa.Table:
    """The manifest rows that some run lacks, with a column `skip` for each label."""
    videos = rows["video_id"]
    hashes = hash_ids(videos) if any(len(each.hashes) for each in done.values()) else None
    lacking = []
    for label, each in done.items():
        skips = each.skips(videos, hashes)
        rows = rows.append_column(SKIP.with_name(schema.own("skip", label)), skips)
        lacking.append(skips.is_valid())
    return rows.filter(reduce(pc.or_, lacking))


def survey(run: Run) -> Done:
    """Read the ids of every committed row; nothing else of the parts is read."""
    hashes: list[NDArray[np.uint64]] = []
    cut: list[pa.Table] = []
    embedded = clips = 0
    for _, table in run.iterate(["video_id", "segment", "segments"]):
        clips += len(table)
        whole = pc.less_equal(table["segments"], 1)
        single = table.filter(whole)
        embedded += len(single)
        hashes.append(hash_ids(single["video_id"]))
        cut.append(table.filter(pc.invert(whole)))
    finished, partial, doubled = _by_video(cut)
    embedded += len(finished)
    hashes.append(hash_ids(pa.chunked_array([pa.array(finished, pa.string())])))
    failed = 0
    for _, table in run.iterate(["video_id"], "failures"):
        failed += len(table)
        hashes.append(hash_ids(table["video_id"]))
        doubled += sum(v in partial for v in table["video_id"].to_pylist())
    every = ordered(hashes)
    doubled += int((every[1:] == every[:-1]).all(axis=1).sum())
    return Done(every, partial, embedded, failed, clips, doubled)


def settled(run: Run) -> Done:
    """The survey of a run in which each video is in one place.

    Where some segments of a video are embedded and the video failed later, it has failed: its
    vectors are removed. Where a worker has outlived its driver and has committed in the very moment
    in which the next attempt took over, its rows are there twice: one of each is removed. A kill on
    the way loses the rows of one part, which the next run redoes.
    """
    done = survey(run)
    if not done.doubled:
        return done
    failed: set[str] = set()
    for part, table in run.iterate(None, "failures"):
        ids = table["video_id"].to_pylist()
        kept = [v not in failed for v in ids]
        failed.update(ids)
        run.rewrite(part, table, table.filter(pa.array(kept, pa.bool_())))
    names = pa.array(sorted(failed), pa.string())
    twice = _twice(run)
    seen = np.empty((0, 2), np.uint64)
    for part, table in run.iterate(["id", "video_id"]):
        hashes = hash_ids(table["id"])
        there_twice = contains(twice, hashes)
        dropped = there_twice & contains(seen, hashes)
        kept = pc.invert(pc.or_(pc.is_in(table["video_id"], names), pa.array(dropped)))
        if not pc.all(kept).as_py():
            rows = run.read_part(part)
            run.rewrite(part, rows, rows.filter(kept))
        seen = ordered([seen, hashes[there_twice]])
    return survey(run)


def _twice(run: Run) -> NDArray[np.uint64]:
    """The hashes of the rows that are in more than one part."""
    every = ordered([hash_ids(table["id"]) for _, table in run.iterate(["id"])])
    found: NDArray[np.uint64] = every[1:][(every[1:] == every[:-1]).all(axis=1)]
    return found


def _by_video(tables: list[pa.Table]) -> tuple[list[str], dict[str, list[int]], int]:
    """Of videos in segments: those that are whole, those that are not, how many rows too many."""
    rows = pa.concat_tables(tables) if tables else pa.table({"video_id": pa.array([], pa.string())})
    if not len(rows):
        return [], {}, 0
    grouped = rows.group_by("video_id").aggregate(
        [("segment", "count_distinct"), ("segments", "max")]
    )
    doubled = len(rows) - int(pc.sum(grouped["segment_count_distinct"]).as_py())
    whole = pc.equal(grouped["segment_count_distinct"], grouped["segments_max"].cast(pa.int64()))
    finished = grouped.filter(whole)["video_id"].to_pylist()
    half = grouped.filter(pc.invert(whole))["video_id"]
    partial: dict[str, list[int]] = {v: [] for v in half.to_pylist()}
    some: Any = rows.filter(pc.is_in(rows["video_id"], half.combine_chunks()))
    for video, segment in zip(
        some["video_id"].to_pylist(), some["segment"].to_pylist(), strict=True
    ):
        partial[video].append(segment)
    return finished, partial, doubled
