"""The whole job on one page: manifest -> minus what is done -> decode -> encode -> write.

Several encoders go through it together: one decoding, an encode stage each, a run each.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import ray
import ray.data
from ray.data.read_api import from_blocks

from vidembed import cluster, sources
from vidembed.access import Access
from vidembed.decode.stage import Decode
from vidembed.encode.stage import Encode
from vidembed.errors import ConfigError, RunError
from vidembed.manifest import Columns, Manifest, open_manifest
from vidembed.pipeline import journal, monitor, summary
from vidembed.pipeline.follow import Follower, following
from vidembed.pipeline.lanes import Lane, choose, opened
from vidembed.pipeline.object_store import Stores, StoreUse, StoreWatch
from vidembed.pipeline.pending import Pending
from vidembed.pipeline.pools import check_growing, share_out
from vidembed.pipeline.portioning import (
    batch_rows,
    blocks,
    first_decoders,
    most_decoders,
    rows_per_block,
    rows_per_part,
)
from vidembed.pipeline.progress import Progress, say
from vidembed.pipeline.ray_metrics import Job
from vidembed.pipeline.settings import decode_settings, encode_settings
from vidembed.store import milvus
from vidembed.store.done import settled, survey
from vidembed.store.tidy import check_prune, forget_failures, prune, take_out_changed
from vidembed.write import WRITE_TASK, RunSink, write_here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pyarrow as pa

    from vidembed.config import EmbedConfig
    from vidembed.encode.stage import EncodeSettings
    from vidembed.report import RunReport, Statistics
    from vidembed.store.done import Done
    from vidembed.store.target import Target

# Restarts of an actor that died. Ray's own default is for ever: an encoder that a node cannot hold
# would be restarted until somebody looks. Its work is not counted besides: while nobody knows yet
# that a node is gone, each call of an actor there is a try, and a handful is used up in no time.
_RESTARTS = {"max_restarts": 4, "max_task_retries": -1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """Who decodes and who encodes: classes of the contract of `Decode` and `Encode`."""

    decode: Callable[..., Any] = Decode
    encode: Callable[..., Any] = Encode


_OURS = Stages()


def embed(config: EmbedConfig, stages: Stages = _OURS) -> dict[str, RunReport]:
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
    call = _Call(config, stages, journal.new_run_id())
    with journal.kept(config, call.run_id), opened(config, chosen, call.run_id) as lanes:
        reports = _embed(call, manifest, access, lanes)
        journal.ended(reports)
    return reports


@dataclass(frozen=True, slots=True)
class _Call:
    """What was asked for, and the name of this call of it."""

    config: EmbedConfig
    stages: Stages
    run_id: str


def _embed(
    call: _Call, manifest: Manifest, access: Access, lanes: list[Lane]
) -> dict[str, RunReport]:
    config = call.config
    out = sources.absolute(config.out)
    if config.prune:
        # Every run before the first is touched.
        for lane in lanes:
            check_prune(lane.run, manifest.tables(), config.max_prune)
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
    statistics, store = None, StoreUse()
    with ExitStack() as stack:
        if pending.rows:
            # Before Milvus: Ray forks, and a fork beside gRPC's threads may never come back.
            stack.enter_context(cluster.connected(config.ray_address, out))
            cluster.check_shared(out)
        follower = stack.enter_context(following(lanes, manifest.metadata))
        if pending.rows:
            journal.work_begins(total, pending.rows)
            job = _job(call, lacking, pending.rows)
            watch = monitor.start([lane.label for lane in lacking], job)
            stack.callback(monitor.finish, watch, job)
            tally = monitor.RayTally(watch, job)
            if follower:
                follower.listen(tally)
            targets = follower.targets if follower else {}
            flow = _Flow(config, lacking, manifest.metadata, access, tally, pending.rows, targets)
            progress = _progress(config, job, watch, follower)
            with _at_work(), progress, StoreWatch() as stores:
                for window in pending.windows(lane.label for lane in lacking):
                    flow.run(window, call.stages)
            statistics, store = _statistics(watch), stores.use
        seconds = time.monotonic() - start
        after = {lane.label: settled(lane.run) for lane in lanes}
        at = time.monotonic()
        projected = follower.finish() if follower else {}
        projecting = time.monotonic() - at
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
            store=store,
            run_id=call.run_id,
            projecting_s=projecting,
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


def _job(call: _Call, lanes: list[Lane], pending: int) -> Job:
    return Job(
        run_id=call.run_id,
        pending=pending,
        encoders={lane.label: lane.label or lane.spec.name for lane in lanes},
        outs={lane.label: sources.shown(lane.run.uri) for lane in lanes},
        log=call.config.log,
    )


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
        tally: monitor.RayTally,
        pending: int,
        targets: Mapping[str, Target],
    ) -> None:
        self._pools, self._access = share_out(config, len(lanes)), access
        self._decoders = first_decoders(pending, self._pools)
        encoders = len(lanes) * self._pools.encode.most
        portions = Stores.here().portions(encoders, self._decoders, self._pools.decode_cpus)
        self._table_bytes = portions.table_bytes
        self._batch = batch_rows(config.batch_size, [lane.spec.clip for lane in lanes], portions)
        specs = {lane.label: lane.spec for lane in lanes}
        self._decode = replace(
            decode_settings(config, specs, metadata, access), table_bytes=self._table_bytes
        )
        self._encode = [
            replace(settings, batch=self._batch)
            for settings in encode_settings(config, specs, self._pools)
        ]
        self._tally = tally
        self._block = rows_per_block(pending, self._pools)
        rows = rows_per_part(pending, [lane.spec.dim for lane in lanes])
        runs = {lane.label: lane.run for lane in lanes}
        self._sink = RunSink(runs, rows, self._tally, targets)
        # Not beside Milvus' client: Ray forks, and a fork beside gRPC's threads may not come back.
        self._here = self._pools.shared and not targets

    def run(self, window: pa.Table, stages: Stages) -> None:
        """decode -> encode, for one encoder after the other -> write, for one window's rows."""
        decode, encode = self._pools.decode, self._pools.encode
        most = most_decoders(window, self._access, decode)
        first = min(most, self._decoders)
        try:
            # Cut here and not with repartition, which turns Ray's no-progress guard off; and not
            # from_arrow, which runs one task a block only to count its rows.
            rows = from_blocks(list(blocks(window, self._block)))
            # Else Ray Data would gather a stage's tables into blocks of 128 MB.
            rows.context.target_max_block_size = self._table_bytes
            share = Stores.here().waiting_share(first, self._pools.decode_cpus)
            rows.context.override_object_store_memory_limit_fraction = share
            clips = rows.map_batches(
                stages.decode,
                fn_constructor_args=(self._decode, self._tally),
                batch_size=None,
                batch_format="pyarrow",
                num_cpus=self._pools.decode_cpus,
                compute=ray.data.ActorPoolStrategy(
                    min_size=decode.least, max_size=most, initial_size=first
                ),
                # Ray Data's own choice deals actors out to all nodes in turn. This one takes those
                # without a GPU first, and others only when they are full.
                scheduling_strategy="DEFAULT",
                **_RESTARTS,
            )
            for settings in self._encode:
                clips = clips.map_batches(
                    named(stages.encode, settings),
                    fn_constructor_args=(settings, self._tally),
                    batch_size=self._batch,
                    batch_format="pyarrow",
                    num_cpus=self._pools.encode_cpus,
                    num_gpus=self._pools.encode_gpus or None,
                    resources=dict(self._pools.encode_resources) or None,
                    # All that have a place load their weights while the first videos are decoded.
                    compute=ray.data.ActorPoolStrategy(
                        min_size=encode.least,
                        max_size=encode.most,
                        initial_size=self._pools.encode_first,
                    ),
                    **_RESTARTS,
                )
            clips.set_name(f"vidembed-{self._tally.job.run_id}")
            if self._here:
                write_here(clips, self._sink)
            else:
                clips.write_datasink(self._sink, ray_remote_args=WRITE_TASK)
        except (ray.exceptions.RayError, RuntimeError, OSError) as error:
            raise RunError(summary.cause(error)) from error


def named(stage: Callable[..., Any], settings: EncodeSettings) -> Callable[..., Any]:
    """A stage whose name tells its encoder: Ray calls operators after their classes."""
    assert isinstance(stage, type)
    # Of `package.module:Class` the class: Ray cuts the titles of actors at a dot.
    encoder = (settings.label or settings.spec.name).rpartition(":")[2].replace(".", "_")
    return type(f"{stage.__name__}[{encoder}]", (stage,), {})


def _progress(config: EmbedConfig, job: Job, watch: Any, follower: Follower | None) -> Progress:
    def look() -> monitor.Snapshot | None:
        try:
            snapshot: monitor.Snapshot = ray.get(watch.snapshot.remote(), timeout=5)
        except ray.exceptions.RayError:
            return None
        monitor.show_log(watch, job)
        return snapshot

    def between() -> str:
        if follower is None:
            return ""
        follower.poke()
        return follower.note

    return Progress(config.progress, job.pending, look, between)
