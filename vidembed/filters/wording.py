"""An expression without `not`, in words that Milvus understands alike in every version.

What no Milvus agrees on is said otherwise: `x != 5`, which 2.3 finds where there is no x, is
`(x < 5 or x > 5)`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
    wrong,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vidembed.filters.kinds import Kind
    from vidembed.filters.nodes import Node, Operator, Plain, Value

_NOTHING, _EVERYTHING = "id in []", "id not in []"
_FIELDS: dict[str, Kind] = {"VARCHAR": "text", "DOUBLE": "real", "FLOAT": "real", "BOOL": "boolean"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Of one collection. version: of a server, None for Milvus Lite; fields: those that are no
    dynamic ones, and their types; dynamic: what the others hold, by path.
    """

    version: tuple[int, ...] | None
    fields: Mapping[str, str]
    dynamic: Mapping[tuple[str | int, ...], Kind]

    def kind(self, column: Column) -> Kind:
        if column.name not in self.fields:
            return self.dynamic.get(column.path, "unknown")
        if len(column.path) > 1:
            raise wrong(column.at, f"there is no {column} in {column.name}")
        field = self.fields[column.name]
        return "whole" if field.startswith("INT") else _FIELDS.get(field, "unknown")

    def is_field(self, value: Value) -> bool:
        return isinstance(value, Column) and value.name in self.fields

    @property
    def is_lite(self) -> bool:
        return self.version is None


def exists(column: Column) -> str:
    """For the rows that have something there."""
    # The parentheses are for 2.3, which reads `exists a and b` as `exists (a and b)`.
    return f"(exists {_column(column)})"


def holds_a_value(column: Column) -> str:
    """For the rows that have a text, a number or a boolean there: a null that stands in the JSON is
    something to `exists` on servers.
    """
    name = _column(column)
    return f'({name} >= "" or {name} < 0 or {name} >= 0 or {name} == true or {name} == false)'


def worded(node: Node, dialect: Dialect) -> str:
    match node:
        case Junction():
            parts = [worded(part, dialect) for part in node.parts]
            return "(" + f" {node.operator} ".join(parts) + ")"
        case Comparison():
            return _comparison(node, dialect)
        case Among():
            return _among(node, dialect)
        case Like():
            return _like(node, dialect)
        case Null():
            return _null(node, dialect)
        case Contains():
            return _contains(node, dialect)
    raise AssertionError(node)


def _comparison(node: Comparison, dialect: Dialect) -> str:
    left, right, sign = node.left, node.right, node.operator
    if isinstance(right, Constant):
        if isinstance(left, Column) and dialect.is_field(left) and isinstance(right.value, float):
            if dialect.kind(left) == "whole":
                return _whole(left, sign, right.value)
        elif isinstance(right.value, bool) and sign == "!=" and not dialect.is_field(left):
            return f"{_value(left)} == {quoted(not right.value)}"
    if sign == "!=" and not dialect.is_field(left):
        before, after = _value(left), _value(right)
        return f"({before} < {after} or {before} > {after})"
    return f"{_value(left)} {sign} {_value(right)}"


def _whole(column: Column, sign: Operator, value: float) -> str:
    """A field of whole numbers compares with whole numbers only."""
    if value.is_integer():
        return f"{_value(column)} {sign} {int(value)}"
    if sign in ("==", "!="):
        return _NOTHING if sign == "==" else _EVERYTHING
    bound = math.floor(value) if sign in (">", "<=") else math.ceil(value)
    return f"{_value(column)} {sign} {bound}"


def _value(value: Value) -> str:
    match value:
        case Column():
            return _column(value)
        case Constant():
            return quoted(value.value)
    return f"({_value(value.left)} {value.operator} {_value(value.right)})"


def _column(column: Column) -> str:
    first, *rest = column.path
    name = str(first)
    if not (name.isascii() and name.isidentifier()):
        rest, name = [first, *rest], "$meta"
    return name + "".join(f"[{quoted(step)}]" for step in rest)


