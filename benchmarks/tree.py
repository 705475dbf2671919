"""What a command takes with all the processes that it starts: CPU time, memory, how many they are.

Also of those whose parents die, whose parents do not wait for them, or which live in a session of
their own, as Ray's do. Linux alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TICKS = os.sysconf("SC_CLK_TCK")
_PR_SET_CHILD_SUBREAPER = 36
# Between two looks at the clocks, and between two at the memory, which costs the kernel more.
_CLOCKS_S, _MEMORY_S = 0.1, 1.0
_DRIVER = "driver"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """code: the exit code, or -9 after the deadline. wall_s: until the command itself ended.

    cpu_s: user and system time of all processes. peak_mib: the largest sum of their proportional
    set sizes (PSS: what several share counts once), as seen once a second. processes: how many
    there were, as seen ten times a second. left: how many outlived the command and were killed.
    by_name: the CPU-seconds of each of them, as last seen; first_seen: seconds until there was one
    of a name.
    """

    code: int
    wall_s: float
    cpu_s: float
    peak_mib: float
    processes: int
    left: int
    by_name: dict[str, list[float]]
    first_seen: dict[str, float]


@dataclass(slots=True)
class _Process:
    """own, waited: CPU-seconds of itself, and of its ended children that it waited for."""

    parent: int
    own: float = 0.0
    waited: float = 0.0
    name: str = ""


@dataclass(slots=True)
class _Watch:
    """All descendants of this process; `processes` by pid and start, for pids are used again."""

    processes: dict[tuple[int, int], _Process] = field(default_factory=dict)
    before: frozenset[tuple[int, int]] = frozenset()
    root: int = 0
    began: float = field(default_factory=time.monotonic)
    first_seen: dict[str, float] = field(default_factory=dict)
    peak_kib: int = 0

    def look(self) -> list[int]:
        """Bring the clocks up to date; the pids of those that are there."""
        found = _everybody()
        inside = {os.getpid()}
        here = []
        # Parents mostly have the smaller pid, so that two turns find nearly all.
        for _ in range(3):
            for (pid, start), now in found.items():
                if now.parent in inside and (pid, start) not in self.before:
                    inside.add(pid)
        for key, now in found.items():
            if key[0] in inside and key[0] != os.getpid() and key not in self.before:
                seen = self.processes.setdefault(key, now)
                # Who lost its parent stays counted below it.
                seen.own, seen.waited = now.own, now.waited
                seen.name = _DRIVER if key[0] == self.root else names.of(_line(key[0]), seen.name)
                if seen.name:
                    self.first_seen.setdefault(seen.name, time.monotonic() - self.began)
                here.append(key[0])
        return here

    @property
    def by_name(self) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for process in self.processes.values():
            found.setdefault(process.name or names.OTHER, []).append(round(process.own, 2))
        return dict(sorted(found.items(), key=lambda each: -sum(each[1])))

    def memory(self, pids: list[int]) -> None:
        self.peak_kib = max(self.peak_kib, sum(map(_pss_kib, pids)))

    def cpu_s(self, root: int) -> float:
        """Of everybody seen, and of what ended between two looks where somebody waited for it."""
        below: dict[int, list[tuple[int, int]]] = {}
        for key, process in self.processes.items():
            below.setdefault(process.parent, []).append(key)

        def total(key: tuple[int, int], depth: int = 0) -> float:
            process = self.processes[key]
            children = below.get(key[0], []) if depth < 100 else []
            seen = sum(total(child, depth + 1) for child in children)
            return process.own + max(process.waited, seen)

        return sum(total(key) for key in below.get(root, []))


def run(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    log: Path,
    deadline_s: float = 900.0,
    after_s: float = 20.0,
) -> Usage:
    """Run a command to its end; its output goes to `log`. One at a time in a process.

    deadline_s: when it is killed; after_s: how long what it leaves may take to end by itself.
    """
    # What loses its parent becomes a child of this process instead of vanishing to init.
    _adopt(orphans=True)
    try:
        return _run(command, cwd, env, log, (deadline_s, after_s))
    finally:
        _adopt(orphans=False)


def _adopt(*, orphans: bool) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(orphans), 0, 0, 0)


def _run(
    command: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    log: Path,
    limits: tuple[float, float],
) -> Usage:
    deadline_s, after_s = limits
    watch = _Watch()
    watch.before = frozenset(_everybody())
    begin, waited = time.monotonic(), _waited()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    watch.root, watch.began = process.pid, begin
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(watch, stop), daemon=True)
    watcher.start()
    try:
        code = process.wait(timeout=deadline_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        code = -signal.SIGKILL
    wall = time.monotonic() - begin
    stop.set()
    watcher.join()
    left = _end_the_rest(watch, after_s)
    # What this process has waited for is exact; what others did not wait for is as last seen.
    cpu = max(_waited() - waited, watch.cpu_s(os.getpid()))
    return Usage(
        code=code,
        wall_s=wall,
        cpu_s=cpu,
        peak_mib=watch.peak_kib / 1024,
        processes=len(watch.processes),
        left=left,
        by_name=watch.by_name,
        first_seen=watch.first_seen,
    )


def _watch(watch: _Watch, stop: threading.Event) -> None:
    next_memory = 0.0
    while not stop.wait(_CLOCKS_S):
        pids = watch.look()
        if time.monotonic() >= next_memory:
            watch.memory(pids)
            next_memory = time.monotonic() + _MEMORY_S


def _end_the_rest(watch: _Watch, after_s: float) -> int:
    """Wait for those that are left, then kill them by their pids; how many that were."""
    limit = time.monotonic() + after_s
    while (pids := _reap(watch)) and time.monotonic() < limit:
        time.sleep(_CLOCKS_S)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    limit = time.monotonic() + 5
    while _reap(watch) and time.monotonic() < limit:
        time.sleep(_CLOCKS_S)
    return len(pids)


def _reap(watch: _Watch) -> list[int]:
    """Let go of adopted processes that have ended; the pids of those that have not."""
    pids = watch.look()
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return watch.look()


def _waited() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _everybody() -> dict[tuple[int, int], _Process]:
    """All processes of the machine, by pid and start."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError):
            text = Path("/proc", name, "stat").read_text(errors="replace")
            # The name of the program, in brackets, may hold anything.
            words = text[text.rindex(")") + 2 :].split()
            own, waited = int(words[11]) + int(words[12]), int(words[13]) + int(words[14])
            process = _Process(int(words[1]), own / _TICKS, waited / _TICKS)
            found[int(name), int(words[19])] = process
    return found


def _line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
    return ""


def _pss_kib(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0
