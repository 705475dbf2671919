"""Machines, and clusters made of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A type of node. gpu: the kind of its GPUs, as `L4`; network: bytes/s in each direction, price
    and spot: of an hour; None where nobody said.
    """

    name: str
    cpus: float
    gpus: float = 0
    gpu: str = ""
    memory_bytes: float | None = None
    network: float | None = None
    price: float | None = None
    spot: float | None = None


@dataclass(frozen=True, slots=True)
class Cluster:
    """So many of each type of node, those with GPUs of one kind."""

    groups: tuple[tuple[Machine, int], ...]

    def __str__(self) -> str:
        return " + ".join(f"{count} × {machine.name}" for machine, count in self.groups)

    @property
    def nodes(self) -> int:
        return sum(count for _, count in self.groups)

    @property
    def cpus(self) -> float:
        return sum(count * machine.cpus for machine, count in self.groups)

    @property
    def gpus(self) -> float:
        return sum(count * machine.gpus for machine, count in self.groups)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of GPUs."""
        return tuple(dict.fromkeys(machine.gpu for machine, _ in self.groups if machine.gpus))

    @property
    def memory_bytes(self) -> float | None:
        parts = [m.memory_bytes * n for m, n in self.groups if m.memory_bytes is not None]
        return sum(parts) if len(parts) == len(self.groups) else None

    def per_hour(self, *, spot: bool) -> float | None:
        """None where some node has no price."""
        total = 0.0
        for machine, count in self.groups:
            price = machine.price
            if spot and machine.spot is not None:
                price = machine.spot
            if price is None:
                return None
            total += count * price
        return total

    def with_count(self, name: str, count: int) -> Cluster:
        """The same with `count` of the type `name`."""
        return Cluster(tuple((m, count if m.name == name else n) for m, n in self.groups))
