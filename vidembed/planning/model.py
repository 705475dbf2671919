"""The model of the pipeline: what a video costs and what a cluster has, to videos/s, hours, money.

Each stage has a rate, in videos/s: its workers by the seconds that a video takes one of them. What
several stages share (CPUs, a node's network) has one too: what there is by what a video takes of
it. The slowest rate is the pipeline's, and its owner the bottleneck; then

    seconds = start-up + filling + videos / rate

`docs/plan.md` says what is measured, what is assumed, and how far from real runs it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vidembed.pipeline.pools import allocate
from vidembed.pipeline.portioning import rows_per_block

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vidembed.config import EmbedConfig
    from vidembed.pipeline.pools import Pools
    from vidembed.planning.machines import Cluster

# What Ray's own processes and the driver do for a video: CPU seconds. See docs/plan.md.
FLOW_CPU_S = 0.010
# Ray's object store takes this much of a node's memory.
STORE_SHARE = 0.3
_BLOCK_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a video costs on average, in seconds of one CPU here, bytes and clips.

    decode_cpu_s: of a decoder and the stage around it; decode_wait_s: for bytes to come. encode_s:
    of a clip, with `encode_threads` threads on CPUs here, all encoders; encode_cpu_s: the same
    summed over threads; None where it was not measured. gpu_rates: clips/s of an encode actor
    with a whole GPU, by the kind of GPU, "" for any; gpu_cpu_s: CPU seconds a clip beside it.
    clip_bytes: of pixels of a clip; read_bytes: over the network, 0 where videos are on disks.
    write_s, write_cpu_s: of a clip. milvus_rows: a second; None without Milvus. efficiency: what
    stages on CPUs reach beside each other and Ray, of what each does by itself. cpu_speed: of the
    nodes' CPUs, as a multiple of one here.
    """

    decode_cpu_s: float
    decode_wait_s: float
    clips: float
    read_bytes: float
    clip_bytes: float
    encode_s: float | None = None
    encode_cpu_s: float | None = None
    encode_threads: int = 1
    gpu_rates: Mapping[str, float] = field(default_factory=dict)
    gpu_cpu_s: float = 0.0
    write_s: float = 0.0
    write_cpu_s: float = 0.0
    milvus_rows: float | None = None
    start_up_s: float = 0.0
    flow_cpu_s: float = FLOW_CPU_S
    efficiency: float = 1.0
    cpu_speed: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """videos: of the corpus; config: of the job; encoders: how many; batch: clips of an encoder."""

    videos: int
    config: EmbedConfig
    encoders: int = 1
    batch: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """limits: videos/s that each stage and each shared thing allows, the bottleneck first; seconds:
    of the whole job. pools: that `embed` would make. store_bytes: of clips that wait between the
    stages; store_limit: of the object store, None where the memory is not known.
    """

    limits: dict[str, float]
    seconds: float
    pools: Pools
    store_bytes: float
    store_limit: float | None

    @property
    def bottleneck(self) -> str:
        return next(iter(self.limits))

    @property
    def rate(self) -> float:
        """Videos a second, once the pipeline is full."""
        return self.limits[self.bottleneck]

    @property
    def next_limit(self) -> tuple[str, float]:
        """What binds when the bottleneck is moved, and how many times faster the job is then."""
        others = list(self.limits.items())[1:]
        name, rate = others[0]
        return name, rate / self.rate


class NotMeasuredError(Exception):
    """A number is needed that nobody has measured or given; says which."""


def predict(costs: Costs, cluster: Cluster, work: Work) -> Prediction:
    """How fast the job is on a cluster. Raises NotMeasuredError, and ConfigError for options that
    do not fit into it.
    """
    pools = pools_of(cluster, work.config, work.encoders)
    limits = {
        "decode": costs.efficiency * pools.decode.most / _decode_s(costs),
        "encode": _encode_rate(costs, cluster, pools) / costs.clips if costs.clips else math.inf,
        "CPU": cluster.cpus * costs.efficiency / _cpu_s(costs, pools),
        "network": _network(costs, cluster),
        "write": _per(costs.clips * costs.write_s),
        "Milvus": _per(costs.clips / costs.milvus_rows) if costs.milvus_rows else math.inf,
    }
    limits = dict(sorted(limits.items(), key=lambda item: item[1]))
    rate = next(iter(limits.values()))
    block = rows_per_block(work.videos, pools)
    seconds = costs.start_up_s + _filling(costs, limits, pools, work, block) + work.videos / rate
    memory = cluster.memory_bytes
    return Prediction(
        limits=limits,
        seconds=seconds,
        pools=pools,
        store_bytes=_waiting_bytes(costs, pools, work, block),
        store_limit=None if memory is None else STORE_SHARE * memory,
    )


