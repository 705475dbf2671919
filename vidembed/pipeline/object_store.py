"""What a job may put into the object stores of a cluster's nodes, and how full they become."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import ray

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_EVERY_S = 1.0
# Of a raylet, to answer: one that is slower is busy or gone, and the next sample comes soon.
_PATIENCE_S = 5.0
# Of a decoder's share of its node's store: it has one table in the making and two that nobody has
# taken yet.
_TABLES = 16
_MOST_TABLE_BYTES = 64 << 20
# Of the store of an encoder's node: an actor has two batches there, and a third is on its way.
_BATCHES = 8
_BATCHES_OF_AN_ENCODER = 3
_MOST_BATCH_BYTES = 256 << 20
# Of the stores of the nodes that decode, where all lies that waits for an encoder. What decoders
# hold comes on top, and one node has more than another; from four fifths on Ray spills.
_WAITING = 0.4


@dataclass(frozen=True, slots=True)
class Portions:
    """Bytes of frames that are handed over at once: a table of a decoder, a batch of an encoder."""

    table_bytes: int = _MOST_TABLE_BYTES
    batch_bytes: int = _MOST_BATCH_BYTES


class Stores:
    """The object stores of a cluster's nodes. nodes: Ray's resources of each, by name: CPU, GPU,
    bytes of object_store_memory.
    """

    def __init__(self, nodes: Iterable[Mapping[str, float]]) -> None:
        self._all = [node for node in nodes if node.get("object_store_memory")]
        # Without a CPU a node holds nothing.
        self._working = [node for node in self._all if node.get("CPU")]

    @classmethod
    def here(cls) -> Self:
        """Of the cluster that this process has joined, as it is now."""
        return cls(node["Resources"] for node in ray.nodes() if node["Alive"])

    def portions(self, encoders: int, decoders: int, decode_cpus: float) -> Portions:
        """What fits into the smallest store, and of batches what leaves each encoder its three."""
        if not self._working:
            return Portions()
        share = min(node["object_store_memory"] / max(1.0, node["CPU"]) for node in self._working)
        batches = self._decoding_bytes(decoders, decode_cpus) * _WAITING
        least = min(node["object_store_memory"] for node in self._working) / _BATCHES
        return Portions(
            min(_MOST_TABLE_BYTES, int(share / _TABLES)),
            min(_MOST_BATCH_BYTES, int(least), int(batches / encoders / _BATCHES_OF_AN_ENCODER)),
        )

    def waiting_share(self, decoders: int, decode_cpus: float) -> float:
        """Of all stores of the cluster, what may wait for the next stage, 0 to 1.

        decoders: that are started at once; decode_cpus: what each claims. Ray Data holds a stage
        back by the sum over all nodes of what has been handed over. What each actor is about to
        hand over is not in the sum, nor that some nodes hold nothing and others all of it.
        """
        if not self._working:
            return _WAITING
        return round(_WAITING * self._decoding_bytes(decoders, decode_cpus) / _bytes(self._all), 6)

    def _decoding_bytes(self, decoders: int, decode_cpus: float) -> float:
        """The smallest stores that so many decoders may have between them: Ray puts actors close
        together rather than far apart. They are with GPUs only where no other node is.
        """
        places, taken = 0, []
        nodes = [node for node in self._working if not node.get("GPU")] or self._working
        for node in sorted(nodes, key=lambda node: node["object_store_memory"] / node["CPU"]):
            here = int(node["CPU"] / decode_cpus + 1e-9)
            if here and places < decoders:
                places += here
                taken.append(node)
        return _bytes(taken or nodes)


def _bytes(nodes: Iterable[Mapping[str, float]]) -> float:
    return sum(node["object_store_memory"] for node in nodes)


@dataclass(frozen=True, slots=True)
class NodeStore:
    """One node's store. used_bytes: of shared memory; spilled_bytes: since the node was started."""

    used_bytes: int
    limit_bytes: int
    spilled_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreUse:
    """What a job has seen of all stores together, other jobs' objects included.

    limit_bytes: their size when they held most; peak_bytes: the most that they held;
    fullest_share: the most that one node held of its own, 0 to 1; spilled_bytes: written to disk
    for want of room while the job worked. Each None where no node has answered.
    """

    limit_bytes: int | None = None
    peak_bytes: int | None = None
    fullest_share: float | None = None
    spilled_bytes: int | None = None


