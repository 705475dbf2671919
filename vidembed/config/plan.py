"""Options of the plan."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, model_validator

from vidembed.config.base import Words, option
from vidembed.config.embed import EmbedConfig, StageOptions


def _rates(value: object) -> object:
    """`L4=300,A10G=280`, or `300` for every kind of GPU; a mapping or a number from YAML."""
    if isinstance(value, dict):
        return {str(kind): _rate(rate) for kind, rate in value.items()}
    words = value if isinstance(value, list | tuple) else str(value).split(",")
    found: dict[str, float] = {}
    for word in words:
        kind, _, rate = str(word).strip().rpartition("=")
        found[kind] = _rate(rate)
    return found


def _rate(value: object) -> float:
    try:
        rate = float(str(value))
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise ValueError("expected CLIPS_PER_S, or GPU=CLIPS_PER_S, comma separated, above 0")
    return rate


Rates = Annotated[dict[str, float], BeforeValidator(_rates)]


class PlanConfig(StageOptions):
    """Measure decode and encode on a sample, and say what a corpus needs, takes and costs."""

    sample: int = option(40, "videos that are measured, spread over the manifest", ge=2, le=10_000)
    seed: int = option(0, "another seed draws another sample")
    videos: int | None = option(
        None, "videos of the corpus, where the manifest is only a part of it", ge=1
    )
    prices: str | None = option(None, "YAML of node types [default: the file that ships]")
    spot: bool = option(False, "reckon with spot prices, of the node types that have one")
    nodes: Words = option(
        (), "clusters to look at, TYPE=COUNT+TYPE=COUNT, comma separated [default: a choice]"
    )
    cpus: int | None = option(None, "look at a cluster of so many CPUs, without prices", ge=1)
    gpus: int | None = option(None, "and so many GPUs", ge=0)
    deadline: float | None = option(None, "hours: how many nodes are done by then", gt=0)
    encode_rate: Rates = option(
        {}, "clips/s of a GPU that is not here: N, or KIND=N, comma separated; by an encode actor"
    )
    cpu_speed: float = option(1.0, "of a CPU of the nodes, as a multiple of one here", gt=0)
    start_up: float | None = option(
        None,
        "seconds that a run takes besides its videos [default: measured, by a run of one]",
        ge=0,
    )
    efficiency: float | None = option(
        None, "what stages reach beside each other and Ray, of what each does by itself "
        "[default: measured, by a run of the sample]", gt=0, le=2,
    )  # fmt: skip
    store: str | None = option(
        None, "a folder or s3:// prefix where a scratch run is written and deleted again, of the "
        "kind that --out will be [default: the temporary folder]",
    )  # fmt: skip
    milvus: str | None = option(
        None, "write rows into a scratch collection there, which is dropped again"
    )
    milvus_rate: float | None = option(
        None, "rows/s that a Milvus takes, in place of --milvus", gt=0
    )
    as_json: bool = option(False, "print all numbers and assumptions as JSON", alias="json")
    out: str | None = option(None, "write that JSON into this file, too")

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.gpus is not None and self.cpus is None:
            raise ValueError("--gpus needs --cpus: a GPU is fed by CPUs")
        if self.milvus is not None and self.milvus_rate is not None:
            raise ValueError("--milvus measures what --milvus-rate says: give one")
        if self.decoder == "torchcodec" and self.device == "cuda":
            raise ValueError("--decoder torchcodec with --device cuda decodes on GPUs, of which "
                             "there is no plan; measure a run itself, with --limit")  # fmt: skip
        return self

    def embedding(self, out: str, **changes: Any) -> EmbedConfig:
        """The options of an `embed` of the same manifest into `out`."""
        shared = {name: getattr(self, name) for name in StageOptions.model_fields}
        return EmbedConfig.make({**shared, "out": out, **changes})
