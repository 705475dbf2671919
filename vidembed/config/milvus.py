"""Options of what goes into Milvus."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from vidembed.config.base import (
    COLLECTION,
    Config,
    Index,
    Metric,
    Parameters,
    Words,
    option,
    positional,
)


class CollectionOptions(Config):
    """What a new collection is like."""

    index: Index = option("AUTOINDEX", "the index that a new collection gets")
    metric: Metric | None = option(None, "the index's metric [default: the encoder's own]")
    index_params: Parameters = option(
        {}, 'of a new collection\'s index, as JSON: {"M": 32, "efConstruction": 400}'
    )
    vector_type: Literal["float32", "float16"] = option(
        "float32", "of a new collection's vectors; float16 takes half the memory, on a server"
    )
    partition_key: str | None = option(
        None, "metadata column by which a new collection is split; filters on it read less"
    )
    scalar_index: Words = option(
        (), "metadata columns that a new collection indexes for filters; comma separated"
    )
    milvus_patience: float = option(
        120.0, "seconds to wait at the end for a Milvus that is away", ge=0
    )


class MilvusOptions(CollectionOptions):
    milvus: str | None = option(
        None,
        "where vectors go besides Parquet: a path ending in .db (Milvus Lite) or "
        "http://host:19530; the token is read from MILVUS_TOKEN",
    )
    collection: str = option("videos", "the Milvus collection", pattern=COLLECTION)


class BulkOptions(Config):
    bulk: bool = option(
        False, "into a new collection, by Milvus's own import of files; needs a server and --stage"
    )
    stage: str | None = option(
        None,
        "where --bulk puts files for Milvus: a folder that the server reads by the same path, or "
        "s3://BUCKET/PREFIX of Milvus's own bucket",
    )
    bulk_megabytes: int = option(512, "of rows in a file of --bulk", ge=1, le=8192)

    @model_validator(mode="after")
    def _staged(self) -> Self:
        if self.bulk != (self.stage is not None):
            raise ValueError("--bulk and --stage need each other")
        return self


class LoadConfig(MilvusOptions, BulkOptions):
    """Project a run's vectors into Milvus; what is there already is not sent again."""

    run: str = positional("a run directory, local or s3://")
    milvus: str = option(..., "a path ending in .db (Milvus Lite) or http://host:19530")
