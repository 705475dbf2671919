"""The whole system on a corpus that is drawn on the spot: no network, no GPU, no server."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vidembed import sources
from vidembed.commands.evaluation import show_evaluation
from vidembed.commands.runs import show_report
from vidembed.commands.search import show_hits
from vidembed.config import EmbedConfig, EvaluateConfig, SearchConfig
from vidembed.evaluation import evaluate
from vidembed.pipeline.flow import embed
from vidembed.query import search
from vidembed.synthetic import write_corpus

if TYPE_CHECKING:
    from vidembed.config import QuickstartConfig

_COLLECTION = "quickstart"


def quickstart(options: QuickstartConfig) -> int:
    """Draw videos, embed them, search them by text and by video, and score the search."""
    out = Path(options.out)
    corpus, run, database = out / "corpus", str(out / "run"), str(out / "run" / "milvus.db")
    _say(f"1. Drawing {options.videos} captioned videos (H.264) below {corpus}")
    manifest = str(write_corpus(corpus, options.videos, options.seed))
    _say("2. Embedding them: manifest, decode, encode, Parquet and Milvus Lite")
    sources.remove(database)
    (report,) = embed(
        EmbedConfig(
            manifest=manifest,
            out=run,
            encoder="clip4clip-tiny",
            milvus=database,
            collection=_COLLECTION,
            overwrite=True,
            progress=options.progress,
        )
    ).values()
    show_report(report)
    text, video = _example(manifest)
    _say(f"3. Searching the Milvus collection for “{text}”")
    show_hits(
        search(
            SearchConfig.make(
                {"text": text, "milvus": database, "collection": _COLLECTION, "top": 5}
            )
        )
    )
    _say(f"4. Searching the run for videos like {video}")
    show_hits(search(SearchConfig.make({"video": video, "run": run, "top": 3})))
    _say("5. Scoring: each caption is a query, its video the one right answer")
    evaluation = evaluate(EvaluateConfig(run=run, queries=manifest))
    show_evaluation(evaluation)
    _say("Next")
    print(f'  vidembed search "a red circle moving left" --run {run}')
    print(f"  open {run}/report.html and {run}/evaluation/evaluation.html")
    print(f"  vidembed app --run {run}   (after: pip install -c .ci/constraints.txt '.[app]')")
    print("  vidembed embed YOUR_FOLDER --out runs/first --encoder clip4clip --weights …")
    print("The tiny encoder knows drawn shapes only; `vidembed encoders` lists those for footage.")
    return 0


def _say(text: str) -> None:
    print(f"\n{text}", flush=True)
    sys.stdout.flush()


def _example(manifest: str) -> tuple[str, str]:
    """The caption and the path of the corpus's first video."""
    with open(manifest, newline="", encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    return row["caption"], str(Path(manifest).parent / row["uri"])
