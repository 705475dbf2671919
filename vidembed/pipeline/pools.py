"""How a cluster's CPUs and GPUs are shared out, and the wait for those that are still to come."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import ray
from ray.util.placement_group import placement_group, remove_placement_group

from vidembed.amounts import ActorRange
from vidembed.errors import ConfigError, RunError
from vidembed.pipeline.progress import say
from vidembed.write import WRITE_CPUS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vidembed.config import EmbedConfig

# Room that is there is given in milliseconds; nothing is said about a wait of less.
_AT_ONCE_S = 2.0
# What an encoder with a GPU claims of a CPU, and what decoders leave of all CPUs when they fill
# them: a node has as many decoders as CPUs, and room for its encoders besides. So one that has died
# there, or whose node has just come, finds its place whoever was faster. The CPU that it works with
# is kept free by the number of decoders.
_BESIDE_GPU = 0.001
_LEFT_OVER = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Pools:
    """How many actors each pool has, and what one of them claims. encode: of each encoder's pool;
    decode_first, encode_first: those that are started at once. threads: of torch, on a CPU. shared:
    whether all stages share the cores of one machine.
    """

    decode: ActorRange
    decode_first: int
    decode_cpus: float
    encode: ActorRange
    encode_first: int
    encode_cpus: float
    encode_gpus: float
    encode_resources: Mapping[str, float]
    threads: int
    shared: bool


def allocate(cpus: float, gpus: float, nodes: int, config: EmbedConfig, encoders: int = 1) -> Pools:
    """Share out a cluster. Each encoder gets a pool; decoding gets every CPU that encoding and
    writing leave. One machine without a GPU has as many decoders as CPUs, and the encoders besides:
    whichever stage is slower keeps the other waiting, and finds every core free.

    Where all that was asked for does not fit, actors claim fractions of a CPU: a pool that waits
    for a CPU that never comes free looks like a hang. Raises ConfigError for GPUs that are not
    there.
    """
    on_gpu = config.device != "cpu" and gpus > 0
    _check_there(cpus, gpus, config)
    per_actor = config.gpus_per_actor if on_gpu else 0.0
    most = max(1, _fitting(gpus, per_actor, encoders))
    encode = config.encode_actors or ActorRange(most if _keeps_all(config) else 1, most)
    least = encoders * encode.least
    if on_gpu and least * per_actor > gpus:
        raise ConfigError(
            f"{least} encode actors of {per_actor:g} GPU each do not fit into {gpus:g} GPUs; "
            f"--gpus-per-actor {_fraction(gpus / least)} makes room for them"
        )
    shared = nodes == 1 and not on_gpu and _keeps_all(config)
    spare = cpus if shared else cpus - encoders * encode.most - WRITE_CPUS
    decode = config.decode_actors or ActorRange(1, max(1, int(spare)))
    # So many must have a place.
    decoders = max(decode.least, min(decode.most, int(cpus))) if shared else decode.least
    decode_cpus, encode_cpus = _claims(cpus, decoders, least, on_gpu=on_gpu)
    # On a CPU, decoding waits for encoding most of the time: the encoder may use every core of its
    # node, shared with the other encoders there.
    per_node = max(1, -(-encoders * encode.most // max(1, nodes)))
    threads = 0 if on_gpu else max(1, int(cpus / max(1, nodes)) // per_node)
    return Pools(
        decode=decode,
        decode_first=decode.least if _grows(config) else decode.most,
        decode_cpus=decode_cpus,
        encode=encode,
        encode_first=min(max(encode.least, most), encode.most) if on_gpu else encode.least,
        encode_cpus=encode_cpus,
        encode_gpus=per_actor,
        encode_resources=_resources(config.encode_resources),
        threads=threads,
        shared=shared,
    )


def _check_there(cpus: float, gpus: float, config: EmbedConfig) -> None:
    if config.device == "cuda" and not gpus:
        raise ConfigError(
            "--device cuda: the Ray cluster has no GPU; of one that grows, --cluster-gpus says how "
            "many it may have"
        )
    if not cpus:
        raise ConfigError(
            "the Ray cluster has no CPU; of one that grows, --cluster-cpus says how many it may "
            "have"
        )


def _keeps_all(config: EmbedConfig) -> bool:
    """Whether the GPUs are held from the start to the end. An encoder that was let go loads its
    weights again when it is missed; only where nodes go when they are idle is that worth it.
    """
    return not _grows(config) and not config.encode_resources


def _grows(config: EmbedConfig) -> bool:
    return config.cluster_cpus is not None or config.cluster_gpus is not None


def _fitting(gpus: float, per_actor: float, encoders: int) -> int:
    """Actors of each encoder that these GPUs hold; one where actors claim none."""
    return int(gpus / per_actor) // encoders if per_actor else 1


def _claims(cpus: float, decoders: int, encoders: int, *, on_gpu: bool) -> tuple[float, float]:
    """CPUs of a decode actor and of an encode actor, where so many must have a place."""
    room = cpus - 2 * WRITE_CPUS
    if on_gpu:
        fitting = (room - encoders * _BESIDE_GPU) / decoders
        return _rounded_down(min(cpus / (cpus + _LEFT_OVER), fitting)), _BESIDE_GPU
    share = _rounded_down(min(1.0, room / (decoders + encoders)))
    return share, share


def _rounded_down(claim: float) -> float:
    """One digit too much is an actor less on every node."""
    return max(0.05, int(claim * 1000) / 1000)


def _resources(words: tuple[str, ...]) -> dict[str, float]:
    return {name: float(amount) for name, _, amount in (word.rpartition("=") for word in words)}


def _fraction(gpus: float) -> str:
    """A share of a GPU, rounded down: two of a half fit, two of 0.51 do not."""
    return f"{int(gpus * 100) / 100:g}"


def size(config: EmbedConfig) -> tuple[float, float, int]:
    """CPUs, GPUs and nodes with CPUs of the cluster: those that are up, or, of one that grows,
    those that it is said to have at its largest. An autoscaler tells nobody what it may bring.
    """
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    working = [found["CPU"] for found in resources if found.get("CPU")]
    up = sum(working)
    cpus = max(up, config.cluster_cpus or 0)
    gpus = max(sum(found.get("GPU", 0.0) for found in resources), config.cluster_gpus or 0)
    # Those that come are taken to be like the largest that is there.
    more = math.ceil((cpus - up) / max(working)) if working else 0
    return cpus, gpus, max(1, len(working) + more)


def check_growing(config: EmbedConfig) -> None:
    """Before Ray is there: raise ConfigError where nodes would be waited for that cannot come."""
    joins = config.ray_address or os.environ.get("RAY_ADDRESS") or ray.is_initialized()
    if _grows(config) and not joins:
        raise ConfigError(
            "--cluster-cpus and --cluster-gpus are of a cluster that grows; without --ray-address "
            "and RAY_ADDRESS Ray is started on this machine"
        )


def share_out(config: EmbedConfig, encoders: int = 1) -> Pools:
    """The pools of a job on this cluster. Of a cluster that grows, the nodes for the least of each
    pool are asked for first, and waited for.

    Raises ConfigError for what the cluster does not have and will not get, RunError where nodes do
    not come in time.
    """
    pools = allocate(*size(config), config, encoders)
    least = _least(pools, encoders)
    if not _grows(config):
        _check_offered(pools.encode_resources, len(least.encode))
        return pools
    _wait(least, config.cluster_wait)
    pools = allocate(*size(config), config, encoders)
    # The others are for Ray Data to ask for, when there is work for them.
    up = _fitting(ray.cluster_resources().get("GPU", 0.0), pools.encode_gpus, encoders)
    first = min(max(pools.encode.least, up), pools.encode.most)
    return replace(pools, encode_first=first)


@dataclass(frozen=True, slots=True)
class _Least:
    """What the least of each pool claims, a bundle of Ray's for each actor."""

    encode: list[dict[str, float]]
    decode: list[dict[str, float]]

    def __str__(self) -> str:
        total: dict[str, float] = {}
        for bundle in (*self.encode, *self.decode):
            for name, amount in bundle.items():
                total[name] = total.get(name, 0.0) + amount
        return ", ".join(f"{amount:g} {name}" for name, amount in total.items() if amount)


