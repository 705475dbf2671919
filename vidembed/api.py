"""The Python face: the same options as the command line, as keyword arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vidembed.config import EmbedConfig, EvaluateConfig, LoadConfig, SearchConfig
from vidembed.schema import ALONE

if TYPE_CHECKING:
    from vidembed.evaluation import Evaluation
    from vidembed.loading import Loaded
    from vidembed.query import Hit
    from vidembed.report import RunReport


def embed(manifest: str, out: str, **options: Any) -> Any:
    """Embed every video of a manifest into the run directory `out`, resuming what is there.

    options: those of `vidembed embed`, with underscores (`segment_seconds=4.0`). In a session
    that has called `ray.init`, it runs there.

    Returns a RunReport; with several encoders (`encoder=["a", "b"]`), which have a run each below
    `out`, a dict of the RunReport of each by its label.

    Raises UsageError (nothing was started) or RunError.
    """
    from vidembed.pipeline.flow import embed as job

    options.setdefault("progress", "none")
    reports = job(EmbedConfig.make({"manifest": manifest, "out": out, **options}))
    return reports.get(ALONE, reports)


def load(run: RunReport | str, milvus: str, **options: Any) -> Loaded:
    """Project a run's vectors into a Milvus collection; options: those of `vidembed load`."""
    from vidembed.loading import load as job

    return job(LoadConfig.make({"run": _place(run), "milvus": milvus, **options}))


def evaluate(run: RunReport | str, queries: str, **options: Any) -> Evaluation:
    """Retrieval metrics of a run for captioned queries; options: those of `vidembed evaluate`."""
    from vidembed.evaluation import evaluate as job

    return job(EvaluateConfig.make({"run": _place(run), "queries": queries, **options}))


def search(text: str | None = None, **options: Any) -> list[Hit]:
    """The rows of a run or a collection nearest to a text or a video, best first.

    options: those of `vidembed search`: `run=` (a path, or what `embed` returned) or `milvus=`,
    `video=` in place of a text, `top=`.
    """
    from vidembed.query import search as job

    if options.get("run") is not None:
        options["run"] = _place(options["run"])
    return job(SearchConfig.make({"text": text, **options}))


def _place(run: RunReport | str) -> str:
    return run if isinstance(run, str) else run.out
