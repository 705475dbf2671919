"""The Python face: the same options as the command line, as keyword arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from vidembed.config import (
    CompareConfig,
    EmbedConfig,
    EvaluateConfig,
    LoadConfig,
    PlanConfig,
    RefreshConfig,
    SearchConfig,
    SimilarityConfig,
)
from vidembed.labels import ALONE

if TYPE_CHECKING:
    import os

    from vidembed.comparison import Comparison
    from vidembed.encode.registry import Device
    from vidembed.evaluation import Evaluation
    from vidembed.loading import Loaded
    from vidembed.planning import Plan
    from vidembed.query import Hit, Index, Similarity, TextHit
    from vidembed.refreshing import Refreshed
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


def evaluate(run: RunReport | str, queries: str | None = None, **options: Any) -> Evaluation:
    """Retrieval metrics of a run, for captions or labels of its videos.

    queries: a table, or a file as a data set ships it; None for the run's own columns. options:
    those of `vidembed evaluate`. In a session that has called `ray.init`, it runs there.

    Raises UsageError (nothing was started) or RunError.
    """
    from vidembed.evaluation import evaluate as job

    return job(EvaluateConfig.make({"run": _place(run), "queries": queries, **options}))


def refresh(
    manifest: str, out: str, *, alias: str, milvus: str, **options: Any
) -> Refreshed | None:
    """One round of a schedule: embed what is new, build a version of the index, move the alias if
    it passes its gate, evaluate, and report. options: those of `vidembed refresh`. In a session
    that has called `ray.init`, it runs there.

    Returns what was done; None where the last round is at work and `if_running="skip"` leaves this
    one out. With more failed videos than `max_failures` allows nothing is built, and the
    `exit_code` of the result is 3.

    Raises UsageError where nothing was begun (BusyError: the last round is at work), RefusedError
    for a version that finds too little, RunError for what else went wrong. The report is in
    OUT/refreshes also then.
    """
    from vidembed.refreshing import refresh as job

    options.setdefault("progress", "none")
    given = {"manifest": manifest, "out": out, "alias": alias, "milvus": milvus}
    done = job(RefreshConfig.make(given | options))
    if done is not None and done.cause is not None:
        raise done.cause
    return done


@overload
def search(text: None = None, *, texts: str, **options: Any) -> list[TextHit]: ...


@overload
def search(text: str | None = None, **options: Any) -> list[Hit]: ...


def search(text: str | None = None, **options: Any) -> list[Hit] | list[TextHit]:
    """The rows of a run or a collection nearest to a text or a video, best first.

    options: those of `vidembed search`: `run=` (a path, or what `embed` returned) or `milvus=`,
    `video=` or `id=` in place of a text, `top=`, `filter=`. With `texts=`, a file, the texts of
    which a video is ranked by, as TextHit. For more than one query there is `open`.
    """
    from vidembed import query

    if options.get("run") is not None:
        options["run"] = _place(options["run"])
    config = SearchConfig.make({"text": text, **options})
    return query.search(config) if config.texts is None else query.rank_texts(config)


def similarity(run: RunReport | str, texts: str, out: str, **options: Any) -> Similarity:
    """Write the scores of all texts of a file with all rows of a run; options: those of
    `vidembed similarity`. For a matrix in memory there is `open(run).similarity(texts)`.
    """
    from vidembed.query import similarity as job

    return job(SimilarityConfig.make({"run": _place(run), "texts": texts, "out": out, **options}))


def compare(
    a: Evaluation | RunReport | str, b: Evaluation | RunReport | str, **options: Any
) -> Comparison:
    """What differs between two evaluations of the same queries, and whether it may be chance.

    a, b: an evaluation or its folder, or a run that was evaluated. options: those of
    `vidembed compare`. Raises ConfigError where the two do not compare.
    """
    from vidembed.comparison import compare as job

    return job(CompareConfig.make({"a": _place(a), "b": _place(b), **options}))


def open(  # noqa: A001 - the name that users expect; nothing here opens files
    place: RunReport | str | os.PathLike[str],
    *,
    collection: str | None = None,
    encoder: str | None = None,
    weights: str | None = None,
    device: Device = "auto",
    memory: int | None = None,
    consistency: str | None = None,
) -> Index:
    """A run or a Milvus collection, open for many queries: `with vidembed.open("runs/a") as index:`

    place: a run's path, or what `embed` returned; or a Milvus: a path ending in .db, or http(s)://…
    collection: its name there, by default `videos`. encoder, weights: of the queries, where they
    are not those that the run or the collection names. device: where queries are encoded. memory:
    bytes of a run's vectors that are kept between queries, by default a quarter of the machine's;
    what is beyond is read again by each. consistency: of a collection's answers; by default its
    own, `Strong`, which waits for all that was written before, up to 0.2 s a query on a server;
    `Bounded` does not wait, and may miss what the last seconds brought.

    Raises ConfigError where there is no run or no collection, RunMismatchError for another encoder.
    """
    from vidembed.query import open_index

    return open_index(
        place,
        collection=collection,
        encoder=encoder,
        weights=weights,
        device=device,
        memory=memory,
        consistency=consistency,
    )


def plan(manifest: str, **options: Any) -> Plan:
    """Measure decode and encode on a sample of a manifest, and reckon what the corpus takes on
    which machines; options: those of `vidembed plan`, with underscores.

    Raises UsageError (nothing was measured) or RunError.
    """
    from vidembed.planning import plan as job

    return job(PlanConfig.make({"manifest": manifest, **options}))


def _place(made: Evaluation | RunReport | str) -> str:
    return made if isinstance(made, str) else made.out
