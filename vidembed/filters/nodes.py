"""What an expression consists of once it is read. Positions are characters of its text, from 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vidembed.errors import ConfigError

Operator = Literal["==", "!=", "<", "<=", ">", ">="]
Plain = str | int | float | bool

OPPOSITE: dict[Operator, Operator] = {
    "==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">",
}  # fmt: skip
"""Of `not`."""
MIRRORED: dict[Operator, Operator] = {
    "==": "==", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<=",
}  # fmt: skip
"""With the sides changed."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column, or what lies in it under keys and places: `info["tags"][0]`."""

    path: tuple[str | int, ...]
    at: int

    @property
    def name(self) -> str:
        return str(self.path[0])

    def __str__(self) -> str:
        rest = "".join(f'["{p}"]' if isinstance(p, str) else f"[{p}]" for p in self.path[1:])
        return self.name + rest


@dataclass(frozen=True, slots=True)
class Constant:
    value: Plain
    at: int


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """operator: one of + - * / %."""

    operator: str
    left: Value
    right: Value
    at: int


Value = Column | Constant | Arithmetic


@dataclass(frozen=True, slots=True)
class Comparison:
    operator: Operator
    left: Value
    right: Value
    at: int


@dataclass(frozen=True, slots=True)
class Among:
    """`in`, or `not in`."""

    column: Column
    items: tuple[Plain, ...]
    negated: bool
    at: int


@dataclass(frozen=True, slots=True)
class Like:
    """pieces: the pattern cut at its wildcards: texts, and % and _ as `Wildcard`."""

    column: Column
    pieces: tuple[str | Wildcard, ...]
    negated: bool
    at: int


@dataclass(frozen=True, slots=True)
class Wildcard:
    sign: Literal["%", "_"]


@dataclass(frozen=True, slots=True)
class Null:
    """`is null`; negated: `is not null` and `exists`."""

    column: Column
    negated: bool
    at: int


@dataclass(frozen=True, slots=True)
class Contains:
    """How many of the items must be in a list: `every` of them, or any."""

    column: Column
    items: tuple[Plain, ...]
    every: bool
    negated: bool
    at: int


@dataclass(frozen=True, slots=True)
class Not:
    part: Node
    at: int


@dataclass(frozen=True, slots=True)
class Junction:
    """operator: `and`, `or`."""

    operator: Literal["and", "or"]
    parts: tuple[Node, ...]
    at: int


Leaf = Comparison | Among | Like | Null | Contains
Node = Leaf | Not | Junction


def wrong(at: int, message: str) -> ConfigError:
    return ConfigError(f"--filter: at {at}: {message}")
