"""Options of the evaluation."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from vidembed.config.base import (
    COLLECTION,
    Config,
    Device,
    Numbers,
    Parameters,
    Words,
    option,
    positional,
)

Layout = Literal[
    "auto", "table", "msrvtt-1ka", "msrvtt", "msvd", "didemo", "youcook2", "mugen", "reverse-search"
]
Direction = Literal["text_to_video", "video_to_text", "video_to_video"]


class RerankOptions(Config):
    rerank: str | None = option(
        None, "tightTransf weights: the first results of a text are decoded and ranked again"
    )
    rerank_top: int = option(
        50, "how many --rerank ranks again; a search at least --top", ge=1, le=16384
    )
    allow_root: Words = option(
        (), "folders and starts of addresses that may be read; comma separated, repeatable"
    )


class QueryOptions(Config):
    """How a source of captions or labels is read."""

    layout: Layout = option("auto", "how --queries is laid out; auto knows the files by their look")
    split: str | None = option(None, "only this part of --queries, where it names its parts")
    text_column: str | None = option(None, "the queries' text column [default: caption, sentence]")


class EvaluationOptions(QueryOptions):
    """What is asked of a run, and how it is measured."""

    label_column: str | None = option(
        None, "videos with one label should find each other [default: label]"
    )
    query_run: str | None = option(
        None, "a run of the same encoder that holds the videos to search with [default: RUN]"
    )
    directions: Words = option(
        (), "text_to_video, video_to_text, video_to_video [default: all that the queries allow]"
    )
    k: Numbers = option((1, 5, 10, 50), "of R@k, mHR@k, mAP@k and nDCG@k; comma separated")
    ties: Literal["reference", "middle"] = option(
        "reference",
        "reference: as CLIP4Clip counts those that score the same; middle: by their mean rank",
    )
    also: Words = option(
        (), "also rank by dual-softmax, qb-norm; comma separated, beside the plain ranking"
    )
    query_bank: str | None = option(None, "a table of other texts, for qb-norm")
    by: Words = option((), "columns of queries or run to break the metrics down by")
    backend: Literal["exact", "milvus"] = option(
        "exact", "milvus: through the index of --collection, with the exact ranking beside it"
    )
    search_params: Parameters = option({}, 'of Milvus\'s index, as JSON: {"ef": 128}')
    sweep: str | None = option(
        None, "values of a search parameter to try in turn, for the curve: ef=16,32,64,128"
    )
    block_megabytes: int = option(256, "of scores that a worker holds at once", ge=1, le=65536)
    examples: int = option(24, "hits and misses that evaluation.html shows", ge=0, le=1000)

    @model_validator(mode="after")
    def _measured(self) -> Self:
        for name in ("sweep", "search_params"):
            if getattr(self, name) and self.backend != "milvus":
                raise ValueError(f"--{name.replace('_', '-')} is for --backend milvus")
        known = ("text_to_video", "video_to_text", "video_to_video")
        if unknown := set(self.directions) - set(known):
            raise ValueError(
                f"--directions {', '.join(sorted(unknown))}: expected some of {', '.join(known)}"
            )
        if unknown := set(self.also) - {"dual-softmax", "qb-norm"}:
            raise ValueError(
                f"--also {', '.join(sorted(unknown))}: expected dual-softmax or qb-norm"
            )
        if ("qb-norm" in self.also) != (self.query_bank is not None):
            raise ValueError("--also qb-norm and --query-bank need each other")
        if not self.k or min(self.k) < 1:
            raise ValueError("--k: expected whole numbers from 1")
        return self


class EvaluateConfig(EvaluationOptions, RerankOptions):
    """Retrieval metrics of a run: each query's rank among the run's videos."""

    run: str = positional("a run directory, local or s3://")
    queries: str | None = option(
        None,
        "captions or labels of the run's videos: a table, or a file as a data set ships it "
        "[default: the run's own columns]",
    )
    id_column: str | None = option(None, "the queries' column of ids [default: video_id, id]")
    out: str | None = option(None, "where results go [default: RUN/evaluation]")
    milvus: str | None = option(None, "a .db path or http://host:19530, for --backend milvus")
    collection: str = option("videos", "the Milvus collection", pattern=COLLECTION)
    weights: str | None = option(None, "weights, where they are not where the run had them")
    device: Device = option("auto", "where texts are encoded and vectors compared")
    ray_address: str | None = option(
        None,
        "a running Ray cluster to compare vectors on [default: RAY_ADDRESS, else this machine]",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.backend == "milvus") != (self.milvus is not None):
            raise ValueError("--backend milvus and --milvus need each other")
        if self.rerank is not None and self.milvus is not None:
            raise ValueError("--rerank sorts the exact first results again: not with --milvus")
        return self


class CompareConfig(Config):
    """Two evaluations of the same queries: what differs, and whether it may be chance."""

    a: str = positional("an evaluation's folder, or a run that was evaluated")
    b: str = positional("another")
    out: str | None = option(None, "where results go [default: B's folder]")
    k: Numbers = option((1, 5, 10), "of R@k; comma separated")
    rounds: int = option(10_000, "of the test of significance", ge=100, le=1_000_000)
    seed: int = option(0, "of the test of significance", ge=0)
    as_json: bool = option(False, "print JSON", alias="json")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.k or min(self.k) < 1:
            raise ValueError("--k: expected whole numbers from 1")
        return self
