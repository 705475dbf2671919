"""Every option, described once: the command line, a YAML file and Python are three faces of this.

A field's name is its flag (`segment_seconds` is `--segment-seconds`), its YAML key and its keyword
argument. A secret is never an option: its environment variable is named in the description.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic import model_validator as _model_validator

from vidembed import sources
from vidembed.amounts import ActorRange, FailureLimit
from vidembed.choice import Choice, one_or_a_list, one_or_several
from vidembed.errors import FAILURES, ConfigError
from vidembed.schema import ALONE

if TYPE_CHECKING:
    from collections.abc import Mapping

Metric = Literal["COSINE", "IP", "L2"]
Index = Literal["FLAT", "IVF_FLAT", "HNSW", "DISKANN", "AUTOINDEX"]


def _listed(value: object) -> object:
    """`a,b` as a flag spells it; a list, from YAML or Python, is taken item by item."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(value) if isinstance(value, list) else value


Actors = Annotated[ActorRange | None, BeforeValidator(ActorRange.parse)]


def _parameters(value: object) -> object:
    """JSON, as a flag spells it, or a mapping of YAML or Python."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError("expected a JSON object") from None


Parameters = Annotated[dict[str, Any], BeforeValidator(_parameters)]
Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Names = Annotated[str | tuple[str, ...], BeforeValidator(one_or_several)]
Paths = Annotated[str | tuple[str, ...] | None, BeforeValidator(one_or_a_list)]
MostFailures = Annotated[FailureLimit, BeforeValidator(FailureLimit.parse)]


def _positional(description: str) -> Any:
    return Field(description=description, json_schema_extra={"positional": True})


def _option(default: Any, description: str, **limits: Any) -> Any:
    return Field(default, description=description, **limits)


class Config(BaseModel):
    """Options of one command. Unknown names are errors; nothing changes after."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    @classmethod
    def make(cls, options: Mapping[str, Any]) -> Self:
        """Options from anywhere; ConfigError with one line for each that is wrong."""
        try:
            return cls(**{k.replace("-", "_"): v for k, v in options.items()})
        except ValidationError as error:
            lines = [_readable(problem, cls) for problem in error.errors()]
            raise ConfigError("; ".join(lines)) from None

    def plain(self) -> dict[str, Any]:
        """As JSON values, for `run.json` and YAML."""
        return {
            name: str(value)
            if isinstance(value, ActorRange | FailureLimit)
            else list(value)
            if isinstance(value, tuple)
            else value
            for name, value in self
        }


def _readable(problem: Any, cls: type[Config]) -> str:
    if not problem["loc"]:
        return str(problem["msg"]).removeprefix("Value error, ")
    name = str(problem["loc"][0])
    extra = cls.model_fields[name].json_schema_extra if name in cls.model_fields else None
    is_positional = bool(extra)
    flag = name.upper() if is_positional else "--" + name.replace("_", "-")
    if problem["type"] == "extra_forbidden":
        return f"unknown option {flag}"
    if problem["type"] == "missing":
        return f"{flag} is required"
    text = str(problem["msg"]).removeprefix("Value error, ")
    return f"{flag}: {text[0].lower() + text[1:]}, got {problem['input']!r}"


class MilvusOptions(Config):
    milvus: str | None = _option(
        None,
        "where vectors go besides Parquet: a path ending in .db (Milvus Lite) or "
        "http://host:19530; the token is read from MILVUS_TOKEN",
    )
    collection: str = _option("videos", "the Milvus collection", pattern=r"^[A-Za-z_]\w*$")
    index: Index = _option("AUTOINDEX", "the index that a new collection gets")
    metric: Metric | None = _option(None, "the index's metric [default: the encoder's own]")
    index_params: Parameters = _option(
        {}, 'of a new collection\'s index, as JSON: {"M": 32, "efConstruction": 400}'
    )
    vector_type: Literal["float32", "float16"] = _option(
        "float32", "of a new collection's vectors; float16 takes half the memory, on a server"
    )
    partition_key: str | None = _option(
        None, "metadata column by which a new collection is split; filters on it read less"
    )
    scalar_index: Words = _option(
        (), "metadata columns that a new collection indexes for filters; comma separated"
    )
    milvus_patience: float = _option(
        120.0, "seconds to wait at the end for a Milvus that is away", ge=0
    )


