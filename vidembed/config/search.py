"""Options of the search, of the page, and of what compares texts with videos."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from vidembed.config.base import (
    COLLECTION,
    Config,
    Device,
    Parameters,
    Words,
    option,
    positional,
)
from vidembed.config.evaluate import RerankOptions


class IndexOptions(Config):
    """What is searched, and with which encoder."""

    run: str | None = option(None, "a run directory: exact search over its vectors")
    milvus: str | None = option(None, "a .db path or http://host:19530: search a collection")
    collection: str = option("videos", "the Milvus collection", pattern=COLLECTION)
    encoder: str | None = option(None, "[default: the run's, or the collection's]")
    weights: str | None = option(None, "[default: the run's, or the collection's]")
    device: Device = option("auto", "where queries are encoded")

    @property
    def is_one(self) -> bool:
        return (self.run is None) != (self.milvus is None)


class SearchConfig(RerankOptions, IndexOptions):
    """One query against a run, or against a Milvus collection."""

    text: str | None = Field(
        None, description="what to look for", json_schema_extra={"positional": True}
    )
    video: str | None = option(None, "look for videos like this file or address")
    id: str | None = option(None, "look for videos like this one, which is there already")
    texts: str | None = option(
        None, "a file of texts: rank these for --video or --id, in place of videos"
    )
    text_column: str | None = option(None, "of --texts [default: caption, sentence, text]")
    top: int = option(10, "how many results", ge=1, le=16384)
    filter: str | None = option(
        None, "only rows for which this holds, in Milvus's words: label == 'cat' and start_s < 60"
    )
    group_by: Literal["video"] | None = option(
        None, "video: of the segments of a video, the best alone"
    )
    search_params: Parameters = option({}, 'of Milvus\'s index, as JSON: {"ef": 128}')
    as_json: bool = option(False, "print JSON, one object a line", alias="json")

    @model_validator(mode="after")
    def _one_query(self) -> Self:
        if sum(given is not None for given in (self.text, self.video, self.id)) != 1:
            raise ValueError("give one of a text, --video FILE and --id ID")
        if self.texts is None and not self.is_one:
            raise ValueError("give --run RUN, or --milvus URI")
        if self.texts is not None:
            self._check_texts()
        if self.rerank is not None and self.text is None:
            raise ValueError("--rerank scores a text with videos: give a text")
        if self.search_params and self.milvus is None:
            raise ValueError("--search-params is for --milvus")
        return self

    def _check_texts(self) -> None:
        if self.text is not None:
            raise ValueError("--texts ranks texts for a video: give --video FILE or --id ID")
        for name in ("filter", "group_by", "rerank"):
            if getattr(self, name) is not None:
                flag = "--" + name.replace("_", "-")
                raise ValueError(f"{flag} is for a search of videos, --texts ranks texts")
        if not self.is_one and (self.id is not None or self.encoder is None):
            raise ValueError("give --run RUN, --milvus URI, or with --video an --encoder")


class SimilarityConfig(Config):
    """The scores of every text with every video of a run, as one matrix."""

    run: str = positional("a run directory, local or s3://")
    texts: str = option(..., "a file of texts: a table, or one text a line")
    out: str = option(..., "where the matrix goes: a path ending in .npy or .parquet")
    text_column: str | None = option(None, "of --texts [default: caption, sentence, text]")
    weights: str | None = option(None, "weights, where they are not where the run had them")
    device: Device = option("auto", "where texts are encoded")


class AppConfig(IndexOptions):
    """The page: text or video in, ranked playable videos out."""

    host: str = option("127.0.0.1", "the address to listen on; 0.0.0.0 is all of this machine's")
    port: int = option(7860, "0 takes a free one", ge=0, le=65535)
    title: str = option("vidembed", "over the page")
    top: int = option(12, "results at first", ge=1, le=200)
    example: Words = option((), "texts to offer; comma separated, repeatable")
    user: str = option("vidembed", "who logs in, where VIDEMBED_APP_PASSWORD is set")
    allow_root: Words = option(
        (), "folders and starts of addresses that the page may play; comma separated, repeatable"
    )
    allow_host: Words = option(
        (), "names besides under which a reverse proxy serves it; comma separated, repeatable"
    )
    max_upload: int = option(256, "megabytes of a video that is searched by", ge=1)

    @model_validator(mode="after")
    def _one_index(self) -> Self:
        if not self.is_one:
            raise ValueError("give --run RUN, or --milvus URI")
        return self