def quoted(value: Plain) -> str:
    """A constant."""
    if isinstance(value, str):
        text = value.replace("\\", "\\\\").replace('"', '\\"')
        for sign, escape in (("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
            text = text.replace(sign, escape)
        return f'"{text}"'
    return json.dumps(value)


def _among(node: Among, dialect: Dialect) -> str:
    items = _items(node, dialect)
    column, name = node.column, _column(node.column)
    there = _null(Null(column, negated=True, at=node.at), dialect)
    if not items:
        return there if node.negated else _NOTHING
    if dialect.is_lite and (len(column.path) > 1 or "$" in name):
        # Lite looks for nothing but a plain name in a list.
        sign: Operator = "!=" if node.negated else "=="
        each = [_comparison(Comparison(sign, column, Constant(i, node.at), node.at), dialect)
                for i in items]  # fmt: skip
        return "(" + (" and " if node.negated else " or ").join(each) + ")"
    # A list of 2.3 holds numbers of one kind.
    lists = [[i for i in items if isinstance(i, float) == real] for real in (False, True)]
    sign_, joint = ("not in", " and ") if node.negated else ("in", " or ")
    found = [f"{name} {sign_} [{', '.join(map(quoted, each))}]" for each in lists if each]
    said = found[0] if len(found) == 1 else f"({joint.join(found)})"
    return f"({there} and {said})" if node.negated and not dialect.is_field(column) else said


def _items(node: Among, dialect: Dialect) -> list[Plain]:
    items = [int(i) if isinstance(i, float) and i.is_integer() else i for i in node.items]
    if dialect.is_field(node.column):
        kind = dialect.kind(node.column)
        if kind == "whole":
            return [i for i in items if not isinstance(i, float)]
        if kind == "real":
            return [float(i) for i in items]
    return list(items)


def _like(node: Like, dialect: Dialect) -> str:
    name, pieces = _column(node.column), node.pieces
    text = pieces[0] if pieces and isinstance(pieces[0], str) else ""
    if not pieces or pieces == (text,):
        return _comparison(
            Comparison("!=" if node.negated else "==", node.column, Constant(text, node.at),
                       node.at), dialect)  # fmt: skip
    if pieces == (Wildcard("%"),):
        return _NOTHING if node.negated else _null(Null(node.column, True, node.at), dialect)
    if pieces == (text, Wildcard("%")):
        return _starts(name, text, node.negated)
    if dialect.version is not None and dialect.version < (2, 4):
        raise wrong(
            node.at,
            f"Milvus {'.'.join(map(str, dialect.version))} matches the beginning of a text only, "
            f'as "abc%": this needs 2.4 or newer',
        )
    return _matches(node, name, dialect)


def _starts(name: str, text: str, negated: bool) -> str:  # noqa: FBT001
    """By the order of texts, which has no signs with another meaning."""
    after = _after(text)
    if negated:
        return f"({name} < {quoted(text)} or {name} >= {quoted(after)})"
    return f"({name} >= {quoted(text)} and {name} < {quoted(after)})"


def _after(text: str) -> str:
    """The first text after all that begin so."""
    point = ord(text[-1]) + 1
    # These are no characters.
    return text[:-1] + chr(0xE000 if point == 0xD800 else point)


def _matches(node: Like, name: str, dialect: Dialect) -> str:
    texts = [piece for piece in node.pieces if isinstance(piece, str)]
    if dialect.is_lite and any(sign in text for text in texts for sign in "%_\\"):
        raise wrong(node.at, "Milvus Lite has no \\% and \\_ in the middle of a pattern")
    pattern = "".join(
        piece.sign
        if isinstance(piece, Wildcard)
        else piece.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        for piece in node.pieces
    )
    said = f"{name} like {quoted(pattern)}"
    if not node.negated:
        return said
    there = _null(Null(node.column, True, node.at), dialect)
    return f"({there} and not ({said}))"


def _null(node: Null, dialect: Dialect) -> str:
    name = _column(node.column)
    if dialect.is_field(node.column):
        return _EVERYTHING if node.negated else _NOTHING
    if dialect.is_lite:
        return f"{name} is not null" if node.negated else f"{name} is null"
    # Not `exists`, to which a null that stands in the JSON may be something.
    there = {
        "text": f'{name} >= ""',
        "whole": f"({name} < 0 or {name} >= 0)",
        "real": f"({name} < 0 or {name} >= 0)",
        "boolean": f"({name} == true or {name} == false)",
    }.get(dialect.kind(node.column), exists(node.column))
    return there if node.negated else f"not ({there})"


def _contains(node: Contains, dialect: Dialect) -> str:
    name = _column(node.column)
    if dialect.is_lite and "$" in name:
        raise wrong(node.at, f"Milvus Lite looks into no list that is named {node.column.name!r}")
    items: list[Any] = [f"json_contains({name}, {quoted(item)})" for item in node.items]
    if not items:
        return _null(Null(node.column, True, node.at), dialect) if node.every else _NOTHING
    said = "(" + (" and " if node.every else " or ").join(items) + ")"
    if not node.negated:
        return said
    return f"({_null(Null(node.column, True, node.at), dialect)} and not {said})"
