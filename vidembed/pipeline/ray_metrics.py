"""A job's numbers as metrics of Ray, which Prometheus finds on the metrics port of each node.

Ray puts `ray_` before each name and `_total` behind a counter's. Labels are few: the run, and where
it means something the encoder, the stage and the class of failure; never a video.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ray.util.metrics import Counter, Gauge, Histogram

from vidembed.labels import ALONE
from vidembed.tally import encode_stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vidembed.config.base import Log
    from vidembed.report import Statistics
    from vidembed.tally import Backlog, Event

_SECONDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0]

# name without `vidembed_` -> (labels besides `run`, what it is)
COUNTERS: dict[str, tuple[tuple[str, ...], str]] = {
    "videos": (("encoder",), "Videos embedded and committed."),
    "clips": (("encoder",), "Vectors committed."),
    "failures": (("encoder", "stage", "error"), "Videos that failed, committed as such."),
    "stage_busy_seconds": (("stage", "encoder"), "Seconds of work over all workers."),
    "stage_clips": (("stage", "encoder"), "Clips that left a stage well."),
    "batches": (("encoder",), "Batches that were encoded."),
    "batch_slots": (("encoder",), "Clips that those batches had room for."),
    "read_bytes": ((), "Bytes fetched from remote sources, of videos that were decoded well."),
    "read_wait_seconds": ((), "Seconds that decoders waited for remote sources."),
    "decode_cpu_seconds": ((), "Seconds that decoders were on a CPU."),
    "projected_rows": (("encoder",), "Rows that Milvus has taken."),
    "projection_wait_seconds": (("encoder",), "Seconds of waiting for Milvus."),
}
GAUGES: dict[str, tuple[tuple[str, ...], str]] = {
    "run_info": (("encoder", "out"), "1; which run directory a run and an encoder write."),
    "pending_videos": ((), "Videos that are neither embedded nor failed yet."),
    "stage_workers": (("stage", "encoder"), "Workers that have worked for a stage."),
    "stage_busy_ratio": (("stage", "encoder"), "Part of its workers' last 20 s of work, 0 to 1."),
    "projection_lag_rows": (("encoder",), "Rows committed and not in Milvus."),
    "projection_lag_parts": (("encoder",), "Parts committed and not in Milvus."),
    "projection_lag_seconds": (("encoder",), "Age of the oldest part that is not in Milvus."),
}
HISTOGRAMS: dict[str, tuple[tuple[str, ...], str]] = {
    "stage_seconds": (
        ("stage", "encoder"),
        "Seconds of one video decoded, one batch encoded, one part written.",
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the metrics and the log of one call of embed say of it. pending: videos that it has to
    do. encoders, outs: name and run directory by label.
    """

    run_id: str
    pending: int
    encoders: dict[str, str] = field(default_factory=dict)
    outs: dict[str, str] = field(default_factory=dict)
    log: Log = "none"


class Exported:
    """The metrics of a job, in the process that makes it. The first error ends them, for they must
    not end the job.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        # By stage of the statistics, which is `encode LABEL` for several encoders.
        self._stages = {
            encode_stage(label): ("encode", name) for label, name in job.encoders.items()
        }
        self._made: dict[str, Any] = {}
        self._works = True
        self._quietly(self._make)

    def add(self, event: Event) -> None:
        self._quietly(lambda: self._add(event))

    def refresh(
        self,
        statistics: Statistics,
        shares: dict[str, float],
        backlogs: Iterable[Backlog],
        done: float,
    ) -> None:
        """Set what goes up and down. done: videos that are embedded or failed."""
        self._quietly(lambda: self._refresh(statistics, shares, backlogs, done))

    def _quietly(self, work: Callable[[], None]) -> None:
        if not self._works:
            return
        try:
            work()
        except Exception:
            self._works = False
            logging.getLogger("vidembed").exception("metrics of Ray failed and end here")

    def _make(self) -> None:
        kinds = ((Counter, COUNTERS), (Gauge, GAUGES))
        for kind, named in kinds:
            for name, (labels, about) in named.items():
                self._made[name] = kind(f"vidembed_{name}", about, ("run", *labels))
        for name, (labels, about) in HISTOGRAMS.items():
            self._made[name] = Histogram(f"vidembed_{name}", about, _SECONDS, ("run", *labels))
        for metric in self._made.values():
            metric.set_default_tags({"run": self._job.run_id})

    def _add(self, event: Event) -> None:
        for label, committed in event.committed.items():
            encoder = {"encoder": self._encoder(label)}
            self._count("videos", committed.videos, encoder)
            self._count("clips", committed.rows, encoder)
            self._count("projected_rows", committed.sent, encoder)
            self._count("projection_wait_seconds", committed.sent_s, encoder)
            for (where, error), videos in committed.failed.items():
                self._count("failures", videos, {**encoder, "stage": where, "error": error})
        stage = self._stage(event.stage)
        self._count("stage_busy_seconds", event.seconds, stage)
        self._count("stage_clips", event.clips, stage)
        for seconds in event.each or (event.seconds,):
            self._made["stage_seconds"].observe(seconds, stage)
        if event.slots:
            encoder = {"encoder": stage["encoder"]}
            self._count("batches", 1, encoder)
            self._count("batch_slots", event.slots, encoder)
        for name, of in (("read_bytes", "read_bytes"), ("read_wait_seconds", "read_s"),
                         ("decode_cpu_seconds", "cpu_s")):  # fmt: skip
            self._count(name, event.effort.get(of, 0), {})

    def _refresh(
        self,
        statistics: Statistics,
        shares: dict[str, float],
        backlogs: Iterable[Backlog],
        done: float,
    ) -> None:
        for label, out in self._job.outs.items():
            self._set("run_info", 1, {"encoder": self._encoder(label), "out": out})
        self._set("pending_videos", max(0.0, self._job.pending - done), {})
        for name, stage in statistics.stages.items():
            self._set("stage_workers", len(stage.workers), self._stage(name))
            self._set("stage_busy_ratio", shares.get(name, 0.0), self._stage(name))
        now = time.time()
        for backlog in backlogs:
            encoder = {"encoder": self._encoder(backlog.label)}
            age = now - backlog.since if backlog.since is not None else 0.0
            self._set("projection_lag_rows", backlog.rows, encoder)
            self._set("projection_lag_parts", backlog.parts, encoder)
            self._set("projection_lag_seconds", max(0.0, age), encoder)

    def _encoder(self, label: str) -> str:
        return self._job.encoders.get(label, label)

    def _stage(self, name: str) -> dict[str, str]:
        stage, encoder = self._stages.get(name, (name, ALONE))
        return {"stage": stage, "encoder": encoder}

    def _count(self, name: str, amount: float, labels: dict[str, str]) -> None:
        # Ray takes no 0.
        if amount > 0:
            self._made[name].inc(amount, labels)

    def _set(self, name: str, value: float, labels: dict[str, str]) -> None:
        self._made[name].set(value, labels)
