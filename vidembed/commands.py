"""What each command prints: tables for people on standard output, one fact a line elsewhere."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from vidembed.encode import registry
from vidembed.schema import ALONE

if TYPE_CHECKING:
    from vidembed.config import (
        CompactConfig,
        EmbedConfig,
        EncodersConfig,
        EvaluateConfig,
        LoadConfig,
        SearchConfig,
    )
    from vidembed.encode.entry import Entry
    from vidembed.evaluation import Evaluation
    from vidembed.query import Hit
    from vidembed.report import RunReport


def embed(options: EmbedConfig) -> int:
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
    if report.milvus and not report.milvus["error"]:
        where = f"{report.milvus['collection']} in {report.milvus['uri']}"
        table.add_row("Milvus", f"{report.milvus['rows']:,} rows in {where}")
    table.add_row("report", f"{report.out.rstrip('/')}/report.html")
    console().print(table)


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


def evaluate(options: EvaluateConfig) -> int:
    from vidembed.evaluation import evaluate as job

    evaluation = job(options)
    show_evaluation(evaluation)
    print(f"written to {evaluation.out}")
    return 0


def show_evaluation(evaluation: Evaluation) -> None:
    directions = {k: v for k, v in evaluation.result.items() if isinstance(v, dict)}
    columns = ["R@1", "R@5", "R@10", "MdR", "MnR", "MRR", "queries", "gallery"]
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    for direction, values in directions.items():
        table.add_row(
            direction.replace("_to_", "→").replace("_", ", "),
            *(_number(values[c]) for c in columns),
        )
    console().print(table)
    if left_out := evaluation.result["left_out"]:
        print(f"{left_out:,} queries left out: they are empty, or their videos are not in the run")


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def search(options: SearchConfig) -> int:
    from vidembed.query import search as job

    hits = job(options)
    if options.as_json:
        for hit in hits:
            print(json.dumps(hit.plain(), default=str))
    else:
        show_hits(hits)
    return 0


def show_hits(hits: list[Hit]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("", justify="right")
    table.add_column("score", justify="right")
    again = any(hit.first_score is not None for hit in hits)
    if again:
        table.add_column("first", justify="right")
    for name in ("id", "seconds", "metadata", "uri"):
        table.add_column(name, overflow="fold")
    for rank, hit in enumerate(hits, start=1):
        facts = "  ".join(str(v) for v in hit.metadata.values() if v is not None)
        window = f"{hit.start_s:.1f}–{hit.end_s:.1f}"
        scores = [f"{hit.score:.4f}"]
        if again and hit.first_score is not None:
            scores.append(f"{hit.first_score:.4f}")
        elif again:
            # Not decoded again: its score is the search's.
            scores = ["–", *scores]
        table.add_row(str(rank), *scores, hit.id, window, facts[:120], hit.uri)
    console().print(table)


def encoders(options: EncodersConfig) -> int:
    if options.name is not None:
        _one_encoder(registry.entry(options.name))
        return 0
    table = Table(box=None, pad_edge=False)
    columns = ("name", "modalities", "dim", "frames", "size", "parameters", "GMACs", "weights")
    for name in (*columns, "licence"):
        table.add_column(name, overflow="fold")
    for row in registry.ENTRIES.values():
        weights = "shipped" if row.shipped else row.weights or "yours"
        table.add_row(
            row.name,
            ", ".join(row.modalities),
            row.dim,
            row.frames,
            str(row.default.resize.crop),
            row.parameters,
            row.gmacs,
            weights,
            row.licence,
        )
    console().print(table)
    print("\nvidembed encoders NAME says how to get the weights of one and how to use it.")
    return 0


def _one_encoder(row: Entry) -> None:
    size = row.default.resize.crop
    facts: dict[str, Any] = {
        "modalities": ", ".join(row.modalities),
        "dim": row.dim,
        "frames": row.frames,
        "size": f"{size} x {size} pixels",
        "metric": row.metric,
        **{f"--preset {name}": preset.text for name, preset in row.presets.items()},
        "parameters": row.parameters,
        "GMACs a clip": row.gmacs,
        "licence": row.licence,
        "source": row.source,
        "weights": row.obtain,
        "published": row.published,
        "notes": "\n".join(row.notes),
    }
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in facts.items():
        if value:
            table.add_row(name, value)
    console().print(f"{row.name}\n")
    console().print(table)
    given = "" if row.shipped else " --weights FOLDER_OR_FILE"
    print(f"\nvidembed embed MANIFEST --out RUN --encoder {row.name}{given}")


def console() -> Console:
    """Standard output for people. Not narrower than a report needs where it is no terminal."""
    found = Console(highlight=False, soft_wrap=False)
    return found if found.is_terminal else Console(highlight=False, width=160)
