"""The whole job on one page: manifest -> minus what is done -> decode -> encode -> write."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray
import ray.data
from ray.data.read_api import from_blocks

from vidembed.access import Access
from vidembed.clips import Segmentation
from vidembed.decode.limits import Limits
from vidembed.decode.stage import Decode, DecodeSettings
from vidembed.encode import registry
from vidembed.encode.stage import Encode, EncodeSettings
from vidembed.errors import ConfigError, RunError
from vidembed.manifest import Columns, Manifest, open_manifest
from vidembed.pipeline import cluster, monitor, summary
from vidembed.pipeline.follow import Follower, following
from vidembed.pipeline.progress import Progress
from vidembed.store import milvus
from vidembed.store.done import settled, survey
from vidembed.store.run import Run, delete_run
from vidembed.write import WRITE_TASK, RunSink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidembed.config import EmbedConfig
    from vidembed.encode.spec import EncoderSpec
    from vidembed.pipeline.cluster import Pools
    from vidembed.report import RunReport
    from vidembed.store.done import Done

# Ray Data keeps something in the driver for every block of a dataset: a corpus goes through it in
# windows of this many videos, so that the driver's memory does not grow with the corpus.
_WINDOW = 200_000
_MOST_ROWS_PER_BLOCK = 16
_ROWS_PER_PART = 2048
# Restarts of an actor that died. Ray's own default is for ever: an encoder that a node cannot hold
# would be restarted until somebody looks.
_RESTARTS = {"max_restarts": 4, "max_task_retries": 4}


def embed(config: EmbedConfig) -> RunReport:
    """Embed every video of a manifest into a run directory.

    Resumes where an earlier run into the same directory ended. Raises UsageError before anything
    is started, RunError when the job as a whole fails. A kill at any moment loses what was in
    flight and no more.
    """
    spec = _spec(config)
    manifest = open_manifest(config.manifest, Columns(config.id_column, config.uri_column))
    access = Access.of(manifest.folder, config.allow_root)
    if config.milvus:
        milvus.check_uri(config.milvus)
    if config.overwrite:
        delete_run(config.out)
    run = Run.create_or_resume(config.out, summary.record(config, spec)).take_over()
    total = min(manifest.rows, config.limit or manifest.rows)
    done = survey(run)
    pending = sum(len(rows) for rows in _pending(manifest, config.limit, done))
    began = time.time()
    statistics = None
    with ExitStack() as stack:
        if pending:
            # Before Milvus: Ray forks, and a fork beside gRPC's threads may never come back.
            stack.enter_context(cluster.connected(config.ray_address, run))
            cluster.check_shared(run)
        follower = stack.enter_context(following(run, config))
        if pending:
            watch = monitor.start()
            flow = _Flow(config, spec, manifest.metadata, access, run, watch, pending)
            with _progress(config, pending, watch, follower):
                for window in _windows(_pending(manifest, config.limit, done)):
                    flow.run(window)
            statistics = ray.get(watch.take_statistics.remote())
        seconds = time.time() - began
        projected = follower.finish() if follower else None
    after = settled(run)
    lost = sum(len(rows) for rows in _pending(manifest, config.limit, after))
    if lost:
        raise RunError(f"{lost} videos ended neither in embeddings nor in failures; run it again")
    if after.doubled:
        raise RunError(f"{after.doubled} videos are in {run.uri} more than once")
    counts = summary.Counts(total=total, pending=pending, seconds=seconds, started=began)
    return summary.finish(run, config, counts, after, statistics, projected)


class _Flow:
    """The dataset that one window of the manifest goes through."""

    def __init__(
        self,
        config: EmbedConfig,
        spec: EncoderSpec,
        metadata: pa.Schema,
        access: Access,
        run: Run,
        watch: Any,
        pending: int,
    ) -> None:
        self._pools = cluster.allocate(*cluster.size(), config)
        self._batch = config.batch_size
        self._decode = DecodeSettings(
            spec=spec.clip,
            metadata=metadata,
            segmentation=Segmentation(seconds=config.segment_seconds, stride=config.segment_stride),
            decoder=config.decoder,
            device="cuda" if config.device == "cuda" else "cpu",
            min_frames=config.min_frames,
            access=access,
            limits=Limits(
                seconds=config.decode_timeout,
                memory_bytes=int(config.decode_memory * 2**30),
                frames=config.max_video_frames,
                pixels=int(config.max_megapixels * 1e6),
                duration_s=config.max_hours * 3600,
                file_bytes=int(config.max_gigabytes * 1e9),
            ),
        )
        self._encode = EncodeSettings(
            spec=spec,
            metadata=metadata,
            device="cuda" if self._pools.encode_gpus else "cpu",
            dtype=config.dtype,
            threads=self._pools.threads,
        )
        self._tally = monitor.RayTally(watch)
        self._block = rows_per_block(pending, self._pools)
        rows = max(8, min(_ROWS_PER_PART, pending // 16))
        self._sink = RunSink(run, rows, self._tally)

    def run(self, window: pa.Table) -> None:
        """decode -> encode -> write, for the manifest rows of one window."""
        decode, encode = self._pools.decode, self._pools.encode
        try:
            (
                # Cut here and not with repartition, which turns Ray's no-progress guard off; and
                # not from_arrow, which runs one task a block only to count its rows.
                from_blocks(list(blocks(window, self._block)))
                .map_batches(
                    Decode,
                    fn_constructor_args=(self._decode, self._tally),
                    batch_size=None,
                    batch_format="pyarrow",
                    num_cpus=self._pools.decode_cpus,
                    compute=_pool(decode.least, decode.most),
                    **_RESTARTS,
                )
                .map_batches(
                    Encode,
                    fn_constructor_args=(self._encode, self._tally),
                    batch_size=self._batch,
                    batch_format="pyarrow",
                    num_cpus=self._pools.encode_cpus,
                    num_gpus=self._pools.encode_gpus or None,
                    compute=_pool(encode.least, encode.most),
                    **_RESTARTS,
                )
                .write_datasink(self._sink, ray_remote_args=WRITE_TASK)
            )
        except (ray.exceptions.RayError, RuntimeError) as error:
            raise RunError(summary.cause(error)) from error


def _spec(config: EmbedConfig) -> EncoderSpec:
    spec = registry.describe(config.encoder, config.weights)
    spec = spec.sampled(kind=config.sampling, count=config.frames, fps=config.fps)
    spec = spec.prepared(replace(spec.clip, aspect=config.aspect))
    if config.fps is not None and spec.clip.sampling.kind not in ("fps", "clip4clip"):
        raise ConfigError(
            f"--fps: {spec.name} samples uniformly with these weights; add --sampling fps"
        )
    return spec


def _pool(least: int, most: int) -> ray.data.ActorPoolStrategy:
    return ray.data.ActorPoolStrategy(min_size=least, max_size=most)


def rows_per_block(pending: int, pools: Pools) -> int:
    """Videos a block: few enough that every decode actor gets several blocks."""
    return max(1, min(_MOST_ROWS_PER_BLOCK, pending // (8 * pools.decode.most)))


def blocks(window: pa.Table, rows: int) -> Iterator[pa.Table]:
    for at in range(0, len(window), rows):
        yield window.slice(at, rows)


def _pending(manifest: Manifest, limit: int | None, done: Done) -> Iterator[pa.Table]:
    """The manifest's rows that are not finished, as a stream."""
    left = manifest.rows if limit is None else limit
    for table in manifest.tables():
        rows = table.slice(0, left)
        left -= len(rows)
        if len(rows):
            yield done.remaining(rows)
        if left <= 0:
            return


def _windows(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    gathered: list[pa.Table] = []
    rows = 0
    for table in tables:
        while len(table):
            part = table.slice(0, _WINDOW - rows)
            table = table.slice(len(part))
            gathered.append(part)
            rows += len(part)
            if rows == _WINDOW:
                yield pa.concat_tables(gathered)
                gathered, rows = [], 0
    if rows:
        yield pa.concat_tables(gathered)


def _progress(config: EmbedConfig, pending: int, watch: Any, follower: Follower | None) -> Progress:
    def look() -> monitor.Snapshot | None:
        try:
            snapshot: monitor.Snapshot = ray.get(watch.snapshot.remote(), timeout=5)
        except ray.exceptions.RayError:
            return None
        return snapshot

    def between() -> str:
        if follower is None:
            return ""
        follower.poke()
        return follower.note

    return Progress(config.progress, pending, look, between)
