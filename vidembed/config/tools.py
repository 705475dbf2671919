"""Options of the commands around the jobs."""

from __future__ import annotations

from pydantic import Field

from vidembed.config.base import Config, Progress, option


class QuickstartConfig(Config):
    """Make a captioned corpus, embed it, search it, and score the search."""

    out: str = option("quickstart", "the folder that everything goes into")
    videos: int = option(200, "how many videos are drawn", ge=10, le=100_000)
    seed: int = option(2026, "another seed draws other videos")
    progress: Progress = option("auto", "how progress is shown")


class EncodersConfig(Config):
    """The table of encoders; with NAME, how to get its weights and use it."""

    name: str | None = Field(
        None, description="one encoder", json_schema_extra={"positional": True}
    )


class DoctorConfig(Config):
    """What this machine has and lacks, what each lack costs, and how to mend it."""

    milvus: str | None = option(None, "also try this Milvus")
    s3: str | None = option(None, "also try to list this s3:// address")
    encoder: str | None = option(None, "also look for the weights of this encoder")
    weights: str | None = option(None, "the weights to look for")
