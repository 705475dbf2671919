"""One actor that hears from every worker of every stage, and answers the driver's questions."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from vidembed import log
from vidembed.labels import ALONE
from vidembed.pipeline.ray_metrics import Exported, Job
from vidembed.report import Statistics, bottleneck
from vidembed.tally import Backlog

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vidembed.log import Line
    from vidembed.tally import Event

_WINDOW_S = 20.0
# Lines of the log that wait for the driver. What is more is in the files of the workers.
_LINES = 5000


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
    """What the monitor actor does, without Ray where there is no job to export metrics of."""

    def __init__(self, labels: Iterable[str] = (ALONE,), job: Job | None = None) -> None:
        """labels: of the encoders."""
        self.statistics = Statistics(time.time(), labels)
        self._marks: list[tuple[float, dict[str, float]]] = []
        self._exported = Exported(job) if job else None
        self._backlogs: dict[str, Backlog] = {}
        self._lines: list[Line] = []
        self._lost = 0

    def add(self, told: Event | Backlog) -> None:
        if isinstance(told, Backlog):
            self._backlogs[told.label] = told
            return
        self.statistics.add(told)
        if self._exported:
            self._exported.add(told)

    def remember(self, line: Line) -> None:
        """A line that waits for the driver."""
        if len(self._lines) < _LINES:
            self._lines.append(line)
        else:
            self._lost += 1

    def snapshot(self) -> Snapshot:
        stages = self.statistics.stages
        shares = self._recent_shares()
        videos, failed = stages["write"].videos, sum(self.statistics.failures.values())
        if self._exported:
            done = videos + failed
            self._exported.refresh(self.statistics, shares, self._backlogs.values(), done)
        return Snapshot(
            videos=videos,
            failed=failed,
            clips=stages["write"].clips,
            decoded=stages["decode"].videos,
            shares=shares,
            bottleneck=bottleneck(shares),
        )

    def take_lines(self) -> tuple[tuple[Line, ...], int]:
        """The lines that nobody has taken yet, and how many there were besides."""
        found = tuple(self._lines), self._lost
        self._lines.clear()
        self._lost = 0
        return found

    def leave(self) -> None:
        """End the actor's process, which gives out the last values of its metrics as it ends."""
        if self._exported:
            self.snapshot()
        ray.actor.exit_actor()

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
    """Sends what is told to the monitor and does not wait for it. A worker that gets one writes its
    log as the job asks for it.
    """

    def __init__(self, monitor: Any, job: Job) -> None:
        self._monitor = monitor
        self.job = job
        self._driver = (os.uname().nodename, os.getpid())

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._driver != (os.uname().nodename, os.getpid()):
            log.in_worker(self.job.log, self.job.run_id, self._monitor.remember.remote)

    def __call__(self, told: Event | Backlog) -> None:
        self._monitor.add.remote(told)


def show_log(watch: Any, job: Job) -> None:
    """Write the lines of workers that are new to the driver's log."""
    if job.log == "none":
        return
    with suppress(ray.exceptions.RayError):
        lines, lost = ray.get(watch.take_lines.remote(), timeout=10)
        for line in lines:
            log.write(line)
        if lost:
            where = "they are in the workers' own files"
            log.note("lines left out", "run", "warning", lines=lost, message=where)


def finish(watch: Any, job: Job) -> None:
    """Write the last lines of workers, and have the monitor end by itself: one that is killed with
    its job takes the last values of its metrics along.
    """
    show_log(watch, job)
    with suppress(ray.exceptions.RayError):
        ray.get(watch.leave.remote(), timeout=10)


def start(labels: Iterable[str], job: Job) -> Any:
    """The monitor as an actor that claims no CPU, on the driver's node, without which there is no
    job: it survives a worker's death, not its node's.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    actor = ray.remote(num_cpus=0, max_restarts=2, max_task_retries=0)(MonitorState)
    return actor.options(scheduling_strategy=here).remote(tuple(labels), job)
