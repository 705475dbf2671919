"""An evaluation on one page: queries -> vectors -> rank -> metrics -> results.

A job of its own: it reads a run and never changes its vectors.
"""

from __future__ import annotations

import datetime
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from vidembed import sources
from vidembed.encode import registry
from vidembed.errors import ConfigError
from vidembed.evaluation import (
    bank,
    beside,
    page,
    postprocessed,
    queries,
    reranked,
    results,
    workers,
)
from vidembed.evaluation.directions import Described, Labels, Texts, places
from vidembed.evaluation.gallery import Gallery
from vidembed.evaluation.results import Evaluation
from vidembed.query import spec_of
from vidembed.rerank import Reranking
from vidembed.store.run import Run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vidembed.config import EvaluateConfig
    from vidembed.encode.spec import EncoderSpec
    from vidembed.evaluation.queries import Queries
    from vidembed.evaluation.ranking import Ranking
    from vidembed.evaluation.workers import Workers

TEXT_DIRECTIONS = ("text_to_video", "video_to_text")


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """What is asked of the run, with vectors. described: texts' videos, for video to text; bank: of
    other texts, float32 [bank, dim], for qb-norm; several of these are not asked for, and None.
    """

    texts: Texts | None
    described: Described | None
    labels: Labels | None
    bank: NDArray[np.float32] | None
    left_out: dict[str, int]
    layout: str


@dataclass(slots=True)
class Answers:
    """What was found: metrics by direction, rows of evaluation.parquet, and the rankings."""

    tables: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, pa.Table] = field(default_factory=dict)
    rankings: dict[str, Ranking] = field(default_factory=dict)


def evaluate(config: EvaluateConfig, run: Run | None = None) -> Evaluation:
    """Rank the run's videos for each query, and write what that says of the run.

    run: in place of the one that `config` names, such as several that are read as one.

    Raises ConfigError where queries and run do not fit, RunError for a damaged part, and what an
    encoder or Milvus raise. The results are written at the end, or nothing is.
    """
    began = time.monotonic()
    run = run or Run.open(config.run)
    out = sources.absolute(config.out or run.path("evaluation"))
    with ExitStack() as stack:
        # First of all: weights that do not fit must not cost an evaluation.
        reranking = _reranking(config, run, stack)
        gallery = Gallery.of(run)
        asked = _questions(config, gallery)
        if config.backend == "milvus":
            beside.check(config, asked, gallery)
        answers = _exact(config, asked, out)
        if reranking is not None:
            _rank_again(config, asked, answers, reranking)
    if config.backend == "milvus":
        beside.through_milvus(config, asked, gallery, answers)
    table = pa.concat_tables(answers.rows.values(), promote_options="default")
    result = answers.tables | {
        "left_out": asked.left_out,
        "layout": asked.layout,
        "encoder": run.identity["encoder"],
        "fingerprint": run.fingerprint,
        "metric": run.record["metric"],
        "backend": config.backend,
        "ties": config.ties,
        "k": list(config.k),
        "run": run.uri,
        "segments": gallery.rows if gallery.rows > gallery.videos else None,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - began, 3),
    }
    results.write(out, result, table)
    page.write(config, run, out, result, table)
    return Evaluation(out=out, result=result)


def _reranking(config: EvaluateConfig, run: Run, stack: ExitStack) -> Reranking | None:
    if config.rerank is None:
        return None
    return stack.enter_context(Reranking(config.rerank, config.device, run.uri, config.allow_root))


def _questions(config: EvaluateConfig, gallery: Gallery) -> Questions:
    found = queries.read(config, gallery.run, gallery.ids)
    results.check_breakdowns(config, found.texts, found.labels)
    texts, bank = _texts(config, found, gallery)
    labels = None if found.labels is None else Labels.of(config, found, gallery)
    left_out = dict(found.left_out)
    if found.texts is not None and texts is None:
        left_out["no text tower"] = len(found.texts)
    if labels is not None and labels.alone:
        left_out["label alone"] = left_out.get("label alone", 0) + labels.alone
    wanted = config.directions or (*TEXT_DIRECTIONS, "video_to_video")
    described = Described.of(texts) if texts and "video_to_text" in wanted else None
    return Questions(
        texts=texts if "text_to_video" in wanted else None,
        described=described,
        labels=labels,
        bank=bank,
        left_out=left_out,
        layout=found.layout,
    )