def _least(pools: Pools, encoders: int) -> _Least:
    encode = {"CPU": pools.encode_cpus, "GPU": pools.encode_gpus, **pools.encode_resources}
    encode = {name: amount for name, amount in encode.items() if amount}
    # A writer needs a place too, beside the decoders.
    writer = {"CPU": WRITE_CPUS}
    return _Least(
        [encode] * (encoders * pools.encode.least),
        [{"CPU": pools.decode_cpus}] * pools.decode.least + [writer],
    )


def _check_offered(resources: Mapping[str, float], actors: int) -> None:
    offered = ray.cluster_resources()
    for name, amount in resources.items():
        if offered.get(name, 0.0) < amount * actors:
            raise ConfigError(
                f"--encode-resources {name}={amount:g}: the Ray cluster has "
                f"{offered.get(name, 0.0):g} {name}, and {actors} encode actors need "
                f"{amount * actors:g}"
            )


def _wait(least: _Least, seconds: float) -> None:
    """Until the cluster has room for `least`. Pending bundles are what an autoscaler goes by."""
    began = time.monotonic()
    room = placement_group([*least.encode, *least.decode], strategy="PACK")
    try:
        if room.wait(_AT_ONCE_S):
            return
        say(
            f"waiting for nodes: the first actors need {least}, the cluster has {_there()}; "
            f"at most {seconds:g} s (--cluster-wait)"
        )
        if not room.wait(seconds):
            raise RunError(
                f"after {seconds:g} s there is no room for the first actors: they need {least}, "
                f"the cluster has {_there()}. `ray status` says what the autoscaler waits for, "
                f"or that it knows no such node; --cluster-wait waits longer"
            )
        say(f"the nodes have come, after {time.monotonic() - began:.0f} s: {_there()}")
    finally:
        remove_placement_group(room)


def _there() -> str:
    offered = ray.cluster_resources()
    return f"{offered.get('CPU', 0.0):g} CPU, {offered.get('GPU', 0.0):g} GPU"
