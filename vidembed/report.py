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


@dataclass(slots=True)
class StageStats:
    """One stage so far. busy_s: seconds of work over all workers; series: clips per bucket."""

    videos: float = 0.0
    clips: int = 0
    busy_s: float = 0.0
    workers: set[str] = field(default_factory=set)
    series: Counter[int] = field(default_factory=Counter)
    busy_series: Counter[int] = field(default_factory=Counter)

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
        self.effort: Counter[str] = Counter(wanted=0, decoded=0, counted=0, read_bytes=0, on_gpu=0)

    def add(self, event: Event) -> None:
        stage = self.stages[event.stage]
        stage.videos += event.videos
        stage.clips += event.clips
        stage.busy_s += event.seconds
        stage.workers.add(event.worker)
        self._spread(stage, event)
        self.effort.update(event.effort)
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
        because their container tells too little to plan by, `read_bytes` from remote sources,
        videos decoded `on_gpu`.
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
    decode: dict[str, int]
    bottleneck: str
    timeline: dict[str, Any]
    milvus: dict[str, Any] | None
    max_failures: str
    too_many_failures: bool
    versions: dict[str, str]
    started: str

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
