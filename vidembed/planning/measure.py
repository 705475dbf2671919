"""What the stages cost here: each of them called by itself, on a sample, without Ray."""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidembed import schema, sources
from vidembed.decode.stage import Decode
from vidembed.encode.stage import Encode
from vidembed.pipeline import summary
from vidembed.planning import usage
from vidembed.store.run import Run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vidembed.config import EmbedConfig
    from vidembed.decode.stage import DecodeSettings
    from vidembed.encode.spec import EncoderSpec
    from vidembed.encode.stage import EncodeSettings
    from vidembed.tally import Event

# Of encoding that is measured, once what a clip takes is known: on a CPU a clip may take a minute.
_SECONDS = 10.0
_ROUNDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """What one video of the sample cost. cpu_s: seconds on CPUs, of the stage and its child;
    wait_s: in which neither worked nor wanted to; read_bytes: from disks; remote_bytes: over the
    network; failure: its class.
    """

    cpu_s: float
    wait_s: float
    clips: int
    read_bytes: float
    remote_bytes: float
    failure: str | None = None


@dataclass(slots=True)
class Decoded:
    """The sample, decoded. clips: the first ones, for the encoders; told: whether the system tells
    CPU seconds; else they are seconds on the clock.
    """

    videos: list[Video] = field(default_factory=list)
    clips: list[pa.Table] = field(default_factory=list)
    clip_bytes: float = 0.0
    told: bool = True

    @property
    def failures(self) -> Counter[str]:
        return Counter(video.failure for video in self.videos if video.failure)


class _Meter:
    """One decode stage, whose every call is measured."""

    def __init__(self, settings: DecodeSettings) -> None:
        self._events: list[Event] = []
        self._stage = Decode(settings, self._events.append)
        self.told = True

    def decode(self, row: pa.Table) -> tuple[Video, list[pa.Table]]:
        self._events.clear()
        child = self._stage.child
        before = _both(child)
        began = time.perf_counter()
        tables = list(self._stage(row))
        wall = time.perf_counter() - began
        # One that crashed, or was recycled, has taken its clocks with it.
        after = _both(self._stage.child) if self._stage.child == child else None
        event = next(event for event in reversed(self._events) if event.stage == "decode")
        cpu, wait, read = wall, 0.0, 0.0
        if before and after:
            theirs, ours = (now - then for now, then in zip(after, before, strict=True))
            cpu = max(theirs.cpu, theirs.busy) + ours.busy
            wait = wall - theirs.busy - theirs.queued - ours.busy - ours.queued
            read = theirs.read
        self.told = self.told and (usage.of(os.getpid()) is not None)
        video = Video(
            cpu_s=cpu,
            wait_s=max(0.0, wait),
            clips=event.clips,
            read_bytes=read,
            remote_bytes=float(event.effort.get("read_bytes", 0)),
            failure=next(iter(event.failures), None),
        )
        return video, tables

    def close(self) -> None:
        self._stage.close()


def _both(child: int | None) -> tuple[usage.Usage, usage.Usage] | None:
    """Of the child and of this process."""
    theirs = None if child is None else usage.of(child)
    ours = usage.of(os.getpid())
    return (theirs, ours) if theirs and ours else None


def decode(settings: DecodeSettings, rows: pa.Table, keep: int) -> Decoded:
    """Decode the sample, a row at a time; `keep` of its clips or some more are kept."""
    found = Decoded()
    meter = _Meter(settings)
    try:
        # Starts the child.
        meter.decode(rows.slice(0, 1))
        kept = 0
        for at in range(len(rows)):
            video, tables = meter.decode(rows.slice(at, 1))
            found.videos.append(video)
            for table in tables:
                good = table.filter(pc.greater(table["segments"], 0))
                if len(good) and kept < keep:
                    found.clips.append(good)
                    kept += len(good)
    finally:
        meter.close()
    found.told = meter.told
    found.clip_bytes = sum(spec.nbytes for spec in settings.specs.values())
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """seconds, cpu_s: of a clip, through all encoders; batch: clips that were encoded at a time;
    load_s: until they were ready; threads: of torch; 0 on a GPU; encoded: their vectors.
    """

    seconds: float
    cpu_s: float
    batch: int
    load_s: float
    threads: int
    encoded: pa.Table


def encode(settings: Sequence[EncodeSettings], clips: Sequence[pa.Table], batch: int) -> Encoding:
    """Encode batches of the sample's clips, repeated where they are fewer."""
    there = pa.concat_tables(clips)
    with _threads():
        began = time.perf_counter()
        stages = [Encode(each) for each in settings]
        load = time.perf_counter() - began
        _, encoded = _once(stages, _repeated(there, 1))
        (one, _), encoded = _once(stages, _repeated(there, 1))
        on_gpu = settings[0].device == "cuda"
        size = batch if on_gpu else max(1, min(batch, int(_SECONDS / 3 / max(one, 1e-6))))
        some = _repeated(there, size)
        if on_gpu:
            # What is slow once: kernels are chosen for a batch's size.
            _once(stages, some)
        times: list[tuple[float, float]] = []
        until = time.perf_counter() + _SECONDS
        while not times or (len(times) < _ROUNDS and time.perf_counter() < until):
            spent, encoded = _once(stages, some)
            times.append(spent)
    # The least: what else runs here makes a batch take longer, and nothing makes it shorter.
    return Encoding(
        seconds=min(wall for wall, _ in times) / size,
        cpu_s=min(cpu for _, cpu in times) / size,
        batch=size,
        load_s=load,
        threads=0 if on_gpu else settings[0].threads,
        encoded=encoded,
    )


def _once(stages: Sequence[Encode], clips: pa.Table) -> tuple[tuple[float, float], pa.Table]:
    """(seconds on the clock, on CPUs), and what came out."""
    began, used = time.perf_counter(), time.process_time()
    for stage in stages:
        clips = stage(clips)
    return (time.perf_counter() - began, time.process_time() - used), clips


def _repeated(table: pa.Table, rows: int) -> pa.Table:
    return table.take(pa.array(np.arange(rows) % len(table)))


@contextmanager
def _threads() -> Iterator[None]:
    """The encode stage sets torch's threads for its process, and here that is a user's."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """Of a clip; part: rows that were committed at a time."""

    seconds: float
    cpu_s: float
    part: int


def write(
    config: EmbedConfig, specs: Mapping[str, EncoderSpec], encoded: pa.Table, part: int
) -> Writing:
    """Commit parts of these vectors, repeated, to a run of each encoder below `config.out`."""
    runs = {
        label: Run.create_or_resume(
            sources.join(config.out, label or "run"), summary.record(config, spec)
        ).take_over()
        for label, spec in specs.items()
    }
    times = []
    for turn in range(_ROUNDS):
        rows = renamed(_repeated(encoded, part), turn)
        began, used = time.perf_counter(), time.process_time()
        for label, run in runs.items():
            run.commit(schema.share(rows, label))
        times.append((time.perf_counter() - began, time.process_time() - used))
    return Writing(
        seconds=statistics.median(wall for wall, _ in times) / part,
        cpu_s=statistics.median(cpu for _, cpu in times) / part,
        part=part,
    )


def renamed(rows: pa.Table, turn: int) -> pa.Table:
    """The same rows under keys that are different."""
    names: Any = pa.array([f"{turn}-{k}" for k in range(len(rows))], pa.string())
    for column in ("id", "video_id"):
        at = rows.schema.get_field_index(column)
        rows = rows.set_column(at, rows.schema.field(at), names)
    return rows
