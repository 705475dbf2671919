"""What a run did, in numbers: gathered while it works, written as report.json."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from vidembed.labels import ALONE
from vidembed.tally import encode_stage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vidembed.tally import Event

_BUCKETS = 240
_THUMBNAILS = 24
_EFFORT = ("wanted", "decoded", "counted", "read_bytes", "on_gpu", "read_s", "cpu_s")


@dataclass(slots=True)
class StageStats:
    """One stage so far. busy_s: seconds of work over all workers; series: clips per bucket.
    batches: of those with clips in them; slots: clips that these had room for. first, last: Unix
    time when its first work began and its last ended.
    """

    videos: float = 0.0
    clips: int = 0
    busy_s: float = 0.0
    workers: set[str] = field(default_factory=set)
    series: Counter[int] = field(default_factory=Counter)
    busy_series: Counter[int] = field(default_factory=Counter)
    batches: int = 0
    slots: int = 0
    first: float | None = None
    last: float | None = None

    def busy_share(self, seconds: float) -> float:
        """Part of their time, 0 to 1, that the workers have been busy in `seconds`."""
        return min(1.0, self.busy_s / (len(self.workers) * seconds)) if self.workers else 0.0


class Statistics:
    """Sums of events, in bounded memory: time is kept in at most a few hundred buckets, whose
    width doubles as the run gets longer.
    """

    def __init__(self, began: float, labels: Iterable[str] = (ALONE,)) -> None:
        """labels: of the encoders, each of which is a stage."""
        self.began = began
        self.bucket_s = 1.0
        stages = ("decode", *map(encode_stage, labels), "write")
        self.stages = {name: StageStats() for name in stages}
        self.failures: Counter[str] = Counter()
        self.thumbnails: list[tuple[str, bytes]] = []
        self.effort: dict[str, float] = dict.fromkeys(_EFFORT, 0)
        self.projection = StageStats()
        """What of it Milvus has taken while the job streamed; busy_s: seconds of waiting for it."""

    def add(self, event: Event) -> None:
        for committed in event.committed.values():
            self.projection.clips += committed.sent
            self.projection.busy_s += committed.sent_s
        if event.stage == "projection":
            return
        stage = self.stages[event.stage]
        stage.videos += event.videos
        stage.clips += event.clips
        stage.busy_s += event.seconds
        stage.workers.add(event.worker)
        stage.batches += bool(event.slots)
        stage.slots += event.slots
        ended = event.began + event.seconds
        stage.first = event.began if stage.first is None else min(stage.first, event.began)
        stage.last = ended if stage.last is None else max(stage.last, ended)
        self._spread(stage, event)
        for name, amount in event.effort.items():
            self.effort[name] = self.effort.get(name, 0) + amount
        if event.stage == "write":
            # Counted where they are durable, so that a retried task does not count twice as much.
            self.failures.update(event.failures)
        room = _THUMBNAILS - len(self.thumbnails)
        self.thumbnails.extend(event.thumbnails[: max(0, room)])

    def _spread(self, stage: StageStats, event: Event) -> None:
        end = max(0.0, event.began + event.seconds - self.began)
        while end / self.bucket_s >= _BUCKETS:
            self._halve()
        bucket = int(end / self.bucket_s)
        stage.series[bucket] += event.clips
        stage.busy_series[bucket] += int(event.seconds * 1e6)

    def _halve(self) -> None:
        self.bucket_s *= 2
        for stage in self.stages.values():
            for name in ("series", "busy_series"):
                merged: Counter[int] = Counter()
                for bucket, value in getattr(stage, name).items():
                    merged[bucket // 2] += value
                setattr(stage, name, merged)


def bottleneck(shares: dict[str, float]) -> str:
    """The stage that the others wait for: the one whose workers are busiest."""
    if not any(shares.values()):
        return "starting"
    return max(shares, key=lambda name: shares[name])


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """What `embed` returns, and what report.json holds. Counts are of videos unless named clips.

    done_before: finished by earlier runs; rates are of this run's own work.
    decode: frames `wanted`, packets `decoded` for them, videos that had to be `counted` through
        because their container tells too little to plan by, `read_bytes` from remote sources and
        the seconds of waiting for them, `read_s`, seconds on a CPU, `cpu_s`, videos decoded
        `on_gpu`; of videos that were decoded well.
    run_id: of this call. verdict: what held the job up, `kind` and `sentence`, and the numbers
        behind it; see `pipeline.verdict`.
    object_store: of Ray's objects in all nodes' shared memory: `limit_bytes`, `peak_bytes`,
        `fullest_share` (the most that one node held of its own, 0 to 1) and `spilled_bytes` (to
        disk, for want of room); None where no node has told.
    """

    out: str
    encoder: str
    fingerprint: str
    videos: int
    done_before: int
    embedded: int
    failed: int
    clips: int
    failures: dict[str, int]
    failure_examples: list[dict[str, str]]
    seconds: float
    videos_per_s: float
    clips_per_s: float
    stages: dict[str, dict[str, float]]
    decode: dict[str, float]
    bottleneck: str
    timeline: dict[str, Any]
    object_store: dict[str, float | None]
    milvus: dict[str, Any] | None
    max_failures: str
    too_many_failures: bool
    versions: dict[str, str]
    started: str
    run_id: str = ""
    verdict: dict[str, Any] = field(default_factory=dict)

    def json(self) -> str:
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    def __str__(self) -> str:
        return (
            f"{self.embedded:,} of {self.videos:,} videos embedded ({self.clips:,} clips), "
            f"{self.failed:,} failed, in {self.seconds:.1f} s: {self.out}"
        )


def stages_of(statistics: Statistics, label: str) -> dict[str, StageStats]:
    """The stages that one encoder's clips go through; those of the others are left out."""
    own = {"decode": "decode", "encode": encode_stage(label), "write": "write"}
    return {name: statistics.stages[stage] for name, stage in own.items()}


def timeline(statistics: Statistics, stages: dict[str, StageStats]) -> dict[str, Any]:
    """Clips per second of each stage over time, for the plot."""
    last = max((max(s.series, default=0) for s in stages.values()), default=0)
    width = statistics.bucket_s
    return {
        "bucket_s": width,
        "clips_per_s": {
            name: [round(stage.series[b] / width, 3) for b in range(last + 1)]
            for name, stage in stages.items()
        },
    }
