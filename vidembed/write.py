"""The write stage: vectors in, committed parts out. The one Ray Data sink."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from ray.data import Datasink

from vidembed import schema
from vidembed.tally import Event, Tally, silent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vidembed.store.run import Run
    from vidembed.store.target import Target


# What a write task claims. It must fit beside the pools of actors, or nothing is ever written and
# the job stands still without a word.
WRITE_CPUS = 0.25
WRITE_TASK = {"num_cpus": WRITE_CPUS}


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
        for label, run in self._runs.items():
            share = schema.share(table, label)
            part = run.commit(share) if len(share) else None
            if part and label in self._targets:
                # Durable already: a server that does not take it now holds up nothing.
                self._targets[label].send(run, part)
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
            )
        )
        return len(table)

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
