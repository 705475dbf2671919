"""Which clusters a plan looks at, where nobody has named any, and what moves a bottleneck."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vidembed.amounts import ActorRange
from vidembed.planning.machines import Cluster, Machine
from vidembed.planning.model import NotMeasuredError, Prediction, gpu_rate, predict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vidembed.planning.model import Costs, Work

_MOST_NODES = 10_000


@dataclass(frozen=True, slots=True)
class Move:
    """What is more, how many times faster the job is with it, and what binds then."""

    what: str
    gain: float
    then: str


def fitted(work: Work, cluster: Cluster) -> Work:
    """The job as one would start it there: without GPUs, an encode actor on each node."""
    config = work.config
    if config.encode_actors is not None or cluster.nodes < 2:
        return work
    if cluster.gpus and config.device != "cpu":
        return work
    actors = ActorRange(1, cluster.nodes)
    return replace(work, config=config.model_copy(update={"encode_actors": actors}))


def look(costs: Costs, cluster: Cluster, work: Work) -> Prediction:
    """`predict`, of the job as one would start it there."""
    return predict(costs, cluster, fitted(work, cluster))


def moves(costs: Costs, cluster: Cluster, work: Work) -> list[Move]:
    """Twice as many of each type of node, in turn; and of a cluster of one node twice its CPUs."""
    now = look(costs, cluster, work)
    found = []
    for machine, count in cluster.groups:
        more = cluster.with_count(machine.name, 2 * count)
        what = f"{2 * count} × {machine.name}"
        if cluster.nodes == 1:
            more = Cluster(((replace(machine, cpus=2 * machine.cpus), 1),))
            what = f"{2 * machine.cpus:g} CPUs"
        then = look(costs, more, work)
        found.append(Move(what, then.rate / now.rate, then.bottleneck))
    return found


def clusters(
    costs: Costs, types: Iterable[Machine], work: Work, deadline_s: float | None
) -> tuple[list[Cluster], list[str]]:
    """Each type of node alone, and each GPU type with so many of the cheapest CPU type that its
    GPU is busy; with a deadline, as many of them as meet it.

    Returns these, and of the GPU types whose rate is not known why they are left out.
    """
    types = list(types)
    on_gpu = work.config.device != "cpu"
    plain = [machine for machine in types if not machine.gpus]
    helper = min(plain, key=_cpu_price, default=None)
    found, lacking = [], []
    for machine in types:
        if machine.gpus and not on_gpu:
            continue
        try:
            if machine.gpus:
                gpu_rate(costs, machine.gpu)
            found += list(_sized(costs, machine, helper, work, deadline_s))
        except NotMeasuredError as error:
            lacking.append(f"{machine.name}: {error}")
    return list(dict.fromkeys(found)), lacking


def _cpu_price(machine: Machine) -> float:
    return machine.price / machine.cpus if machine.price is not None else float("inf")


def _sized(
    costs: Costs, machine: Machine, helper: Machine | None, work: Work, deadline_s: float | None
) -> Iterator[Cluster]:
    alone = Cluster(((machine, 1),))
    if deadline_s is None:
        yield alone
    elif (enough := _enough(costs, alone, work, deadline_s)) is not None:
        yield enough
    if not machine.gpus or helper is None:
        return
    balanced = _balanced(costs, Cluster(((machine, 1), (helper, 1))), work)
    if balanced is None:
        return
    if deadline_s is None:
        yield balanced
    elif (enough := _enough(costs, balanced, work, deadline_s)) is not None:
        yield enough


def _balanced(costs: Costs, pair: Cluster, work: Work) -> Cluster | None:
    """One GPU node and so many CPU nodes that more of them would not make it faster; None where
    none does.
    """
    (gpu_node, _), (cpu_node, _) = pair.groups
    alone = look(costs, Cluster(((gpu_node, 1),)), work).rate
    best: Cluster | None = None
    for count in range(1, _MOST_NODES):
        more = pair.with_count(cpu_node.name, count)
        rate = look(costs, more, work).rate
        if rate <= alone * 1.01:
            return best
        best, alone = more, rate
    return best


def _enough(costs: Costs, unit: Cluster, work: Work, deadline_s: float) -> Cluster | None:
    """So many times `unit` that the deadline is met, without what turns out not to be needed; None
    where no number does it.
    """

    def met(cluster: Cluster) -> bool:
        return look(costs, cluster, work).seconds <= deadline_s

    def times(factor: int) -> Cluster:
        return Cluster(tuple((machine, factor * count) for machine, count in unit.groups))

    high = 1
    while not met(times(high)):
        high *= 2
        if high * unit.nodes > _MOST_NODES:
            return None
    found = times(_least(high // 2 + 1 if high > 1 else 1, high, lambda k: met(times(k))))
    for machine, count in reversed(found.groups):
        if len(found.groups) > 1:
            fewer = _least(1, count, lambda k, m=machine, f=found: met(f.with_count(m.name, k)))
            found = found.with_count(machine.name, fewer)
    return found


def _least(low: int, high: int, enough: object) -> int:
    """The least of low..high for which `enough` is true, which it is for `high`."""
    assert callable(enough)
    while low < high:
        middle = (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle + 1
    return low
