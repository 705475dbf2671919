"""The write stage: vectors in, a committed part out. The one Ray Data sink."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from ray.data import Datasink

from vidembed.tally import Event, Tally, silent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vidembed.store.run import Run


# What a write task claims. It must fit beside the pools of actors, or nothing is ever written and
# the job stands still without a word.
WRITE_CPUS = 0.25
WRITE_TASK = {"num_cpus": WRITE_CPUS}


class RunSink(Datasink[int]):  # type: ignore[misc]  # Ray is untyped
    """Commits what it is given to a run directory.

    `write` runs in workers, once for about `rows_per_part` rows, and may be retried: the run
    names its parts by what is in them.
    """

    def __init__(self, run: Run, rows_per_part: int, tally: Tally = silent) -> None:
        self._run = run
        self._rows = rows_per_part
        self._tally = tally

    def write(self, blocks: Iterable[pa.Table], ctx: Any) -> int:
        """Commit the rows of all blocks; returns how many there were."""
        began = time.time()
        table = pa.concat_tables([b for b in blocks if len(b)] or [_NOTHING])
        if not len(table):
            return 0
        self._run.commit(table)
        failures = _failures(table)
        self._tally(
            Event(
                stage="write",
                worker=f"write-{os.uname().nodename}-{os.getpid()}",
                began=began,
                seconds=time.time() - began,
                videos=_videos(table),
                clips=len(table) - int(pc.sum(pc.is_valid(table["error"])).as_py()),
                failures=dict(failures),
            )
        )
        return len(table)

    def get_name(self) -> str:
        return "write"

    @property
    def min_rows_per_write(self) -> int:
        return self._rows


_NOTHING = pa.table({})


def _videos(table: pa.Table) -> float:
    """Embedded videos; of a video whose segments are in several parts, this part's share."""
    segments = table.filter(pc.is_null(table["error"]))["segments"]
    if not len(segments):
        return 0.0
    return float(pc.sum(pc.divide(1.0, segments.cast(pa.float64()))).as_py())


def _failures(table: pa.Table) -> Counter[str]:
    """Failed videos by class; the segments of one fail together."""
    failed = table.filter(pc.is_valid(table["error"])).select(["video_id", "error"])
    kinds = dict(zip(failed["video_id"].to_pylist(), failed["error"].to_pylist(), strict=True))
    return Counter(kinds.values())
