"""What a job's processes hold and use, as the system counts it (/proc)."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

_TITLES = {
    "Decode": "decode", "decode": "decode", "Encode": "encode", "encode": "encode",
    "rite": "write", "MonitorState": "monitor",
}  # fmt: skip
HELPER = "Ray's other processes"
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """One process now. own_bytes: memory that is not mapped from files or shared; shared_bytes: of
    the object store, as far as it has been touched; cpu_s: so far.
    """

    pid: int
    parent: int
    kind: str
    own_bytes: int
    shared_bytes: int
    cpu_s: float
    born: int


def below(root: int) -> list[Process]:
    """`root` and all processes that it has started, and those that they have."""
    found = {p.pid: p for p in map(_read, _pids()) if p is not None}
    children = defaultdict(list)
    for process in found.values():
        children[process.parent].append(process.pid)
    pids, ours = [root], []
    while pids:
        pid = pids.pop()
        if pid in found:
            ours.append(found[pid])
            pids += children[pid]
    return ours


def named(process: Process, kind: str) -> Process:
    """The same process under another kind."""
    return replace(process, kind=kind)


def alive(process: Process) -> bool:
    """Whether this very process is still there, and no zombie or another of its number."""
    now = _read(process.pid)
    return now is not None and now.born == process.born


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _read(pid: int) -> Process | None:
    folder = Path("/proc") / str(pid)
    try:
        stat = (folder / "stat").read_text()
        words = (folder / "cmdline").read_bytes().split(b"\0")
        status = (folder / "status").read_text()
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    if fields[0] in "ZX":
        return None
    return Process(
        pid=pid,
        parent=int(fields[1]),
        kind=_kind([word.decode(errors="replace") for word in words]),
        own_bytes=_bytes(status, "RssAnon"),
        shared_bytes=_bytes(status, "RssShmem"),
        cpu_s=(int(fields[11]) + int(fields[12])) / _TICK,
        born=int(fields[19]),
    )


def _bytes(status: str, name: str) -> int:
    found = next((line for line in status.splitlines() if line.startswith(name + ":")), "0 0")
    return int(found.split()[1]) * 1024


def _kind(words: list[str]) -> str:
    title = words[0]
    if title.startswith("ray::"):
        for name, kind in _TITLES.items():
            if name in title:
                return kind
        return "other workers"
    name = os.path.basename(title)
    if name in ("raylet", "gcs_server"):
        return name
    return "driver" if "benchmarks.scaling.job" in words else HELPER
