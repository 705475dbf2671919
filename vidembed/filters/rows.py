"""The rows of a table for which an expression without `not` holds: Arrow's kernels, by column."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidembed.filters.kinds import arrow_kind
from vidembed.filters.nodes import (
    Among,
    Column,
    Comparison,
    Constant,
    Contains,
    Junction,
    Like,
    Null,
    Wildcard,
)

if TYPE_CHECKING:
    from vidembed.filters.nodes import Node, Value

_KERNELS = {
    "==": pc.equal, "!=": pc.not_equal, "<": pc.less, "<=": pc.less_equal,
    ">": pc.greater, ">=": pc.greater_equal,
}  # fmt: skip
_ARITHMETIC = {"+": pc.add, "-": pc.subtract, "*": pc.multiply}


def holds(node: Node, table: pa.Table) -> pa.BooleanArray:
    """bool [rows], without nulls. The columns are there and of kinds that compare."""
    if isinstance(node, Junction):
        parts = [holds(part, table) for part in node.parts]
        found = parts[0]
        for part in parts[1:]:
            found = pc.and_(found, part) if node.operator == "and" else pc.or_(found, part)
        return found
    found = _leaf(node, table)
    if isinstance(found, pa.Scalar):
        found = pa.array(np.full(len(table), bool(found.as_py())))
    return pc.fill_null(found, False)


def _leaf(node: Any, table: pa.Table) -> Any:
    match node:
        case Comparison():
            return _compared(node, table)
        case Among():
            return _among(node, values(node.column, table))
        case Like():
            return _like(node, values(node.column, table))
        case Null():
            found = values(node.column, table)
            return pc.is_valid(found) if node.negated else pc.is_null(found)
        case Contains():
            return _contains(node, values(node.column, table))


def _compared(node: Comparison, table: pa.Table) -> Any:
    left, right = _value(node.left, table), _value(node.right, table)
    if pa.types.is_null(left.type) or pa.types.is_null(right.type):
        return pa.nulls(len(table), pa.bool_())
    return _KERNELS[node.operator](left, right)


def _value(value: Value, table: pa.Table) -> Any:
    if isinstance(value, Column):
        return values(value, table)
    if isinstance(value, Constant):
        return pa.scalar(value.value)
    left, right = _value(value.left, table), _value(value.right, table)
    if pa.types.is_null(left.type) or pa.types.is_null(right.type):
        return pa.nulls(len(table), pa.int64())
    if value.operator == "/":
        return pc.divide(left.cast(pa.float64()), right.cast(pa.float64()))
    if value.operator == "%":
        # Of C++, whose remainder has the sign of the dividend; by 0 there is none.
        right = pc.if_else(pc.equal(right, 0), None, right)
        return pc.subtract(left, pc.multiply(pc.divide(left, right), right))
    return _ARITHMETIC[value.operator](left, right)


def _among(node: Among, found: pa.Array) -> Any:
    if pa.types.is_null(found.type):
        return pa.nulls(len(found), pa.bool_())
    if arrow_kind(found.type) in ("whole", "real"):
        wanted = pa.array([float(item) for item in node.items], pa.float64())
        inside = pc.is_in(found.cast(pa.float64(), safe=False), wanted)
        if all(isinstance(item, int) for item in node.items) and pa.types.is_integer(found.type):
            inside = pc.is_in(found, pa.array(node.items, pa.int64()))
    else:
        inside = pc.is_in(found, pa.array(node.items, found.type))
    return pc.and_(pc.is_valid(found), pc.invert(inside) if node.negated else inside)


def _like(node: Like, found: pa.Array) -> Any:
    if pa.types.is_null(found.type):
        return pa.nulls(len(found), pa.bool_())
    pattern = "".join(
        piece.sign if isinstance(piece, Wildcard) else _escaped(piece) for piece in node.pieces
    )
    matches = pc.match_like(found, pattern)
    return pc.invert(matches) if node.negated else matches


def _escaped(piece: str) -> str:
    return piece.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _contains(node: Contains, found: pa.Array) -> pa.Array:
    wanted = [(type(item) is bool, item) for item in node.items]

    def has(value: Any) -> bool | None:
        if not isinstance(value, list):
            return None
        there = {(type(item) is bool, item) for item in value if not isinstance(item, list | dict)}
        each = [item in there for item in wanted]
        return (all(each) if node.every else any(each)) != node.negated

    return pa.array([has(_plain(value)) for value in found.to_pylist()], pa.bool_())


def values(column: Column, table: pa.Table) -> pa.Array:
    """A column, or what lies in it, as text, int64, double, booleans, or lists and objects."""
    found = table[column.name].combine_chunks()
    if isinstance(found, pa.ChunkedArray):
        found = pa.concat_arrays(found.chunks) if found.num_chunks else pa.array([], found.type)
    for step in column.path[1:]:
        found = _under(found, step)
    return _simple(found)


def _under(found: pa.Array, step: str | int) -> pa.Array:
    kind = found.type
    if isinstance(step, str):
        if pa.types.is_struct(kind) and kind.get_field_index(step) >= 0:
            return pc.struct_field(found, step)
        return pa.nulls(len(found))
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)
            or pa.types.is_fixed_size_list(kind)):  # fmt: skip
        return pa.nulls(len(found))
    there = [each[step] if each is not None and step < len(each) else None
             for each in found.to_pylist()]  # fmt: skip
    return pa.array(there, kind.value_type)


def _simple(found: pa.Array) -> pa.Array:
    kind = found.type
    if pa.types.is_dictionary(kind):
        return _simple(found.dictionary_decode())
    match arrow_kind(kind):
        case "whole" if kind != pa.uint64():
            return found.cast(pa.int64())
        case "whole" | "real":
            found = found.cast(pa.float64(), safe=False)
            # JSON has no word for what is no number, or none that ends.
            return pc.if_else(pc.is_finite(found), found, None)
        case "text" if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return found
        case "text":
            return pa.array([_plain(value) for value in found.to_pylist()], pa.string())
    return found


def _plain(value: Any) -> Any:
    """As the dynamic field of Milvus has it."""
    if value is None:
        return None
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return json.loads(json.dumps(value, default=str))
