"""Options of the re-index."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from vidembed.config.base import COLLECTION, Words, option
from vidembed.config.evaluate import QueryOptions
from vidembed.config.milvus import BulkOptions, CollectionOptions


class VersionOptions(CollectionOptions, BulkOptions):
    """Versions of a collection behind an alias, and when one may take another's place."""

    alias: str = option(..., "the name by which readers know the collection", pattern=COLLECTION)
    milvus: str = option(..., "a path ending in .db (Milvus Lite) or http://host:19530")
    incremental: bool = option(
        False, "bring the live version up to date in its place, instead of building a new one"
    )
    force: bool = option(False, "build a version even where nothing has changed")
    keep: int = option(2, "versions that stay, the live one counted", ge=1, le=1000)
    min_recall: float = option(
        0.95, "recall@10 of the index against exact search, below which it is refused", ge=0, le=1
    )
    recall_sample: int = option(200, "vectors that --min-recall is measured with", ge=1, le=16384)
    gate_queries: str | None = option(
        None, "captioned videos: the new version must find them as well as the live one does"
    )
    gate_margin: float = option(
        0.01, "how much lower R@10 of --gate-queries may be than the live version's", ge=0, le=1
    )

    @model_validator(mode="after")
    def _in_place_or_in_bulk(self) -> Self:
        if self.incremental and self.bulk:
            raise ValueError("--bulk fills a new version; --incremental builds none")
        return self


class ReindexConfig(VersionOptions, QueryOptions):
    """Build a new version of a collection from runs, verify it, and put it in the alias's place."""

    runs: Words = option(
        (), "run directories of one encoder; of a video in several, the last one's rows count"
    )
    id_column: str | None = option(None, "the queries' column of ids [default: video_id, id]")
    weights: str | None = option(
        None, "weights for --gate-queries, where they are not where the runs had them"
    )
    rollback: bool = option(False, "put the version before the live one back in its place")
    status: bool = option(False, "say which versions there are, and which one is live")
    dry_run: bool = option(False, "say what would be done, and do nothing")

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        if self.rollback and self.status:
            raise ValueError("give one of --rollback and --status")
        if (self.rollback or self.status) and self.runs:
            raise ValueError("--runs is for building; --rollback and --status take none")
        if not (self.rollback or self.status or self.runs):
            raise ValueError("--runs is required")
        return self
