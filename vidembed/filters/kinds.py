"""What columns hold, and whether that compares: where a text is compared with a number, one Milvus
finds nothing and another everything; here it is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pyarrow as pa

from vidembed.filters.arithmetic import MODULO, UNLIKE
from vidembed.filters.nodes import (
    Among,
    Arithmetic,
    Column,
    Comparison,
    Constant,
    Contains,
    Junction,
    Leaf,
    Like,
    Node,
    Not,
    Null,
    Plain,
    Value,
    wrong,
)

Kind = Literal["text", "whole", "real", "boolean", "list", "object", "unknown"]
KindOf = Callable[[Column], Kind]

_NAMES = {
    "text": "text", "whole": "whole numbers", "real": "numbers", "boolean": "booleans",
    "list": "lists", "object": "objects",
}  # fmt: skip
_NUMBERS = ("whole", "real")


def arrow_kind(kind: pa.DataType) -> Kind:
    """Of a column as the dynamic field of Milvus would have it, which is JSON."""
    if pa.types.is_dictionary(kind):
        return arrow_kind(kind.value_type)
    if pa.types.is_null(kind):
        return "unknown"
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind):
        return "whole"
    if pa.types.is_floating(kind):
        return "real"
    if pa.types.is_struct(kind):
        return "object"
    return "list" if pa.types.is_nested(kind) else "text"


def plain_kind(value: Any) -> Kind:
    """Of a value of JSON."""
    if isinstance(value, bool):
        return "boolean"
    for kind, name in ((int, "whole"), (float, "real"), (str, "text"), (list, "list")):
        if isinstance(value, kind):
            return name  # type: ignore[return-value]
    return "object" if isinstance(value, dict) else "unknown"


def check(node: Node, kind_of: KindOf) -> None:
    """Raise ConfigError for what compares things of two kinds."""
    if isinstance(node, Junction):
        for part in node.parts:
            check(part, kind_of)
    elif isinstance(node, Not):
        check(node.part, kind_of)
    else:
        _check_leaf(node, kind_of)


def _check_leaf(leaf: Leaf, kind_of: KindOf) -> None:
    match leaf:
        case Comparison():
            _check_comparison(leaf, kind_of)
        case Among():
            for item in leaf.items:
                _check_constant(leaf.column, item, kind_of, leaf.at)
        case Like():
            if (kind := kind_of(leaf.column)) not in ("text", "unknown"):
                raise wrong(leaf.at, f"{leaf.column} holds {_NAMES[kind]}: like is for text")
        case Contains():
            if (kind := kind_of(leaf.column)) not in ("list", "unknown"):
                raise wrong(leaf.at, f"{leaf.column} holds {_NAMES[kind]}, not lists")
        case Null():
            kind_of(leaf.column)


def _check_comparison(leaf: Comparison, kind_of: KindOf) -> None:
    left, right = _kind(leaf.left, kind_of), _kind(leaf.right, kind_of)
    for side, kind in ((leaf.left, left), (leaf.right, right)):
        if kind == "list":
            raise wrong(leaf.at, f"{_said(side)} holds lists: json_contains({_said(side)}, …)")
        if kind == "object":
            raise wrong(leaf.at, f'{_said(side)} holds objects: name a key, {_said(side)}["…"]')
    if "unknown" in (left, right):
        return
    if left != right and not (left in _NUMBERS and right in _NUMBERS):
        raise wrong(leaf.at, f"{_of(leaf.left, left)}, {_of(leaf.right, right)}: see the quotes")
    if left == "boolean" and leaf.operator not in ("==", "!="):
        raise wrong(leaf.at, f"booleans have no order: {leaf.operator} is for numbers and text")


def _check_constant(column: Column, item: Plain, kind_of: KindOf, at: int) -> None:
    _check_comparison(Comparison("==", column, Constant(item, at), at), kind_of)


def _kind(value: Value, kind_of: KindOf) -> Kind:
    match value:
        case Column():
            return kind_of(value)
        case Constant():
            return plain_kind(value.value)
        case Arithmetic():
            return _computed(value, kind_of)


def _computed(value: Arithmetic, kind_of: KindOf) -> Kind:
    sides = [_kind(value.left, kind_of), _kind(value.right, kind_of)]
    for side, kind in zip((value.left, value.right), sides, strict=True):
        if kind not in (*_NUMBERS, "unknown"):
            raise wrong(value.at, f"{value.operator} is for numbers; {_of(side, kind)}")
    if value.operator == "/" and sides == ["whole", "whole"]:
        raise wrong(value.at, UNLIKE)
    if value.operator == "%":
        if "real" in sides:
            raise wrong(value.at, MODULO)
        return "whole"
    if "unknown" in sides:
        return "unknown"
    return "whole" if sides == ["whole", "whole"] else "real"


def _said(value: Value) -> str:
    return str(value) if isinstance(value, Column) else "this"


def _of(value: Value, kind: Kind) -> str:
    if isinstance(value, Constant):
        return f"{value.value!r} is {'a ' if kind != 'text' else ''}{_one(kind)}"
    return f"{_said(value)} holds {_NAMES[kind]}"


def _one(kind: Kind) -> str:
    return {"text": "text", "boolean": "boolean"}.get(kind, "number")