def _texts(
    config: EvaluateConfig, found: Queries, gallery: Gallery
) -> tuple[Texts | None, NDArray[np.float32] | None]:
    """The texts and the bank's, encoded; none where they were not asked for and the encoder has no
    text tower.
    """
    spec = None if found.texts is None else text_tower(config, gallery.run)
    if found.texts is None or spec is None:
        asked_for = found.labels is None or set(config.directions) & set(TEXT_DIRECTIONS)
        if found.texts is not None and asked_for:
            raise ConfigError(
                f"{gallery.run.identity['encoder']} has no text tower: it cannot rank videos for a "
                f"text; videos that have labels can look for each other (--label-column)"
            )
        _refuse_text_options(config)
        return None, None
    if config.also:
        postprocessed.check(str(gallery.run.record["metric"]))
    others = [] if config.query_bank is None else bank.read(config)
    encoder = registry.load(spec, config.device, "float32")
    texts = Texts(
        table=found.texts,
        vectors=encoder.encode_text(found.texts["text"].to_pylist()),
        wanted=places(found.texts["video_id"], gallery.ids),
        gallery=gallery,
    )
    if config.rerank is not None:
        reranked.check(gallery.run, texts)
    return texts, encoder.encode_text(others) if others else None


def text_tower(config: EvaluateConfig, run: Run) -> EncoderSpec | None:
    """The run's encoder, if it encodes texts; most that do not are known without their weights."""
    if "text" not in registry.entry(str(run.identity["encoder"])).modalities:
        return None
    spec = spec_of(run, config.weights)
    return spec if spec.context_length else None


def _refuse_text_options(config: EvaluateConfig) -> None:
    for name in ("rerank", "also"):
        if getattr(config, name):
            raise ConfigError(f"--{name} is for text to video, and there are no texts to ask with")


def _exact(config: EvaluateConfig, asked: Questions, out: str) -> Answers:
    """Every direction by the exact ranking."""
    found = Answers()
    runs = [each.gallery.run for each in (asked.texts, asked.labels) if each is not None]
    runs += [asked.described.videos.run] if asked.described else []
    with workers.hired(config, runs, out, _work(asked)) as pool:
        if asked.texts is not None:
            found.rankings["text_to_video"] = _text_to_video(config, asked, found, pool)
        if asked.described is not None:
            videos = asked.described
            ranking, nearest = videos.rank(_depth(config), pool)
            found.tables["video_to_text"] = videos.measured(config, ranking)
            found.rows["video_to_text"] = videos.rows(config, ranking, nearest)
        if asked.labels is not None:
            ranking = asked.labels.rank(_depth(config), pool)
            found.tables["video_to_video"] = asked.labels.measured(config, ranking)
            found.rows["video_to_video"] = asked.labels.rows(config, ranking)
            found.rankings["video_to_video"] = ranking
    return found


def _text_to_video(
    config: EvaluateConfig, asked: Questions, found: Answers, pool: Workers
) -> Ranking:
    texts, block_bytes = asked.texts, config.block_megabytes << 20
    assert texts is not None
    top = max(_depth(config), config.rerank_top if config.rerank else 0)
    ranking = texts.rank(top, pool)
    table = texts.measured(config, ranking)
    also = {}
    if "dual-softmax" in config.also:
        also["dual_softmax"] = postprocessed.dual_softmax(texts, block_bytes, pool)
    if asked.bank is not None:
        also["qb_norm"] = postprocessed.qb_norm(texts, asked.bank, ranking, block_bytes, pool)
    for name, other in also.items():
        table[name] = results.one_answer(config, other, texts.gallery.videos, several=texts.several)
    found.tables["text_to_video"] = table
    found.rows["text_to_video"] = texts.rows(config, ranking)
    return ranking


def _rank_again(
    config: EvaluateConfig, asked: Questions, found: Answers, reranking: Reranking
) -> None:
    if asked.texts is None:
        raise ConfigError("--rerank is for text to video, which --directions leaves out")
    ranking = found.rankings["text_to_video"]
    ranks, table = reranked.rank_again(config, reranking, asked.texts, ranking)
    found.tables["text_to_video_reranked"] = table
    found.rows["text_to_video"] = found.rows["text_to_video"].append_column(
        "reranked", pa.array(ranks)
    )


def _depth(config: EvaluateConfig) -> int:
    return max(results.SHOWN, *config.k)


def _work(asked: Questions) -> float:
    """How many products of two numbers all directions take together."""
    work = 0.0
    if asked.texts is not None:
        work += asked.texts.vectors.size * asked.texts.gallery.rows
    if asked.described is not None:
        work += asked.described.texts.vectors.size * asked.described.videos.rows
    if asked.labels is not None:
        work += asked.labels.asked.side.vectors.size * asked.labels.gallery.rows
    return work