def pools_of(cluster: Cluster, config: EmbedConfig, encoders: int) -> Pools:
    """The pools that `embed` would make there."""
    return allocate(cluster.cpus, cluster.gpus, cluster.nodes, config, encoders)


def _decode_s(costs: Costs) -> float:
    """Of a video, by one decoder."""
    return max(1e-9, costs.decode_cpu_s / costs.cpu_speed + costs.decode_wait_s)


def _encode_rate(costs: Costs, cluster: Cluster, pools: Pools) -> float:
    """Clips a second, of all encode actors together."""
    if pools.encode_gpus:
        used = min(cluster.gpus, pools.encode.most * pools.encode_gpus)
        # Actors go where a GPU is: of several kinds each does its share.
        shares = [(m.gpu, n * m.gpus / cluster.gpus) for m, n in cluster.groups if m.gpus]
        return used * sum(share * gpu_rate(costs, kind) for kind, share in shares)
    if costs.encode_s is None:
        raise NotMeasuredError("encoding on CPUs was not measured here")
    # Threads of one actor are taken to be as useful there as here.
    seconds = costs.encode_s * costs.encode_threads / max(1, pools.threads)
    return costs.efficiency * pools.encode.most * costs.cpu_speed / max(1e-9, seconds)


def gpu_rate(costs: Costs, kind: str) -> float:
    """Clips/s of a GPU of this kind. Raises NotMeasuredError."""
    for known in (kind, ""):
        if known in costs.gpu_rates:
            return costs.gpu_rates[known]
    if not kind and len(costs.gpu_rates) == 1:
        return next(iter(costs.gpu_rates.values()))
    raise NotMeasuredError(f"not measured: needs --encode-rate {kind or 'GPU'}=CLIPS_PER_S")


def _cpu_s(costs: Costs, pools: Pools) -> float:
    """CPU seconds of a video, over all stages."""
    encode = costs.gpu_cpu_s if pools.encode_gpus else costs.encode_cpu_s or 0.0
    spent = costs.decode_cpu_s + costs.clips * (encode + costs.write_cpu_s) + costs.flow_cpu_s
    return max(1e-9, spent / costs.cpu_speed)


def _network(costs: Costs, cluster: Cluster) -> float:
    """Videos/s that the nodes' networks carry: addresses in, clips from decoders to encoders.

    Decoders are spread like CPUs; what the encode nodes decode themselves does not travel.
    """
    encoding = [m.gpus > 0 for m, _ in cluster.groups] if cluster.gpus else [True]
    rates = [math.inf]
    clips = costs.clips * costs.clip_bytes
    at_home = sum(
        m.cpus * n for (m, n), encodes in zip(cluster.groups, encoding, strict=False) if encodes
    )
    away = 1 - at_home / cluster.cpus if cluster.gpus else 0.0
    for machine, count in cluster.groups:
        if machine.network is None:
            continue
        share = machine.cpus * count / cluster.cpus
        encodes = machine.gpus * count / cluster.gpus if cluster.gpus else 0.0
        into = share * costs.read_bytes + encodes * away * clips
        out = 0.0 if encodes or not cluster.gpus else share * clips
        rates.append(count * machine.network * _per(max(into, out)))
    return min(rates)


def _filling(
    costs: Costs, limits: Mapping[str, float], pools: Pools, work: Work, block: int
) -> float:
    """Seconds in which the bottleneck has nothing to do yet, or the others nothing any more."""
    batch = min(work.batch / max(costs.clips, 1e-9), work.videos)
    first = max(block, batch / pools.decode.most) * _decode_s(costs)
    last = batch / limits["encode"] * pools.encode.most
    alone = work.videos / next(iter(limits.values()))
    return min(alone, last if limits["decode"] <= limits["encode"] else first)


def _waiting_bytes(costs: Costs, pools: Pools, work: Work, block: int) -> float:
    """Of clips between decode and encode: a block that each decoder makes and one that it has made,
    and two batches of each encoder.
    """
    made = min(_BLOCK_BYTES, block * costs.clips * costs.clip_bytes)
    batch = work.batch * costs.clip_bytes
    return 2 * pools.decode.most * made + 2 * pools.encode.most * batch


def cpus_per_gpu(costs: Costs, kind: str) -> float:
    """CPUs that keep one GPU of this kind busy, its encode actor's own one counted."""
    videos = gpu_rate(costs, kind) / max(costs.clips, 1e-9)
    work = costs.clips * costs.write_cpu_s + costs.flow_cpu_s
    return 1 + videos * (_decode_s(costs) + work / costs.cpu_speed) / costs.efficiency


def _per(amount: float) -> float:
    return 1 / amount if amount > 0 else math.inf
