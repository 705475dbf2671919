"""The write stage: vectors in, committed parts out. The one Ray Data sink."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data import Datasink

from vidembed import log, schema
from vidembed.tally import Committed, Event, Tally, silent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vidembed.log import Level
    from vidembed.store.run import Run
    from vidembed.store.target import Target


# What a write task claims. It must fit beside the pools of actors, or nothing is ever written and
# the job stands still without a word.
WRITE_CPUS = 0.25
WRITE_TASK = {"num_cpus": WRITE_CPUS}


def write_here(clips: Any, sink: RunSink) -> None:
    """Commit all rows of a `ray.data.Dataset` in this process as they come, a part at a time: on
    one machine a task would be a process more, which takes a second of CPU to start.
    """
    held: list[pa.Table] = []
    # Not iter_batches: where the job is stopped, it kills the actors and waits while Ray says so.
    for bundle in clips.iter_internal_ref_bundles():
        held += ray.get(list(bundle.block_refs))
        if sum(map(len, held)) >= sink.min_rows_per_write:
            sink.write(held, None)
            held = []
    if held:
        sink.write(held, None)


class RunSink(Datasink[int]):  # type: ignore[misc]  # Ray is untyped
    """Commits to each run, by its encoder's label, what is that encoder's.

    `write` runs in workers, once for about `rows_per_part` rows, and may be retried: a run names
    its parts by what is in them. A kill between two runs leaves each in order by itself. targets:
    where a label's parts go besides, as soon as they are committed.
    """

    def __init__(
        self,
        runs: Mapping[str, Run],
        rows_per_part: int,
        tally: Tally = silent,
        targets: Mapping[str, Target] | None = None,
    ) -> None:
        self._runs = runs
        self._targets = targets or {}
        self._rows = rows_per_part
        self._tally = tally

    def write(self, blocks: Iterable[pa.Table], ctx: Any) -> int:
        """Commit the rows of all blocks; returns how many there were."""
        began = time.time()
        table = pa.concat_tables([b for b in blocks if len(b)] or [_NOTHING])
        if not len(table):
            return 0
        committed = {label: self._commit(label, table) for label in self._runs}
        errors = pc.coalesce(*(table[schema.own("error", label)] for label in self._runs))
        good = table["segments"].filter(pc.is_null(errors))
        self._tally(
            Event(
                stage="write",
                worker=f"write-{os.uname().nodename}-{os.getpid()}",
                began=began,
                seconds=time.time() - began,
                videos=_videos(good),
                clips=len(good),
                failures=dict(_failures(table["video_id"], errors)),
                committed=committed,
            )
        )
        return len(table)

    def _commit(self, label: str, table: pa.Table) -> Committed:
        """Commit what is one encoder's, and send it to its collection."""
        share = schema.share(table, label)
        if not len(share):
            return Committed()
        rows, videos = _embedded(share)
        failed = _failed_in(share)
        part = self._runs[label].commit(share)
        if part is None:
            return Committed(failed=failed)
        self._note("part committed", label, part, rows=rows, bytes=share.nbytes)
        began = time.time()
        sent = rows if label in self._targets and self._sent(label, part, rows) else 0
        waited = time.time() - began if label in self._targets else 0.0
        return Committed(rows=rows, videos=videos, failed=failed, sent=sent, sent_s=waited)

    def _sent(self, label: str, part: str, rows: int) -> bool:
        """Send a part. Durable already: a server that does not take it now holds up nothing."""
        target = self._targets[label]
        began = time.time()
        if target.send(self._runs[label], part):
            seconds = round(time.time() - began, 3)
            self._note("part projected", label, part, rows=rows, seconds=seconds)
            return True
        self._note("part not taken", label, part, level="warning", rows=rows, message=target.why)
        return False

    def _note(self, event: str, label: str, part: str, level: Level = "info", **facts: Any) -> None:
        log.note(event, "write", level, run=self._runs[label].uri, part=part, **facts)

    def get_name(self) -> str:
        return "write"

    @property
    def min_rows_per_write(self) -> int:
        return self._rows


_NOTHING = pa.table({})


def _videos(segments: pa.ChunkedArray) -> float:
    """Embedded videos; of a video whose segments are in several parts, this part's share."""
    if not len(segments):
        return 0.0
    return float(pc.sum(pc.divide(1.0, segments.cast(pa.float64()))).as_py())


def _failures(videos: pa.ChunkedArray, errors: pa.ChunkedArray) -> Counter[str]:
    """Failed videos by class, whichever encoder they failed for; segments of one fail together."""
    failed = pc.is_valid(errors)
    videos, errors = videos.filter(failed), errors.filter(failed)
    return Counter(dict(zip(videos.to_pylist(), errors.to_pylist(), strict=True)).values())


def _embedded(share: pa.Table) -> tuple[int, float]:
    """Rows of one encoder's whose video has not failed for it, and how many videos they make."""
    failed = share["video_id"].filter(pc.is_valid(share["error"])).combine_chunks()
    good = share["segments"].filter(pc.invert(pc.is_in(share["video_id"], failed)))
    return len(good), _videos(good)


def _failed_in(share: pa.Table) -> dict[tuple[str, str], int]:
    """Failed videos of one encoder's by stage and class; segments of one fail together."""
    bad = share.select(["video_id", "stage", "error"]).filter(pc.is_valid(share["error"]))
    found = {row["video_id"]: (row["stage"], row["error"]) for row in bad.to_pylist()}
    return dict(Counter(found.values()))
