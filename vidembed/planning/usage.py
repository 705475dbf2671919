"""What a process has used so far, as Linux tells it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Usage:
    """Of a process so far, in seconds and bytes. cpu: on a CPU, all threads; busy: on a CPU, its
    main thread; queued: its main thread ready to run while others had the CPUs; read: by `read`.
    """

    cpu: float = 0.0
    busy: float = 0.0
    queued: float = 0.0
    read: float = 0.0

    def __sub__(self, other: Usage) -> Usage:
        return Usage(
            self.cpu - other.cpu,
            self.busy - other.busy,
            self.queued - other.queued,
            self.read - other.read,
        )


def of(pid: int) -> Usage | None:
    """None where there is no such process, or the system does not tell."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        times = {thread: _schedule(f"/proc/{pid}/task/{thread}/schedstat") for thread in threads}
        busy, queued = times[str(pid)]
    except (OSError, ValueError, KeyError):
        return None
    return Usage(sum(cpu for cpu, _ in times.values()), busy, queued, _read(pid))


def _schedule(path: str) -> tuple[float, float]:
    """Seconds on a CPU, and in the queue for one."""
    cpu, queued, _ = Path(path).read_text().split()
    return int(cpu) / 1e9, int(queued) / 1e9


def _read(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except OSError:
        return 0.0
    return next((float(line[7:]) for line in lines if line.startswith("rchar: ")), 0.0)
