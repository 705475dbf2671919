"""What a run has finished, and what of a manifest is left to do.

A video is finished when it has failed, or when as many segments of it are committed as each of its
rows says that there are. Of a video that is half finished, only the missing segments are done.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidembed import schema
from vidembed.hashing import hash_ids, order_of, repeated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from vidembed.store.run import Run

SKIP = pa.field("skip", pa.list_(pa.int32()))
"""Beside a manifest row: segments that a run has already; null where it has the whole video."""

_READERS = 16
_APART = np.uint64(0x9E3779B97F4A7C15)


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
        lengths = np.zeros(len(videos), np.int32)
        segments: list[int] = []
        if self.partial:
            names = pa.array(self.partial, pa.string())
            for at in np.flatnonzero(pc.is_in(videos, names).to_numpy() & ~whole):
                there = self.partial[videos[int(at)].as_py()]
                lengths[at] = len(there)
                segments += there
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        return pa.ListArray.from_arrays(
            offsets, pa.array(segments, pa.int32()), mask=pa.array(whole)
        )


def contains(hashes: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of `wanted` are among `hashes`, as `ordered` has them; both uint64 [n, 2]."""
    if not len(hashes):
        return np.zeros(len(wanted), bool)
    # One after the other through the memory; at random, each would wait for it several times.
    order = np.argsort(wanted[:, 0])
    sought = wanted[order]
    low = np.searchsorted(hashes[:, 0], sought[:, 0], side="left")
    found = np.zeros(len(wanted), bool)
    # Runs of equal first halves are as good as always one long; the second half decides.
    for step in range(4):
        at = np.minimum(low + step, len(hashes) - 1)
        near = hashes[at, 0] == sought[:, 0]
        here = near & (hashes[at, 1] == sought[:, 1])
        found[order[here]] = True
        left = near & ~here
        if not left.any():
            break
        order, sought, low = order[left], sought[left], low[left]
    return found


def ordered(hashes: list[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """These hashes, which are taken out of the list, in one array, sorted, each half in one piece
    of memory.
    """
    every = np.concatenate([np.empty((0, 2), np.uint64), *hashes])
    # Of many they are most of the memory that this takes.
    hashes.clear()
    order = order_of(every)
    found = np.empty(every.shape, np.uint64, order="F")
    for half in (0, 1):
        found[:, half] = every[order, half]
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
    """Read the ids of every committed row; nothing else of the parts is read.

    Memory is some 60 bytes a row, and 16 a video when it returns.
    """
    hashes: list[NDArray[np.uint64]] = []
    cut = _Segments()
    embedded = clips = failed = 0
    for table in _read(run, ["video_id", "segment", "segments"], "embeddings"):
        clips += len(table)
        ids = hash_ids(table["video_id"])
        single = table["segments"].to_numpy() <= 1
        embedded += int(single.sum())
        hashes.append(ids[single])
        cut.add(ids, table, ~single)
    whole, half, doubled = cut.by_video()
    embedded += len(whole)
    hashes.append(whole)
    partial = _partial(run, half)
    for table in _read(run, ["video_id"], "failures"):
        failed += len(table)
        hashes.append(hash_ids(table["video_id"]))
        doubled += int(contains(half, hashes[-1]).sum())
    every = ordered(hashes)
    doubled += int(repeated(every).sum())
    return Done(every, partial, embedded, failed, clips, doubled)


def _read(run: Run, columns: list[str], kind: str) -> Iterator[pa.Table]:
    """The parts, some of them read ahead: one after the other, opening them would take longest."""
    with ThreadPoolExecutor(_READERS) as pool:
        ahead: deque[Future[pa.Table]] = deque()
        for part in run.parts(kind):
            ahead.append(pool.submit(run.read_part, part, columns))
            if len(ahead) > 2 * _READERS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _partial(run: Run, half: NDArray[np.uint64]) -> dict[str, list[int]]:
    """By id, which segments of these videos are there."""
    found: dict[str, list[int]] = {}
    if not len(half):
        return found
    for table in _read(run, ["video_id", "segment"], "embeddings"):
        some = table.filter(pa.array(contains(half, hash_ids(table["video_id"]))))
        for row in some.to_pylist():
            found.setdefault(row["video_id"], []).append(row["segment"])
    return found


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
    return every[1:][repeated(every)]


class _Segments:
    """The rows of videos that are cut: of each its video, which segment it is, of how many."""

    def __init__(self) -> None:
        self._videos: list[NDArray[np.uint64]] = []
        self._numbers: list[NDArray[np.int32]] = []
        self._totals: list[NDArray[np.int32]] = []

    def add(self, ids: NDArray[np.uint64], table: pa.Table, cut: NDArray[np.bool_]) -> None:
        self._videos.append(ids[cut])
        self._numbers.append(table["segment"].to_numpy()[cut])
        self._totals.append(table["segments"].to_numpy()[cut])

    def by_video(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64], int]:
        """The videos that are whole, those that are not, and how many rows there are too many."""
        videos = np.concatenate([np.empty((0, 2), np.uint64), *self._videos])
        self._videos.clear()
        if not len(videos):
            return videos, videos, 0
        totals = np.concatenate(self._totals)
        # Another number for each segment of a video: equal ones are the same segment twice.
        rows = videos + (np.concatenate(self._numbers).astype(np.uint64) * _APART)[:, None]
        order = order_of(rows)
        again = repeated(rows[order])
        del rows
        if again.any():
            first = np.sort(order[np.concatenate([[True], ~again])])
            videos, totals = videos[first], totals[first]
        del order
        order = order_of(videos)
        videos, totals = videos[order], totals[order]
        begins = np.flatnonzero(np.concatenate([[True], ~repeated(videos)]))
        counts = np.diff(np.concatenate([begins, [len(videos)]]))
        whole = counts == np.maximum.reduceat(totals, begins)
        return videos[begins[whole]], ordered([videos[begins[~whole]]]), int(again.sum())
