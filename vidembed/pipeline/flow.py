"""The whole job on one page: manifest -> minus what is done -> decode -> encode -> write.

Several encoders go through it together: one decoding, an encode stage each, a run each.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import ray
import ray.data
from ray.data.read_api import from_blocks

from vidembed import cluster, sources
from vidembed.access import Access
from vidembed.clips import Segmentation
from vidembed.decode.limits import Limits
from vidembed.decode.stage import Decode, DecodeSettings
from vidembed.encode.stage import Encode, EncodeSettings
from vidembed.errors import ConfigError, RunError
from vidembed.manifest import Columns, Manifest, open_manifest
from vidembed.pipeline import monitor, summary
from vidembed.pipeline.follow import Follower, following
from vidembed.pipeline.lanes import Lane, choose, opened
from vidembed.pipeline.pending import Pending
from vidembed.pipeline.pools import check_growing, share_out
from vidembed.pipeline.progress import Progress, say
from vidembed.store import milvus
from vidembed.store.done import settled, survey
from vidembed.store.tidy import forget_failures, prune, take_out_changed
from vidembed.write import WRITE_TASK, RunSink

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import pyarrow as pa

    from vidembed.clips import ClipSpec
    from vidembed.config import EmbedConfig
    from vidembed.pipeline.pools import Pools
    from vidembed.report import RunReport, Statistics
    from vidembed.store.done import Done
    from vidembed.store.target import Target

_MOST_ROWS_PER_BLOCK = 16
# Of a part. Large files read well; small ones lose less to a kill, which is why a job of fewer
# videos makes parts of a sixteenth of them.
_PART_BYTES = 16 << 20
_ROW_BYTES = 400
_PARTS = 16
_BATCH_BYTES = 256 << 20
# Restarts of an actor that died. Ray's own default is for ever: an encoder that a node cannot hold
# would be restarted until somebody looks. Its work is not counted besides: while nobody knows yet
# that a node is gone, each call of an actor there is a try, and a handful is used up in no time.
_RESTARTS = {"max_restarts": 4, "max_task_retries": -1}


def embed(config: EmbedConfig) -> dict[str, RunReport]:
    """Embed every video of a manifest into the run directory of each encoder.

    Returns a report for each label. Resumes where earlier runs into the same directories ended: a
    video is decoded once, for the encoders whose runs lack it. Raises UsageError before anything
    is started, RunError when the job as a whole fails. A kill at any moment loses what was in
    flight and no more.
    """
    check_growing(config)
    chosen = choose(config)
    columns = Columns(config.id_column, config.uri_column, config.uri_template)
    manifest = open_manifest(config.manifest, columns)
    access = Access.of(manifest.folder, config.allow_root)
    if config.milvus:
        milvus.check_uri(config.milvus)
    with opened(config, chosen) as lanes:
        return _embed(config, manifest, access, lanes)


def _embed(
    config: EmbedConfig, manifest: Manifest, access: Access, lanes: list[Lane]
) -> dict[str, RunReport]:
    out = sources.absolute(config.out)
    taken = {lane.label: _tidy(config, manifest, access, lane) for lane in lanes}
    total = min(manifest.rows, config.limit or manifest.rows)
    before = {lane.label: survey(lane.run) for lane in lanes}
    for lane in lanes:
        if not taken[lane.label]:
            summary.compare_with_last(lane.run, before[lane.label], say)
    pending = Pending(manifest, config.limit, before)
    # The others have all that they need: no actor of theirs is started.
    lacking = [lane for lane in lanes if pending.of_run[lane.label]]
    began, start = time.time(), time.monotonic()
    statistics = None
    with ExitStack() as stack:
        if pending.rows:
            # Before Milvus: Ray forks, and a fork beside gRPC's threads may never come back.
            stack.enter_context(cluster.connected(config.ray_address, out))
            cluster.check_shared(out)
        follower = stack.enter_context(following(lanes, manifest.metadata))
        if pending.rows:
            watch = monitor.start(lane.label for lane in lacking)
            targets = follower.targets if follower else {}
            flow = _Flow(config, lacking, manifest.metadata, access, watch, pending.rows, targets)
            with _at_work(), _progress(config, pending.rows, watch, follower):
                for window in pending.windows(lane.label for lane in lacking):
                    flow.run(window)
            statistics = _statistics(watch)
        seconds = time.monotonic() - start
        after = {lane.label: settled(lane.run) for lane in lanes}
        projected = follower.finish() if follower else {}
    lost = Pending(manifest, config.limit, after).of_run
    reports = {}
    for lane in lanes:
        label = lane.label
        _check(lane, lost[label], after[label])
        counts = summary.Counts(
            total=total,
            pending=pending.of_run[label],
            clips=max(0, after[label].clips - before[label].clips),
            seconds=seconds,
            started=began,
        )
        reports[label] = summary.finish(
            lane, counts, after[label], statistics, projected.get(label)
        )
    return reports


@contextmanager
def _at_work() -> Iterator[None]:
    """What was fine when it was checked and fails now (a store that has gone away) has failed the
    job: it is no matter of words any more.
    """
    try:
        yield
    except ConfigError as error:
        raise RunError(str(error)) from error


def _tidy(config: EmbedConfig, manifest: Manifest, access: Access, lane: Lane) -> bool:
    """Take out of the run what is asked for; returns whether there was anything."""
    again = forget_failures(lane.run, config.retry_failures) if config.retry_failures else 0
    if again:
        say(f"{again:,} failed videos of {lane.run.uri} are tried again")
    gone = prune(lane.run, manifest.tables()) if config.prune else 0
    if gone:
        say(f"{gone:,} rows of {lane.run.uri} were taken out: the manifest does not have them")
    changed = 0
    if config.redo_changed:
        found = take_out_changed(lane.run, manifest.tables(), access)
        changed = found.changed
        say(
            f"{changed:,} rows of {lane.run.uri} are done again: their sources have changed; "
            f"{found.unknown:,} videos cannot be compared"
        )
    return bool(again or gone or changed)


def _statistics(watch: Any) -> Statistics | None:
    """What the stages have told; None where who heard it is gone with its node."""
    try:
        found: Statistics = ray.get(watch.take_statistics.remote(), timeout=60)
    except ray.exceptions.RayError:
        return None
    return found


def _check(lane: Lane, lost: int, after: Done) -> None:
    uri = lane.run.uri
    if lost:
        raise RunError(
            f"{lost} videos ended neither in embeddings nor in failures of {uri}; run it again"
        )
    if after.doubled:
        raise RunError(f"{after.doubled} videos are in {uri} more than once")


class _Flow:
    """The dataset that one window of the manifest goes through."""

    def __init__(
        self,
        config: EmbedConfig,
        lanes: list[Lane],
        metadata: pa.Schema,
        access: Access,
        watch: Any,
        pending: int,
        targets: Mapping[str, Target],
    ) -> None:
        self._pools = share_out(config, len(lanes))
        self._batch = batch_rows(config.batch_size, [lane.spec.clip for lane in lanes])
        self._decode = DecodeSettings(
            specs={lane.label: lane.spec.clip for lane in lanes},
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
        self._encode = [
            EncodeSettings(
                spec=lane.spec,
                label=lane.label,
                device="cuda" if self._pools.encode_gpus else "cpu",
                dtype=config.dtype,
                threads=self._pools.threads,
            )
            for lane in lanes
        ]
        self._tally = monitor.RayTally(watch)
        self._block = rows_per_block(pending, self._pools)
        rows = rows_per_part(pending, [lane.spec.dim for lane in lanes])
        runs = {lane.label: lane.run for lane in lanes}
        self._sink = RunSink(runs, rows, self._tally, targets)

    def run(self, window: pa.Table) -> None:
        """decode -> encode, for one encoder after the other -> write, for one window's rows."""
        decode, encode = self._pools.decode, self._pools.encode
        try:
            # Cut here and not with repartition, which turns Ray's no-progress guard off; and not
            # from_arrow, which runs one task a block only to count its rows.
            clips = from_blocks(list(blocks(window, self._block))).map_batches(
                Decode,
                fn_constructor_args=(self._decode, self._tally),
                batch_size=None,
                batch_format="pyarrow",
                num_cpus=self._pools.decode_cpus,
                compute=_pool(decode.least, decode.most),
                **_RESTARTS,
            )
            for settings in self._encode:
                clips = clips.map_batches(
                    Encode,
                    fn_constructor_args=(settings, self._tally),
                    batch_size=self._batch,
                    batch_format="pyarrow",
                    num_cpus=self._pools.encode_cpus,
                    num_gpus=self._pools.encode_gpus or None,
                    resources=dict(self._pools.encode_resources) or None,
                    compute=_pool(encode.least, encode.most),
                    **_RESTARTS,
                )
            clips.write_datasink(self._sink, ray_remote_args=WRITE_TASK)
        except (ray.exceptions.RayError, RuntimeError) as error:
            raise RunError(summary.cause(error)) from error


def _pool(least: int, most: int) -> ray.data.ActorPoolStrategy:
    return ray.data.ActorPoolStrategy(min_size=least, max_size=most)


def rows_per_block(pending: int, pools: Pools) -> int:
    """Videos a block: few enough that every decode actor gets several blocks."""
    return max(1, min(_MOST_ROWS_PER_BLOCK, pending // (8 * pools.decode.most)))


def rows_per_part(pending: int, dims: Iterable[int]) -> int:
    """Clips a part: what makes 16 MB of the widest vectors, or less where a job has less to do."""
    full = _PART_BYTES // (4 * max(dims) + _ROW_BYTES)
    return max(8, min(full, pending // _PARTS))


def batch_rows(wanted: int, clips: Iterable[ClipSpec]) -> int:
    """Clips a batch of the encoders: as asked for, or what fits into a batch's bytes. A clip of ten
    windows has 48 MB.
    """
    size = sum(clip.nbytes for clip in clips)
    return max(1, min(wanted, _BATCH_BYTES // size))


def blocks(window: pa.Table, rows: int) -> Iterator[pa.Table]:
    for at in range(0, len(window), rows):
        yield window.slice(at, rows)


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