class Gathered:
    """Samples of every node, summed up. Holds as much as there are nodes, however long it takes."""

    def __init__(self) -> None:
        self._limit = self._peak = -1
        self._fullest = 0.0
        self._before: dict[str, int] = {}
        self._spilled: dict[str, int] = {}

    def add(self, nodes: dict[str, NodeStore]) -> None:
        """One sample, by node. What was spilled before the first one is not this job's."""
        if not nodes:
            return
        first = not self._spilled
        for name, store in nodes.items():
            # Of a node that has come since, all of it.
            self._before.setdefault(name, store.spilled_bytes if first else 0)
            self._spilled[name] = store.spilled_bytes
            self._fullest = max(self._fullest, store.used_bytes / max(1, store.limit_bytes))
        used = sum(store.used_bytes for store in nodes.values())
        if used > self._peak:
            self._peak = used
            self._limit = sum(store.limit_bytes for store in nodes.values())

    def use(self) -> StoreUse:
        if self._peak < 0:
            return StoreUse()
        return StoreUse(
            limit_bytes=self._limit,
            peak_bytes=self._peak,
            fullest_share=round(self._fullest, 4),
            # A node that has gone away keeps what it had spilled by then.
            spilled_bytes=sum(self._spilled[name] - self._before[name] for name in self._spilled),
        )


class StoreWatch:
    """Asks every raylet once a second, from a thread of its own, while the block runs.

    Raylets answer themselves: no dashboard and no agent is needed. One that does not answer is left
    out of a sample; nothing that goes wrong here reaches the job.
    """

    def __init__(self, every_s: float = _EVERY_S) -> None:
        self._every = every_s
        self._gathered = Gathered()
        self._raylets = _Raylets()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="object-store", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(2 * _PATIENCE_S)

    @property
    def use(self) -> StoreUse:
        return self._gathered.use()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._gathered.add(self._raylets.ask())
                self._stop.wait(self._every)
            # What was spilled at the very end counts as well.
            self._gathered.add(self._raylets.ask())
        finally:
            self._raylets.close()


class _Raylets:
    """The raylets of the cluster that this process has joined, with a channel to each."""

    def __init__(self) -> None:
        self._channels: dict[str, Any] = {}

    def ask(self) -> dict[str, NodeStore]:
        """The stores of the nodes that answer, by node."""
        import grpc  # type: ignore[import-untyped]

        try:
            alive = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        except (ray.exceptions.RayError, RuntimeError, OSError):
            # The head does not answer.
            return {}
        self._forget(set(self._channels) - set(alive))
        deadline = time.monotonic() + _PATIENCE_S
        found = {}
        for name, call in [(name, self._call(name, node)) for name, node in alive.items()]:
            try:
                stats = call.result(max(0.0, deadline - time.monotonic())).store_stats
            except (grpc.RpcError, grpc.FutureTimeoutError):
                continue
            found[name] = NodeStore(
                stats.object_store_bytes_used,
                stats.object_store_bytes_avail,
                stats.spilled_bytes_total,
            )
        return found

    def close(self) -> None:
        self._forget(list(self._channels))

    def _call(self, name: str, node: dict[str, Any]) -> Any:
        # Only here: a driver that has nothing to do does without them.
        from ray._private.grpc_utils import init_grpc_channel
        from ray.core.generated.node_manager_pb2 import GetNodeStatsRequest
        from ray.core.generated.node_manager_pb2_grpc import NodeManagerServiceStub

        if name not in self._channels:
            address = f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
            self._channels[name] = init_grpc_channel(address)
        stub = NodeManagerServiceStub(self._channels[name])
        return stub.GetNodeStats.future(
            GetNodeStatsRequest(include_memory_info=False), timeout=_PATIENCE_S
        )

    def _forget(self, names: Iterable[str]) -> None:
        for name in names:
            self._channels.pop(name).close()