class EmbedConfig(MilvusOptions):
    """manifest -> decode -> encode -> Parquet, and Milvus where --milvus is given."""

    manifest: str = _positional(
        "Parquet, CSV, JSONL, a folder of them, or a folder of videos; a path, s3:// or other URL"
    )
    out: str = _option(
        ...,
        "the run directory, local or s3://; an existing run is resumed; with several encoders the "
        "folder of their runs",
    )
    encoder: Names = _option(
        "clip4clip",
        "see `vidembed encoders`; several, comma separated, share one decoding; LABEL:NAME tells "
        "apart two of one name",
    )
    weights: Paths = _option(
        None,
        "file, folder, address or hub id; with several encoders LABEL=PATH, comma separated "
        "[default: the encoder's own]",
    )
    preset: Paths = _option(
        None,
        "a named sampling and preprocessing, see `vidembed encoders NAME`; with several encoders "
        "LABEL=PRESET, comma separated [default: that of the weights]",
    )
    frames: int | None = _option(None, "frames a clip [default: the encoder's own]", ge=1, le=4096)
    sampling: Literal["uniform", "fps", "clip4clip", "fast", "keyframes"] | None = _option(
        None, "which frames [default: the encoder's own]"
    )
    fps: float | None = _option(None, "frames per second of --sampling fps [default: 1]", gt=0)
    segment_seconds: float | None = _option(None, "cut videos into segments of this length", gt=0)
    segment_stride: float | None = _option(
        None, "seconds from one segment's start to the next [default: --segment-seconds]", gt=0
    )
    decoder: Literal["auto", "decord", "pyav", "torchcodec"] = _option(
        "auto", "auto decodes only what is needed; torchcodec with --device cuda uses NVDEC"
    )
    min_frames: float = _option(
        1.0, "share of a clip's frames that must be undamaged, 0 to 1", gt=0, le=1
    )
    aspect: Literal["coded", "display"] = _option(
        "coded", "display: make pixels square where a file says that they are not"
    )
    decode_timeout: float = _option(300.0, "seconds a video may take to decode", gt=0)
    decode_memory: float = _option(4.0, "GiB that decoding a video may take", gt=0)
    max_gigabytes: float = _option(64.0, "larger files fail as TooLarge", gt=0)
    max_megapixels: float = _option(64.0, "larger pictures fail as TooLarge", gt=0)
    max_video_frames: int = _option(2_000_000, "videos of more frames fail as TooLarge", ge=1)
    max_hours: float = _option(24.0, "longer videos fail as TooLarge", gt=0)
    batch_size: int = _option(16, "clips a batch of the encoder", ge=1, le=65536)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = _option(
        "auto", "auto: bfloat16 on CUDA, float32 on a CPU"
    )
    device: Literal["auto", "cpu", "cuda"] = _option(
        "auto", "auto: CUDA where the cluster has GPUs"
    )
    decode_actors: Actors = _option(None, "MIN[:MAX] [default: what the cluster's CPUs allow]")
    encode_actors: Actors = _option(None, "MIN[:MAX] [default: one for each GPU, 1 without]")
    gpus_per_actor: float = _option(1.0, "GPUs an encode actor holds; 0.5 puts two on one", gt=0)
    limit: int | None = _option(None, "only the first N rows of the manifest", ge=1)
    retry_failures: Words = _option(
        (), "try failed videos again: all, or of these classes; comma separated"
    )
    prune: bool = _option(
        False, "take out of the run, and of Milvus, what the manifest does not have any more"
    )
    redo_changed: bool = _option(
        False, "look at every source, and do those again that have changed since they were embedded"
    )
    overwrite: bool = _option(False, "delete what an earlier run left in --out, and start anew")
    max_failures: MostFailures = _option(
        FailureLimit(None, 100.0), "N or P%: with more failed videos the exit code is 3"
    )
    ray_address: str | None = _option(
        None, "a running Ray cluster [default: RAY_ADDRESS, else one is started here]"
    )
    progress: Literal["auto", "bar", "plain", "none"] = _option("auto", "how progress is shown")
    id_column: str | None = _option(None, "the manifest's column of ids [default: video_id, id]")
    uri_column: str | None = _option(
        None, "the manifest's column of paths [default: uri, path, video_path]"
    )
    allow_root: Words = _option(
        (),
        "folders and starts of addresses that the manifest may name; comma separated, repeatable",
    )

    @_model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.segment_stride is not None and self.segment_seconds is None:
            raise ValueError("--segment-stride needs --segment-seconds")
        if self.fps is not None and self.sampling not in (None, "fps", "clip4clip"):
            raise ValueError("--fps is for --sampling fps or clip4clip")
        if unknown := set(self.retry_failures) - {"all", *FAILURES}:
            raise ValueError(
                f"--retry-failures {', '.join(sorted(unknown))}: expected all, or some of "
                f"{', '.join(FAILURES)}"
            )
        for name in ("prune", "redo_changed"):
            if getattr(self, name) and self.limit is not None:
                flag = "--" + name.replace("_", "-")
                raise ValueError(f"{flag} takes the whole manifest, and --limit a part of it")
        collections: dict[str, str] = {}
        for choice in self.choices:
            other = collections.setdefault(self.alone(choice).collection, choice.name)
            if other != choice.name:
                raise ValueError(
                    f"--encoder: {other!r} and {choice.name!r} would have one Milvus collection; "
                    f"use labels that differ in letters or digits"
                )
        return self

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The encoders, in their order."""
        return Choice.of(self.encoder, self.weights, self.preset)

    def alone(self, choice: Choice) -> EmbedConfig:
        """The options with which one encoder would go into its run by itself."""
        if choice.label == ALONE:
            return self
        name = re.sub(r"[^A-Za-z0-9_]", "_", choice.label)
        return self.model_copy(
            update={
                "out": sources.join(self.out, choice.label),
                "encoder": choice.encoder,
                "weights": choice.weights,
                "preset": choice.preset,
                "collection": f"{self.collection}_{name}",
            }
        )


class LoadConfig(MilvusOptions):
    """Project a run's vectors into Milvus; what is there already is not sent again."""

    run: str = _positional("a run directory, local or s3://")
    milvus: str = _option(..., "a path ending in .db (Milvus Lite) or http://host:19530")
    bulk: bool = _option(
        False, "into a new collection, by Milvus's own import of files; needs a server and --stage"
    )
    stage: str | None = _option(
        None,
        "where --bulk puts files for Milvus: a folder that the server reads by the same path, or "
        "s3://BUCKET/PREFIX of Milvus's own bucket",
    )
    bulk_megabytes: int = _option(512, "of rows in a file of --bulk", ge=1, le=8192)

    @_model_validator(mode="after")
    def _staged(self) -> Self:
        if self.bulk != (self.stage is not None):
            raise ValueError("--bulk and --stage need each other")
        return self


