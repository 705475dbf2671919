"""Commands that make and change runs and collections."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rich.table import Table

from vidembed.commands.console import console
from vidembed.imports import unswept
from vidembed.labels import ALONE

if TYPE_CHECKING:
    from vidembed.config import CompactConfig, EmbedConfig, LoadConfig
    from vidembed.report import RunReport


def embed(options: EmbedConfig) -> int:
    with unswept():
        from vidembed.pipeline.flow import embed as job

    reports = job(options)
    if ALONE in reports:
        show_report(reports[ALONE])
    else:
        for label, report in reports.items():
            print(f"{label}: {report}")
    return max(_ending(report) for report in reports.values())


def _ending(report: RunReport) -> int:
    """The exit code of one run; what its collection lacks is said."""
    if report.milvus and report.milvus["error"]:
        print(f"Milvus is not complete: of {report.clips:,} vectors {report.milvus['projected']:,} "
              f"are noted as sent. {report.milvus['error']}")  # fmt: skip
        print(f"  heal it: vidembed load {report.out} --milvus {report.milvus['uri']} "
              f"--collection {report.milvus['collection']}")  # fmt: skip
        return 1
    return 3 if report.too_many_failures else 0


def show_report(report: RunReport) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("videos embedded", f"{report.embedded:,} of {report.videos:,}")
    if report.done_before:
        table.add_row("finished before", f"{report.done_before:,} videos, by earlier runs")
    table.add_row("clips (vectors)", f"{report.clips:,}")
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in report.failures.items())
    table.add_row("videos failed", f"{report.failed:,}" + (f" ({kinds})" if kinds else ""))
    rate = f", {report.videos_per_s:.1f} videos/s, {report.clips_per_s:.1f} clips/s"
    table.add_row("time", f"{report.seconds:.1f} s" + (rate if report.clips_per_s else ""))
    table.add_row("bottleneck", report.bottleneck)
    if report.clips_per_s:
        table.add_row("verdict", report.verdict["sentence"])
    if report.object_store["peak_bytes"] is not None:
        table.add_row("object store", _store(report.object_store))
    if report.milvus and not report.milvus["error"]:
        where = f"{report.milvus['collection']} in {report.milvus['uri']}"
        table.add_row("Milvus", f"{report.milvus['rows']:,} rows in {where}")
    table.add_row("report", f"{report.out.rstrip('/')}/report.html")
    console().print(table)


def _store(found: dict[str, Any]) -> str:
    peak, limit, spilled = (
        found[name] / 1e6 for name in ("peak_bytes", "limit_bytes", "spilled_bytes")
    )
    told = f"at most {peak:,.0f} of {limit:,.0f} MB, a node {found['fullest_share']:.0%} full"
    return told + (f"; {spilled:,.0f} MB were spilled to disk" if spilled else "")


def load(options: LoadConfig) -> int:
    from vidembed.loading import load as job

    found = job(options, lambda sentence: print(sentence, file=sys.stderr, flush=True))
    for count, what in ((found.removed, "keys deleted that the run has no more"),
                        (found.missing, "rows written again that had got lost there")):  # fmt: skip
        if count:
            print(f"{count:,} {what}")
    print(
        f"{found.sent:,} rows sent; all {found.projected:,} keys of this run are in collection "
        f"{options.collection}, which has {found.rows:,} rows"
    )
    return 0


def compact(options: CompactConfig) -> int:
    from vidembed.store.compact import compact as job
    from vidembed.store.lease import held
    from vidembed.store.run import Run

    run = Run.open(options.run)
    with held(run.uri, lambda sentence: print(sentence, file=sys.stderr, flush=True)):
        found = job(Run.open(options.run), options.megabytes << 20)
    print(f"{found.parts:,} parts are {found.now:,} now")
    return 0
