"""One actor that hears from every worker of every stage, and answers the driver's questions."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray

from vidembed.labels import ALONE
from vidembed.report import Statistics, bottleneck

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vidembed.tally import Event

_WINDOW_S = 20.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a job. Videos and clips are those that are committed in every run that lacked
    them; failed: videos that failed in some run; shares are of the last seconds.
    """

    videos: float
    failed: int
    clips: int
    decoded: float
    shares: dict[str, float]
    bottleneck: str


class MonitorState:
    """What the monitor actor does, without Ray."""

    def __init__(self, labels: Iterable[str] = (ALONE,)) -> None:
        """labels: of the encoders."""
        self.statistics = Statistics(time.time(), labels)
        self._marks: list[tuple[float, dict[str, float]]] = []

    def add(self, event: Event) -> None:
        self.statistics.add(event)

    def snapshot(self) -> Snapshot:
        stages = self.statistics.stages
        shares = self._recent_shares()
        return Snapshot(
            videos=stages["write"].videos,
            failed=sum(self.statistics.failures.values()),
            clips=stages["write"].clips,
            decoded=stages["decode"].videos,
            shares=shares,
            bottleneck=bottleneck(shares),
        )

    def take_statistics(self) -> Statistics:
        return self.statistics

    def _recent_shares(self) -> dict[str, float]:
        now = time.time()
        stages = self.statistics.stages
        self._marks.append((now, {name: stage.busy_s for name, stage in stages.items()}))
        while len(self._marks) > 2 and now - self._marks[1][0] > _WINDOW_S:
            self._marks.pop(0)
        then, busy = self._marks[0]
        shares = {}
        for name, stage in stages.items():
            capacity = max(now - then, 1e-3) * max(1, len(stage.workers))
            shares[name] = min(1.0, (stage.busy_s - busy[name]) / capacity)
        return shares


class RayTally:
    """Sends events to the monitor and does not wait for it."""

    def __init__(self, monitor: Any) -> None:
        self._monitor = monitor

    def __call__(self, event: Event) -> None:
        self._monitor.add.remote(event)


def start(labels: Iterable[str]) -> Any:
    """The monitor as an actor that claims no CPU. It survives a worker's death, not its node's."""
    actor = ray.remote(num_cpus=0, max_restarts=2, max_task_retries=0)(MonitorState)
    return actor.remote(tuple(labels))