class RerankOptions(Config):
    rerank: str | None = _option(
        None, "tightTransf weights: the first results of a text are decoded and ranked again"
    )
    rerank_top: int = _option(
        50, "how many --rerank ranks again; a search at least --top", ge=1, le=16384
    )
    allow_root: Words = _option(
        (), "folders and starts of addresses that --rerank may read; comma separated, repeatable"
    )


class CompactConfig(Config):
    """Merge a run's small parts into few large ones, which read faster."""

    run: str = _positional("a run directory on a file system")
    megabytes: int = _option(128, "of a part; those of less than half are merged", ge=1, le=4096)


class EvaluateConfig(RerankOptions):
    """Retrieval metrics of a run: each query's rank among the run's videos."""

    run: str = _positional("a run directory, local or s3://")
    queries: str = _option(..., "a manifest with video_id and a text column")
    out: str | None = _option(None, "where results go [default: RUN/evaluation]")
    text_column: str | None = _option(None, "the queries' text column [default: caption, sentence]")
    id_column: str | None = _option(None, "the queries' column of ids [default: video_id, id]")
    weights: str | None = _option(None, "weights, where they are not where the run had them")
    device: Literal["auto", "cpu", "cuda"] = _option("auto", "where the texts are encoded")


class SearchConfig(RerankOptions):
    """One query against a run, or against a Milvus collection."""

    text: str | None = Field(
        None, description="what to look for", json_schema_extra={"positional": True}
    )
    video: str | None = _option(None, "look for videos like this file or address")
    run: str | None = _option(None, "a run directory: exact search over its vectors")
    milvus: str | None = _option(None, "a .db path or http://host:19530: search a collection")
    collection: str = _option("videos", "the Milvus collection", pattern=r"^[A-Za-z_]\w*$")
    encoder: str | None = _option(None, "[default: the run's, or the collection's]")
    weights: str | None = _option(None, "[default: the run's, or the collection's]")
    top: int = _option(10, "how many results", ge=1, le=16384)
    device: Literal["auto", "cpu", "cuda"] = _option("auto", "where the query is encoded")
    as_json: bool = _option(False, "print JSON, one object a line", alias="json")

    @_model_validator(mode="after")
    def _one_query(self) -> Self:
        if (self.text is None) == (self.video is None):
            raise ValueError("give a text, or --video FILE")
        if (self.run is None) == (self.milvus is None):
            raise ValueError("give --run RUN, or --milvus URI")
        if self.rerank is not None and self.text is None:
            raise ValueError("--rerank scores a text with videos: give a text")
        return self


class QuickstartConfig(Config):
    """Make a captioned corpus, embed it, search it, and score the search."""

    out: str = _option("quickstart", "the folder that everything goes into")
    videos: int = _option(200, "how many videos are drawn", ge=10, le=100_000)
    seed: int = _option(2026, "another seed draws other videos")
    progress: Literal["auto", "bar", "plain", "none"] = _option("auto", "how progress is shown")


class EncodersConfig(Config):
    """The table of encoders; with NAME, how to get its weights and use it."""

    name: str | None = Field(
        None, description="one encoder", json_schema_extra={"positional": True}
    )


class DoctorConfig(Config):
    """What this machine has and lacks, what each lack costs, and how to mend it."""

    milvus: str | None = _option(None, "also try this Milvus")
    s3: str | None = _option(None, "also try to list this s3:// address")
    encoder: str | None = _option(None, "also look for the weights of this encoder")
    weights: str | None = _option(None, "the weights to look for")
