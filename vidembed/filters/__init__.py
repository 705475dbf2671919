"""Milvus's language of conditions on rows, for a run's tables and for collections alike.

An expression is read once. On a table it becomes Arrow's kernels; for a collection it is written
anew in words of which all versions of Milvus have one understanding, so that the same expression
finds the same rows wherever it is asked. docs/filters.md is the language.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidembed.errors import ConfigError
from vidembed.filters.kinds import arrow_kind, check
from vidembed.filters.nodes import wrong
from vidembed.filters.normal import columns, normal
from vidembed.filters.parser import read
from vidembed.filters.rows import holds, values
from vidembed.filters.wording import Dialect, exists, holds_a_value, quoted, worded

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from vidembed.filters.kinds import Kind
    from vidembed.filters.nodes import Column, Node

__all__ = ["Dialect", "Filter", "check_name", "exists", "holds_a_value", "parse", "quoted"]

_NOT_FOR_FILTERS = ("embedding", "source_state")


@dataclass(frozen=True, slots=True)
class Filter:
    """An expression that was read. text: as it was given."""

    text: str
    node: Node

    @property
    def named(self) -> tuple[Column, ...]:
        """Every column, with the path in it, in the order of the text."""
        return tuple(columns(self.node))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns to read, each once."""
        return tuple(dict.fromkeys(column.name for column in self.named))

    def check_names(self, known: Iterable[str]) -> None:
        """Raise ConfigError for a column that is not among these."""
        names = list(known)
        for column in self.named:
            check_name(column, names)

    def check(self, schema: pa.Schema) -> None:
        """Raise ConfigError for a column that is not in the schema, and for one that is compared
        with what it cannot hold.
        """
        self.check_names(schema.names)
        empty = schema.empty_table()

        def kind_of(column: Column) -> Kind:
            found = arrow_kind(values(column, empty).type)
            if len(column.path) > 1 and found == "unknown":
                raise wrong(column.at, f"there is no {column} in {column.name}")
            return found

        check(self.node, kind_of)

    def mask(self, table: pa.Table) -> pa.BooleanArray:
        """bool [rows], true where the expression holds, without nulls. Needs `columns` only.

        Raises ConfigError as `check` does.
        """
        self.check(table.schema)
        return holds(normal(self.node), table)

    def worded(self, dialect: Dialect) -> str:
        """For a Milvus. Raises ConfigError for what that one lacks, or takes for something else."""
        check(self.node, dialect.kind)
        return worded(normal(self.node), dialect)


def parse(text: str) -> Filter:
    """Read an expression. Raises ConfigError naming the place of what it does not understand."""
    if not text.strip():
        raise ConfigError("--filter: expected a condition, as label == 'cat', found nothing")
    return Filter(text, read(text))


def check_name(column: Column, known: Iterable[str], where: str = "") -> None:
    """Raise ConfigError where the column is not among these. where: that would have it."""
    names = [name for name in known if name not in _NOT_FOR_FILTERS]
    if column.name in _NOT_FOR_FILTERS:
        raise wrong(column.at, f"{column.name} is not for filters")
    if column.name not in names:
        at = f" in {where}" if where else ""
        raise wrong(column.at, f"no column {column.name!r}{at}; {_near(column.name, names)}")


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}" if near else f"there are {', '.join(sorted(known))}"
