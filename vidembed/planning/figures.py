"""The numbers that a plan rests on, each with where it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vidembed.planning.result import Figure, Interval, Origin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidembed.config.plan import PlanConfig
    from vidembed.planning.survey import Survey


def figures(config: PlanConfig, found: Survey) -> Iterator[Figure]:
    """In the order of the pipeline."""
    yield from _decoding(found)
    yield from _encoding(config, found)
    costs, writing = found.costs, found.writing
    yield Figure(
        name="clip", value=costs.clip_bytes / 1e6, unit="MB", origin="measured",
        note="pixels of one, from decode to encode",
    )  # fmt: skip
    yield Figure(
        name="write", value=writing.cpu_s, unit="CPU-s a clip", origin="measured",
        note=f"parts of {writing.part:,} rows, {1 / writing.seconds:,.0f} rows/s",
    )  # fmt: skip
    if costs.milvus_rows is not None:
        origin: Origin = "measured" if config.milvus else "given"
        yield Figure(name="Milvus", value=costs.milvus_rows, unit="rows/s", origin=origin)
    yield Figure(
        name="start-up", value=costs.start_up_s, unit="s",
        origin="measured" if config.start_up is None else "given",
        note="a run besides its videos",
    )  # fmt: skip
    yield Figure(
        name="dataflow", value=costs.flow_cpu_s, unit="CPU-s a video", origin="assumed",
        note="Ray's own processes",
    )  # fmt: skip
    yield Figure(
        name="efficiency", value=costs.efficiency, unit="",
        origin="measured" if config.efficiency is None else "given",
        note="of stages on CPUs, beside each other and Ray",
    )  # fmt: skip
    yield Figure(
        name="CPU speed", value=costs.cpu_speed, unit="of one here",
        origin="assumed" if costs.cpu_speed == 1.0 else "given", note="of a CPU of the nodes",
    )  # fmt: skip


def _decoding(found: Survey) -> Iterator[Figure]:
    costs = found.costs
    for name, field, unit, scale in (
        ("decode", "decode_cpu_s", "CPU-s a video", 1.0),
        ("waiting for bytes", "decode_wait_s", "s a video", 1.0),
        ("clips", "clips", "a video", 1.0),
    ):
        low, high = _interval(found, field)
        yield Figure(
            name=name, value=getattr(costs, field) * scale, unit=unit, origin="measured",
            interval=(low * scale, high * scale),
        )  # fmt: skip
    read = costs.read_bytes or float(np.mean([v.read_bytes for v in found.decoded.videos]))
    yield Figure(
        name="read", value=read / 1e6, unit="MB a video", origin="measured",
        note="over the network" if costs.read_bytes else "from this machine's disks",
    )  # fmt: skip


def _encoding(config: PlanConfig, found: Survey) -> Iterator[Figure]:
    costs, encoding = found.costs, found.encoding
    if costs.encode_s is not None:
        yield Figure(
            name="encode", value=encoding.seconds, unit="s a clip", origin="measured",
            note=f"on CPUs, {costs.encode_threads} threads, {encoding.batch} clips at a time",
        )  # fmt: skip
        yield Figure(
            name="encode, CPUs", value=encoding.cpu_s, unit="CPU-s a clip", origin="measured"
        )
    for kind, rate in costs.gpu_rates.items():
        given = kind in config.encode_rate
        yield Figure(
            name=f"encode on {kind or 'a GPU'}", value=rate, unit="clips/s",
            origin="given" if given else "measured",
        )  # fmt: skip
    yield Figure(
        name="encoder ready", value=encoding.load_s, unit="s", origin="measured",
        note="a part of start-up",
    )  # fmt: skip


def assumptions(config: PlanConfig, found: Survey) -> Iterator[str]:
    """What is neither measured nor given, in words."""
    yield (
        "nodes are up and empty when the job starts: what booting, images and a head of its own "
        "cost comes on top"
    )
    if found.costs.encode_s is not None:
        yield (
            f"an encoder on CPUs makes as good use of each thread of a node as of the "
            f"{found.costs.encode_threads} here"
        )
    if found.costs.gpu_rates and not found.costs.gpu_cpu_s:
        yield "beside a GPU, an encode actor's CPU work fits into the one CPU that it claims"
    if found.costs.read_bytes:
        yield "the store gives every decoder what one had here: waiting grows with no load"
    yield "clips cross the network from the nodes that only decode; GPU nodes decode their share"


def warnings(found: Survey) -> Iterator[str]:
    load, cpus = found.load, found.here.cpus
    decoded = found.decoded
    if load > 0.5 * cpus:
        yield (
            f"other work ran on this machine (load {load:.1f} on {cpus:g} CPUs): encode, start-up "
            f"and efficiency are worse than they are; measure again when it is quiet"
        )
    if not decoded.told:
        yield "this system does not tell a process's CPU seconds: those of decode are clock seconds"
    failed = sum(decoded.failures.values())
    if failed:
        kinds = ", ".join(f"{kind} {count}" for kind, count in decoded.failures.items())
        yield f"{failed} of {len(decoded.videos)} videos of the sample failed: {kinds}"
    low, high = _interval(found, "decode_cpu_s")
    if high - low > 0.5 * found.costs.decode_cpu_s:
        yield (
            "videos differ so much that the mean of this sample is uncertain: a larger --sample "
            "narrows the intervals"
        )


def _interval(found: Survey, name: str) -> Interval:
    """95%, of a mean over the sample: the percentile bootstrap."""
    low, high = np.quantile([getattr(each, name) for each in found.drawn], (0.025, 0.975))
    return float(low), float(high)
