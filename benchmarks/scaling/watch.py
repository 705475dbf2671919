"""A job that is watched from outside while it works: memory, processor time, rows on disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from benchmarks import machine
from benchmarks.scaling import processes

if TYPE_CHECKING:
    from pathlib import Path

_ORPHANS_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """seconds: since the command was started; rows: in the run's parts, those that failed too.
    own: bytes by kind of process; store: bytes of the object store that have been touched.
    """

    seconds: float
    rows: int
    parts: int
    processes: int
    own: dict[str, int]
    store: int


class Rows:
    """The rows of a run's parts, of each read once: their footers say how many."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._found: dict[Path, int] = {}

    @property
    def parts(self) -> int:
        return len(self._found)

    def count(self) -> int:
        for kind in ("embeddings", "failures"):
            for part in (self._run / kind).glob("part-*.parquet"):
                if part not in self._found:
                    self._found[part] = pq.read_metadata(part).num_rows
        return sum(self._found.values())


class Job:
    """One attempt. samples; cpu_s: by kind of process; seconds: from the command to its end;
    ray_s: to Ray's first process; first_s: to the first part of its own.
    """

    def __init__(self, manifest: Path, run: Path, log: Path, words: list[str]) -> None:
        self._rows = Rows(run)
        self.before = self._rows.count()
        self._parts_before = self._rows.parts
        self.samples: list[Sample] = []
        self.seconds = self.ray_s = self.first_s = 0.0
        self._last: dict[tuple[int, int], processes.Process] = {}
        self._log = log
        self._began = time.monotonic()
        with log.open("ab") as file:
            self._driver = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.scaling.job", str(manifest), str(run), *words],
                cwd=machine.ROOT,
                stdout=file,
                stderr=file,
            )

    def watch(self, until: int | None, every_s: float) -> int | None:
        """Sample until it ends, or until so many rows are there; returns its exit code, if any."""
        due = 0.0
        while self._driver.poll() is None:
            self._look()
            if time.monotonic() >= due:
                due = time.monotonic() + every_s
                sample = self._sample()
                if until is not None and sample.rows >= until:
                    return None
            time.sleep(0.25)
        self.seconds = time.monotonic() - self._began
        return self._driver.returncode

    def kill(self) -> float:
        """SIGKILL to the driver; returns the seconds until none of its workers was left.

        Helpers of Ray's, which look for their parent once a minute, are ended here.
        """
        self._look()
        self._driver.send_signal(signal.SIGKILL)
        self._driver.wait()
        began = time.monotonic()
        self.seconds = began - self._began
        left = list(self._last.values())
        while any(process.kind != processes.HELPER for process in left):
            if time.monotonic() - began > _ORPHANS_S:
                raise RuntimeError(f"processes outlive their driver: {left}")
            time.sleep(0.1)
            left = [process for process in left if processes.alive(process)]
        gone = time.monotonic() - began
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        return gone

    @property
    def cpu_s(self) -> dict[str, float]:
        total: Counter[str] = Counter()
        for process in self._last.values():
            total[process.kind] += process.cpu_s
        return {kind: round(seconds, 1) for kind, seconds in total.most_common()}

    def _look(self) -> list[processes.Process]:
        """Ray's processes, and the first part of this attempt, to a quarter of a second."""
        now = processes.below(self._driver.pid)
        for process in now:
            key = (process.pid, process.born)
            before = self._last.get(key)
            # A worker without work is not what it was for.
            if before is not None and process.kind == "other workers":
                process = processes.named(process, before.kind)
            self._last[key] = process
        here = time.monotonic() - self._began
        if not self.ray_s and any(process.kind == "gcs_server" for process in now):
            self.ray_s = here
        if not self.first_s and self.ray_s:
            self._rows.count()
            if self._rows.parts > self._parts_before:
                self.first_s = here
        return now

    def _sample(self) -> Sample:
        now = self._look()
        own: Counter[str] = Counter()
        for process in now:
            own[process.kind] += process.own_bytes
        sample = Sample(
            seconds=round(time.monotonic() - self._began, 2),
            rows=self._rows.count(),
            parts=self._rows.parts,
            processes=len(now),
            own=dict(own),
            store=max((p.shared_bytes for p in now if p.kind == "raylet"), default=0),
        )
        self.samples.append(sample)
        last = self.samples[-2] if len(self.samples) > 1 else None
        rate = (sample.rows - last.rows) / (sample.seconds - last.seconds) if last else 0.0
        print(
            f"{sample.seconds:8.0f} s  {sample.rows:12,} rows  {rate:8,.0f}/s  driver "
            f"{own['driver'] >> 20:,} MiB  all {sum(own.values()) >> 20:,} MiB",
            flush=True,
        )
        return sample

    def plain(self) -> dict[str, Any]:
        return {
            "rows_before": self.before,
            "rows_after": self._rows.count(),
            "seconds": round(self.seconds, 2),
            "ray_s": round(self.ray_s, 2),
            "first_part_s": round(self.first_s, 2),
            "cpu_s": self.cpu_s,
            "samples": [asdict(sample) for sample in self.samples],
        }
