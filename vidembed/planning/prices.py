"""Node types and what they cost, from a small file that people edit."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import yaml

from vidembed import sources
from vidembed.errors import ConfigError
from vidembed.planning.machines import Cluster, Machine

if TYPE_CHECKING:
    from collections.abc import Mapping

SHIPPED = "the file that ships"
_OLD = datetime.timedelta(days=365)
_NUMBERS = ("cpus", "gpus", "memory_gib", "network", "price", "spot")
_TOP = ("date", "currency", "region", "types")
_GBIT = 1e9 / 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """source: where they were read; types: by name."""

    source: str
    date: datetime.date
    currency: str
    region: str
    types: Mapping[str, Machine]

    def warnings(self, today: datetime.date) -> list[str]:
        if today - self.date <= _OLD:
            return []
        when = f"the prices of {self.source} are of {self.date}, more than a year ago"
        return [f"{when}: copy the file, mend it, and name it with --prices"]

    def cluster(self, words: str) -> Cluster:
        """`TYPE=COUNT+TYPE=COUNT`. Raises ConfigError."""
        groups: dict[str, int] = {}
        for word in words.split("+"):
            name, _, count = word.strip().partition("=")
            if name not in self.types:
                raise ConfigError(
                    f"--nodes {words}: {self.source} has no type {name!r}; it has "
                    f"{', '.join(self.types)}"
                )
            if not (count or "1").isdecimal() or not int(count or "1"):
                raise ConfigError(f"--nodes {words}: expected {name}=COUNT, with a count above 0")
            groups[name] = groups.get(name, 0) + int(count or "1")
        return Cluster(tuple((self.types[name], count) for name, count in groups.items()))


def read(path: str | None) -> Prices:
    """The prices of a file, or those that ship. Raises ConfigError that names the row."""
    if path is None:
        text = resources.files("vidembed.planning").joinpath("prices.yaml").read_text("utf-8")
        return _parsed(text, SHIPPED)
    try:
        text = sources.read_whole(sources.absolute(path)).decode()
    except OSError as error:
        raise ConfigError(f"--prices {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"--prices {path}: {error}") from error
    return _parsed(text, path)


def _parsed(text: str, source: str) -> Prices:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"--prices {source}: not valid YAML: {reason}") from error
    if not isinstance(found, dict) or set(_TOP) - set(found):
        raise ConfigError(
            f"--prices {source}: expected {', '.join(_TOP)} at the top, as the file that ships has "
            f"them"
        )
    date, types = found["date"], found["types"]
    if not isinstance(date, datetime.date):
        raise ConfigError(f"--prices {source}: date {date!r}: expected a day as 2026-11-22")
    if not isinstance(types, dict) or not types:
        raise ConfigError(f"--prices {source}: types: expected NAME: {{cpus: N, price: X, …}}")
    return Prices(
        source=source,
        date=date,
        currency=str(found["currency"]),
        region=str(found["region"]),
        types={str(name): _machine(str(name), row, source) for name, row in types.items()},
    )


def _machine(name: str, row: Any, source: str) -> Machine:
    where = f"--prices {source}: {name}"
    if not isinstance(row, dict):
        raise ConfigError(f"{where}: expected {{cpus: N, price: X, …}}, got {row!r}")
    if unknown := sorted(set(map(str, row)) - {*_NUMBERS, "gpu"}):
        raise ConfigError(
            f"{where}: unknown {', '.join(unknown)}; a type has {', '.join(_NUMBERS)} and gpu"
        )
    numbers = {key: _number(row.get(key), f"{where}: {key}") for key in _NUMBERS}
    if not numbers["cpus"]:
        raise ConfigError(f"{where}: cpus: say how many CPUs it has")
    gpus, kind = numbers["gpus"] or 0.0, str(row.get("gpu") or "")
    if bool(gpus) != bool(kind):
        raise ConfigError(f"{where}: gpus and gpu (their kind, as L4) need each other")
    memory, network = numbers["memory_gib"], numbers["network"]
    return Machine(
        name=name,
        cpus=numbers["cpus"],
        gpus=gpus,
        gpu=kind,
        memory_bytes=None if memory is None else memory * 2**30,
        network=None if network is None else network * _GBIT,
        price=numbers["price"],
        spot=numbers["spot"],
    )


def _number(value: Any, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise ConfigError(f"{where}: expected a number of at least 0, got {value!r}")
    return float(value)
