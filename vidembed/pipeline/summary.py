"""The beginning and the end of a run on paper: run.json, report.json, report.html."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from vidembed import sources
from vidembed._version import __version__
from vidembed.pages import report as report_page
from vidembed.pipeline.verdict import Times, Verdict, judge
from vidembed.report import RunReport, Statistics, bottleneck, stages_of, timeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidembed.config import EmbedConfig
    from vidembed.encode.spec import EncoderSpec
    from vidembed.pipeline.lanes import Lane
    from vidembed.pipeline.object_store import StoreUse
    from vidembed.report import StageStats
    from vidembed.store.done import Done
    from vidembed.store.run import Run

_EXAMPLES_PER_CLASS = 3
_PACKAGES = (
    "ray",
    "torch",
    "transformers",
    "decord2",
    "av",
    "pyarrow",
    "pymilvus",
    "numpy",
    "pillow",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """total: rows of the manifest; pending: those that this run had to do; clips: vectors that it
    has got; store: of Ray's objects, while it worked; projecting_s: of waiting for Milvus when all
    was written.
    """

    total: int
    pending: int
    clips: int
    seconds: float
    started: float
    store: StoreUse
    run_id: str
    projecting_s: float


# The line of a traceback that names what was raised.
_RAISED = re.compile(r"[A-Za-z_][\w.]*(Error|Exception): \S")


def record(config: EmbedConfig, spec: EncoderSpec) -> dict[str, Any]:
    """What run.json says: what was asked for, what makes its vectors comparable, and versions."""
    segments = {"seconds": config.segment_seconds, "stride": config.segment_stride}
    return {
        "vidembed": __version__,
        "identity": {**spec.identity, "segments": segments},
        "fingerprint": spec.fingerprint,
        "dim": spec.dim,
        "metric": spec.metric,
        "weights": spec.weights,
        "config": config.plain(),
        "versions": versions(),
        "created": _now(time.time()),
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "vidembed": __version__}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def finish(
    lane: Lane,
    counts: Counts,
    after: Done,
    statistics: Statistics | None,
    projected: dict[str, Any] | None,
) -> RunReport:
    """Write report.json and report.html of one run, and return the report.

    Where there was nothing to do, the page of the run that did it all is left as it is.
    """
    run, config = lane.run, lane.config
    failures, examples = _failures(run)
    worked = bool(statistics and counts.pending)
    if statistics is None or not worked:
        statistics = Statistics(counts.started, [lane.label])
    seconds = max(counts.seconds, 1e-9)
    stages = stages_of(statistics, lane.label)
    # Of all stages: another encoder may be what this one's clips have waited for.
    shares = {name: stage.busy_share(seconds) for name, stage in statistics.stages.items()}
    report = RunReport(
        out=run.uri,
        encoder=str(run.identity["encoder"]),
        fingerprint=run.fingerprint,
        videos=counts.total,
        done_before=counts.total - counts.pending,
        embedded=after.embedded,
        failed=after.failed,
        clips=after.clips,
        failures=failures,
        failure_examples=examples,
        seconds=round(counts.seconds, 3),
        videos_per_s=round(counts.pending / seconds, 3),
        clips_per_s=round(counts.clips / seconds, 3),
        stages={name: _stage(stage, seconds) for name, stage in stages.items()},
        decode={name: _rounded(name, value) for name, value in sorted(statistics.effort.items())},
        bottleneck=bottleneck(shares) if counts.pending else "nothing to do",
        timeline=timeline(statistics, stages),
        object_store=asdict(counts.store),
        milvus=projected,
        max_failures=str(config.max_failures),
        too_many_failures=config.max_failures.exceeded(after.failed, counts.total),
        versions=versions(),
        started=_now(counts.started),
        run_id=counts.run_id,
        verdict=asdict(_verdict(counts, statistics, projected)),
    )
    if worked or projected or not sources.exists(run.path("report.json")):
        sources.write_whole(run.path("report.json"), report.json().encode())
    page = report_page.render(report, statistics.thumbnails)
    if worked or not sources.exists(run.path("report.html")):
        sources.write_whole(run.path("report.html"), page.encode())
    return report


def _rounded(name: str, amount: float) -> float:
    return round(amount, 3) if name.endswith("_s") else int(amount)


def _verdict(counts: Counts, statistics: Statistics, projected: dict[str, Any] | None) -> Verdict:
    backlog = (projected or {}).get("backlog_rows", 0)
    times = Times(
        started=counts.started,
        seconds=counts.seconds,
        projecting_s=counts.projecting_s,
        backlog_rows=int(backlog),
    )
    return judge(statistics, times)


def _stage(stage: StageStats, seconds: float) -> dict[str, float]:
    return {
        "workers": len(stage.workers),
        "busy_s": round(stage.busy_s, 3),
        "busy_share": round(stage.busy_share(seconds), 4),
        "clips": stage.clips,
    }


def compare_with_last(run: Run, there: Done, say: Callable[[str], None]) -> None:
    """Say so where a run has less than its last report: somebody has deleted parts."""
    try:
        last = json.loads(sources.read_whole(run.path("report.json")))
        embedded, failed = int(last["embedded"]), int(last["failed"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return
    lost = embedded + failed - there.embedded - there.failed
    if lost > 0:
        say(
            f"{run.uri} has {lost:,} videos less than its last report says: parts were deleted, or "
            f"a job that took some out was stopped. Those of the manifest are done again"
        )


def _failures(run: Run) -> tuple[dict[str, int], list[dict[str, str]]]:
    counts: dict[str, int] = {}
    examples: list[dict[str, str]] = []
    for _, table in run.iterate(["video_id", "uri", "stage", "error", "message"], "failures"):
        for entry in pc.value_counts(table["error"]).to_pylist():
            kind = entry["values"]
            if counts.get(kind, 0) < _EXAMPLES_PER_CLASS:
                some = table.filter(pc.equal(table["error"], kind))
                room = _EXAMPLES_PER_CLASS - counts.get(kind, 0)
                examples += some.slice(0, room).to_pylist()
            counts[kind] = counts.get(kind, 0) + entry["counts"]
    return dict(sorted(counts.items(), key=lambda kv: -kv[1])), examples


def cause(error: BaseException) -> str:
    """The one line of an error from a worker that says what went wrong."""
    inner: Any = error
    seen: list[str] = []
    while inner is not None:
        seen.append(str(inner))
        inner = getattr(inner, "cause", None) or inner.__cause__
    lines = [line.strip() for text in reversed(seen) for line in text.splitlines() if line.strip()]
    for line in reversed(lines):
        if line.startswith("vidembed.errors."):
            return line.partition(": ")[2]
    # Ray Data closes with advice on its own settings, which hides whose error it was.
    theirs = [line for line in lines if _RAISED.match(line) and not line.startswith("ray.")]
    return (theirs or lines or [type(error).__name__])[-1]


def _now(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
