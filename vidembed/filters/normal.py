"""An expression without `not`: it has gone into the leaves, where a missing value cannot pass.

In three-valued logic what compares with a missing value is neither true nor false, and `not` leaves
it so. Without `not` above the leaves it is enough that such a leaf is not true.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vidembed.filters.nodes import (
    MIRRORED,
    OPPOSITE,
    Arithmetic,
    Column,
    Comparison,
    Constant,
    Junction,
    Not,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidembed.filters.nodes import Node, Value


def normal(node: Node, negated: bool = False) -> Node:  # noqa: FBT001, FBT002
    """With constants on the right, too."""
    match node:
        case Not():
            return normal(node.part, not negated)
        case Junction():
            operator = node.operator
            if negated:
                operator = "or" if operator == "and" else "and"
            return Junction(operator, tuple(normal(part, negated) for part in node.parts), node.at)
        case Comparison():
            sign = OPPOSITE[node.operator] if negated else node.operator
            if isinstance(node.left, Constant):
                return Comparison(MIRRORED[sign], node.right, node.left, node.at)
            return replace(node, operator=sign)
        case _:
            return replace(node, negated=node.negated != negated)


def columns(node: Node) -> Iterator[Column]:
    """All that are named, in their order."""
    match node:
        case Junction():
            for part in node.parts:
                yield from columns(part)
        case Not():
            yield from columns(node.part)
        case Comparison():
            yield from _in_value(node.left)
            yield from _in_value(node.right)
        case _:
            yield node.column


def _in_value(value: Value) -> Iterator[Column]:
    match value:
        case Column():
            yield value
        case Arithmetic():
            yield from _in_value(value.left)
            yield from _in_value(value.right)
