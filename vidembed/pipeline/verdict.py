"""What has held a job up: decoding, encoding, reads and writes, Milvus, or its start."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vidembed.report import StageStats, Statistics

# Of a stage's time: below it, the stage waited more than it worked, and is no bottleneck.
_BUSY = 0.5
_HALF = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """started: Unix time of the call's beginning; seconds: until all was written; projecting_s: of
    waiting for Milvus after that, for its backlog_rows.
    """

    started: float
    seconds: float
    projecting_s: float = 0.0
    backlog_rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """kind: `decode-bound`, `encode-bound`, `I/O-bound`, `projection-bound`, `starting-bound`,
    `unclear` or `nothing to do`; sentence: the same for people, with what it is based on.

    starting_s: until the first video was begun; working_s: from there to the last part written;
    projecting_s: of waiting for Milvus after that, when it lacked backlog_rows. busy: of each
    stage, the part of working_s that its workers were at work, 0 to 1. read_share:
    of the decoders' busy time, what they waited for remote files; cpu_share: what they spent on a
    CPU. sending_s: that write tasks and the driver waited for
    Milvus while the job worked. batch_fill: of each encoder, clips a batch over the batch size.
    """

    kind: str
    sentence: str
    starting_s: float = 0.0
    working_s: float = 0.0
    projecting_s: float = 0.0
    busy: dict[str, float]
    read_share: float = 0.0
    cpu_share: float = 0.0
    sending_s: float = 0.0
    backlog_rows: int = 0
    batch_fill: dict[str, float]


def judge(statistics: Statistics, times: Times) -> Verdict:
    """The verdict on a job of which the stages have told this."""
    stages = statistics.stages
    firsts = [stage.first for stage in stages.values() if stage.first is not None]
    lasts = [stage.last for stage in stages.values() if stage.last is not None]
    if not firsts:
        return Verdict(kind="nothing to do", sentence="nothing to do", busy={}, batch_fill={})
    first, last = min(firsts), max(lasts)
    decode = stages["decode"]
    found = Verdict(
        kind="",
        sentence="",
        starting_s=round(max(0.0, first - times.started), 3),
        working_s=round(last - first, 3),
        projecting_s=round(times.projecting_s, 3),
        busy={name: _busy(stage, last - first) for name, stage in stages.items()},
        read_share=_share(statistics.effort["read_s"], decode.busy_s),
        cpu_share=_share(statistics.effort["cpu_s"], decode.busy_s),
        sending_s=round(statistics.projection.busy_s, 3),
        backlog_rows=times.backlog_rows,
        batch_fill={
            name: round(stage.clips / stage.slots, 4)
            for name, stage in stages.items()
            if stage.slots
        },
    )
    kind, why = _largest(found, statistics)
    return _said(found, kind, why)


def _largest(found: Verdict, statistics: Statistics) -> tuple[str, str]:
    """By the phase that took longest; where that is the work itself, by its busiest stage."""
    work = found.working_s
    if found.projecting_s > max(found.starting_s, work):
        return "projection-bound", (
            f"Milvus lacked {found.backlog_rows:,} rows when all was written, and the job waited "
            f"{found.projecting_s:.1f} s until it showed them all, after {work:.1f} s of work"
        )
    if found.starting_s > work:
        busiest = max(found.busy, key=lambda name: found.busy[name])
        return "starting-bound", (
            f"{found.starting_s:.1f} s went by before the first video was begun, and the work took "
            f"{work:.1f} s: too short to tell more (busiest was {busiest}, "
            f"{found.busy[busiest]:.0%})"
        )
    return _of_the_work(found, statistics)


def _of_the_work(found: Verdict, statistics: Statistics) -> tuple[str, str]:
    stages = statistics.stages
    name = max(found.busy, key=lambda each: found.busy[each])
    stage, share = stages[name], found.busy[name]
    others = ", ".join(f"{n} {b:.0%}" for n, b in found.busy.items() if n != name)
    what = f"{name} was busy for {share:.0%} of {found.working_s:.1f} s of work ({others})"
    milvus = _share(statistics.projection.busy_s, stages["write"].busy_s)
    if share < _BUSY:
        return "unclear", (
            f"no stage was busy for half of its time: {what}; they waited for Ray, for actors that "
            f"came late, or for each other"
        )
    if name == "write" and milvus >= _HALF:
        return "projection-bound", f"{what}; {milvus:.0%} of that was waiting for Milvus"
    if name == "write":
        return "I/O-bound", f"{what}: writing parts to --out"
    if name == "decode" and found.read_share >= _HALF:
        return "I/O-bound", f"{what}; {found.read_share:.0%} of that was waiting for remote files"
    if name == "decode":
        reads = f"; {found.read_share:.0%} of that was waiting for remote files, "
        return "decode-bound", f"{what}{reads}{found.cpu_share:.0%} on a CPU"
    fill = found.batch_fill.get(name)
    filled = f"; batches were {fill:.0%} full" if fill is not None else ""
    return "encode-bound", f"{what}{filled}; encode workers: {len(stage.workers)}"


def _said(found: Verdict, kind: str, why: str) -> Verdict:
    return replace(found, kind=kind, sentence=f"{kind}: {why}")


def _busy(stage: StageStats, seconds: float) -> float:
    return round(stage.busy_share(max(seconds, 1e-3)), 4)


def _share(part: float, whole: float) -> float:
    return round(min(1.0, part / whole), 4) if whole else 0.0
