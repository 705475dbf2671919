"""Options of the main job."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import model_validator

from vidembed import sources
from vidembed.amounts import Limit
from vidembed.choice import Choice
from vidembed.config.base import (
    Actors,
    Amounts,
    Config,
    Device,
    Log,
    Most,
    Names,
    Paths,
    Progress,
    Words,
    option,
    positional,
)
from vidembed.config.milvus import MilvusOptions
from vidembed.errors import FAILURES
from vidembed.labels import ALONE


class StageOptions(Config):
    """What is decoded and encoded, and by how many."""

    manifest: str = positional(
        "Parquet, CSV, JSONL, a folder of them, or a folder of videos; a path, s3:// or other URL"
    )
    encoder: Names = option(
        "clip4clip",
        "see `vidembed encoders`; several, comma separated, share one decoding; LABEL:NAME tells "
        "apart two of one name",
    )
    weights: Paths = option(
        None,
        "file, folder, address or hub id; with several encoders LABEL=PATH, comma separated "
        "[default: the encoder's own]",
    )
    preset: Paths = option(
        None,
        "a named sampling and preprocessing, see `vidembed encoders NAME`; with several encoders "
        "LABEL=PRESET, comma separated [default: that of the weights]",
    )
    frames: int | None = option(None, "frames a clip [default: the encoder's own]", ge=1, le=4096)
    sampling: Literal["uniform", "fps", "clip4clip", "fast", "keyframes"] | None = option(
        None, "which frames [default: the encoder's own]"
    )
    fps: float | None = option(None, "frames per second of --sampling fps [default: 1]", gt=0)
    segment_seconds: float | None = option(None, "cut videos into segments of this length", gt=0)
    segment_stride: float | None = option(
        None, "seconds from one segment's start to the next [default: --segment-seconds]", gt=0
    )
    decoder: Literal["auto", "decord", "pyav", "torchcodec"] = option(
        "auto", "auto decodes only what is needed; torchcodec with --device cuda uses NVDEC"
    )
    min_frames: float = option(
        1.0, "share of a clip's frames that must be undamaged, 0 to 1", gt=0, le=1
    )
    aspect: Literal["coded", "display"] = option(
        "coded", "display: make pixels square where a file says that they are not"
    )
    decode_timeout: float = option(300.0, "seconds a video may take to decode", gt=0)
    decode_memory: float = option(4.0, "GiB that decoding a video may take", gt=0)
    max_gigabytes: float = option(64.0, "larger files fail as TooLarge", gt=0)
    max_megapixels: float = option(64.0, "larger pictures fail as TooLarge", gt=0)
    max_video_frames: int = option(2_000_000, "videos of more frames fail as TooLarge", ge=1)
    max_hours: float = option(24.0, "longer videos fail as TooLarge", gt=0)
    batch_size: int = option(16, "clips a batch of the encoder", ge=1, le=65536)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto", "auto: bfloat16 on CUDA, float32 on a CPU"
    )
    device: Device = option("auto", "auto: CUDA where the cluster has GPUs")
    decode_actors: Actors = option(None, "MIN[:MAX] [default: what the cluster's CPUs allow]")
    encode_actors: Actors = option(None, "MIN[:MAX] [default: one for each GPU, 1 without]")
    gpus_per_actor: float = option(1.0, "GPUs an encode actor holds; 0.5 puts two on one", gt=0)
    encode_resources: Amounts = option(
        (),
        "custom resources of Ray that an encode actor holds besides, NAME=AMOUNT; comma separated",
    )
    id_column: str | None = option(None, "the manifest's column of ids [default: video_id, id]")
    uri_column: str | None = option(
        None, "the manifest's column of paths [default: uri, path, video_path]"
    )
    uri_template: str | None = option(
        None,
        "the path of a row made of its columns, in place of a column of paths: "
        "videos/{video_id}.mp4",
    )
    allow_root: Words = option(
        (),
        "folders and starts of addresses that the manifest may name; comma separated, repeatable",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.segment_stride is not None and self.segment_seconds is None:
            raise ValueError("--segment-stride needs --segment-seconds")
        if self.fps is not None and self.sampling not in (None, "fps", "clip4clip"):
            raise ValueError("--fps is for --sampling fps or clip4clip")
        if self.uri_template is not None and self.uri_column is not None:
            raise ValueError("--uri-template and --uri-column both say where videos are: give one")
        return self

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The encoders, in their order."""
        return Choice.of(self.encoder, self.weights, self.preset)


class EmbedOptions(StageOptions):
    """How the videos of a manifest become a run."""

    out: str = option(
        ...,
        "the run directory, local or s3://; an existing run is resumed; with several encoders the "
        "folder of their runs",
    )
    cluster_cpus: int | None = option(
        None,
        "CPUs of a cluster that grows, at its largest [default: those that are up at the start]",
        ge=1,
    )
    cluster_gpus: int | None = option(
        None, "GPUs of a cluster that grows, at its largest [default: those that are up]", ge=0
    )
    cluster_wait: float = option(
        1200.0, "seconds that the first nodes of a cluster that grows may take to come", gt=0
    )
    limit: int | None = option(None, "only the first N rows of the manifest", ge=1)
    retry_failures: Words = option(
        (), "try failed videos again: all, or of these classes; comma separated"
    )
    prune: bool = option(
        False, "take out of the run, and of Milvus, what the manifest does not have any more"
    )
    max_prune: Most = option(
        Limit(None, 50.0), "N or P%: where --prune would take out more rows, nothing is taken out"
    )
    redo_changed: bool = option(
        False, "look at every source, and do those again that have changed since they were embedded"
    )
    max_failures: Most = option(
        Limit(None, 100.0), "N or P%: with more failed videos the exit code is 3"
    )
    ray_address: str | None = option(
        None, "a running Ray cluster [default: RAY_ADDRESS, else one is started here]"
    )
    progress: Progress = option("auto", "how progress is shown")
    log: Log = option(
        "none", "a line on standard error for each failed or slow video, part, encoder and restart"
    )

    @model_validator(mode="after")
    def _asked_again(self) -> Self:
        if unknown := set(self.retry_failures) - {"all", *FAILURES}:
            raise ValueError(
                f"--retry-failures {', '.join(sorted(unknown))}: expected all, or some of "
                f"{', '.join(FAILURES)}"
            )
        for name in ("prune", "redo_changed"):
            if getattr(self, name) and self.limit is not None:
                flag = "--" + name.replace("_", "-")
                raise ValueError(f"{flag} takes the whole manifest, and --limit a part of it")
        return self


class EmbedConfig(EmbedOptions, MilvusOptions):
    """manifest -> decode -> encode -> Parquet, and Milvus where --milvus is given."""

    overwrite: bool = option(False, "delete what an earlier run left in --out, and start anew")

    @model_validator(mode="after")
    def _collections(self) -> Self:
        collections: dict[str, str] = {}
        for choice in self.choices:
            other = collections.setdefault(self.alone(choice).collection, choice.name)
            if other != choice.name:
                raise ValueError(
                    f"--encoder: {other!r} and {choice.name!r} would have one Milvus collection; "
                    f"use labels that differ in letters or digits"
                )
        return self

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


class CompactConfig(Config):
    """Merge a run's small parts into few large ones, which read faster."""

    run: str = positional("a run directory on a file system")
    megabytes: int = option(128, "of a part; those of less than half are merged", ge=1, le=4096)
