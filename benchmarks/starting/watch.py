"""What each process that a command starts takes, and when it is first seen at what. Linux alone."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_TICKS = os.sysconf("SC_CLK_TCK")
_PR_SET_CHILD_SUBREAPER = 36
_EVERY_S = 0.05
_AFTERWARDS_S = 20.0
# A word of a command line, and what its process is for people. Ray renames its workers.
_NAMES = (
    ("gcs_server", "Ray: gcs_server"),
    ("raylet/raylet", "Ray: raylet"),
    ("log_monitor.py", "Ray: log monitor"),
    ("autoscaler/_private/monitor.py", "Ray: autoscaler's monitor"),
    ("dashboard/dashboard.py", "Ray: API server"),
    ("DashboardAgent", "Ray: dashboard agent"),
    ("dashboard/agent.py", "Ray: dashboard agent"),
    ("RuntimeEnvAgent", "Ray: runtime environment agent"),
    ("runtime_env/agent", "Ray: runtime environment agent"),
    ("_StatsActor", "Ray Data: statistics"),
    ("_AutoscalingCoordinatorActor", "Ray Data: autoscaling coordinator"),
    ("ActorLocationTracker", "Ray Data: actor locations"),
    ("MonitorState", "worker: monitor"),
    ("Decode)", "worker: decode"),
    ("Map(decode)", "worker: decode"),
    ("Encode", "worker: encode"),
    ("ray::Write", "worker: write"),
    ("vidembed.decode.child", "decode child"),
    ("ray::IDLE", "worker: spare"),
    ("default_worker.py", "worker: spare"),
)
_LATER = ("worker: spare",)


@dataclass(slots=True)
class Process:
    """name: what it was, the last that is not idleness. cpu_s: own user and system time."""

    name: str
    cpu_s: float = 0.0


@dataclass(slots=True)
class Usage:
    """root: the command's process. cpu_s: of all processes. wall_s: until the command ended.

    seen: seconds until a process of this name was first seen, to 0.05 s.
    """

    root: int = 0
    code: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    processes: dict[int, Process] = field(default_factory=dict)
    seen: dict[str, float] = field(default_factory=dict)

    def look(self, since: float) -> bool:
        """Bring this up to date; whether any process is there."""
        parents = _parents()
        inside = {os.getpid()}
        while more := {pid for pid, parent in parents.items() if parent in inside} - inside:
            inside |= more
        there = False
        for pid in inside - {os.getpid()}:
            there |= self._look_at(pid, time.monotonic() - since)
        return there

    def _look_at(self, pid: int, now: float) -> bool:
        try:
            words = _stat(pid)
            line = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
        except OSError:
            return False
        default = ("driver" if pid == self.root else "other") if line else ""
        name = next((name for word, name in _NAMES if word in line), default)
        process = self.processes.setdefault(pid, Process(name))
        if name and (name not in _LATER or process.name in (*_LATER, "other", "Ray: raylet")):
            process.name = name
        if name:
            self.seen.setdefault(name, now)
        process.cpu_s = (int(words[11]) + int(words[12])) / _TICKS
        return words[0] != "Z"


def run(command: Sequence[str], *, cwd: Path, env: dict[str, str], log: Path) -> Usage:
    """Run a command until all that it has started is gone."""
    # What loses its parent becomes a child of this process instead of vanishing to init.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    usage, waited, began = Usage(), _waited(), time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    usage.root = process.pid
    while process.poll() is None:
        usage.look(began)
        time.sleep(_EVERY_S)
    usage.wall_s, usage.code = time.monotonic() - began, process.returncode
    while usage.look(began) and time.monotonic() - began < usage.wall_s + _AFTERWARDS_S:
        _reap()
        time.sleep(_EVERY_S)
    _reap()
    # What was waited for is exact; what a parent did not wait for is as last seen.
    seen = sum(each.cpu_s for each in usage.processes.values())
    usage.cpu_s = max(_waited() - waited, seen)
    return usage


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _waited() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _parents() -> dict[int, int]:
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            found[int(name)] = int(_stat(int(name))[1])
    return found


def _stat(pid: int) -> list[str]:
    text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    # The name of the program, in brackets, may hold anything.
    return text[text.rindex(")") + 2 :].split()
