"""Layouts that are tables: told apart by their columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidembed.evaluation.layouts import youcook2
from vidembed.evaluation.layouts.layout import (
    LABEL_COLUMNS,
    SPLIT_COLUMN,
    TEXT_COLUMNS,
    Layout,
    Rows,
    not_laid_out,
    rows,
)
from vidembed.manifest import ID_COLUMNS, URI_COLUMNS, Columns, read_table

if TYPE_CHECKING:
    import pyarrow as pa

    from vidembed.config import EvaluateConfig

PLAIN = Layout(name="table", ids=ID_COLUMNS + URI_COLUMNS, query_id="query_id")
MSRVTT_1KA = Layout(name="msrvtt-1ka", texts=("sentence",), query_id="key")
REVERSE_SEARCH = Layout(name="reverse-search", ids=("id", "path"), texts=(), folders=True)
LAYOUTS = {layout.name: layout for layout in (PLAIN, MSRVTT_1KA, REVERSE_SEARCH, youcook2.LAYOUT)}

_NEEDED = {
    "msrvtt-1ka": ("key", "video_id", "sentence"),
    "reverse-search": ("id", "path", "label"),
    "youcook2": youcook2.COLUMNS,
}
# All columns that there are: a table of somebody's own may well have these among others.
_LOOKS = {
    frozenset(["key", "vid_key", "video_id", "sentence"]): "msrvtt-1ka",
    frozenset(["id", "path", "label"]): "reverse-search",
    frozenset(["end", "start", "task", "text", "video_id"]): "youcook2",
}
# The index of a pandas table that was written without thought.
_NO_COLUMNS = frozenset(["", "Unnamed: 0"])


def read(config: EvaluateConfig, where: str) -> Rows:
    """Raises ConfigError where the file is no table, or not of the layout that was asked for."""
    named = [name for name in (config.text_column, config.label_column) if name]
    words = [*TEXT_COLUMNS, *LABEL_COLUMNS, SPLIT_COLUMN, "key", "query_id", "text", "task", *named]
    return of(config, where, read_table(where, Columns(id=config.id_column), frozenset(words)))


def of(config: EvaluateConfig, where: str, table: pa.Table) -> Rows:
    """A table that was read."""
    layout = LAYOUTS[_name(config.layout, table.column_names)]
    if missing := [c for c in _NEEDED.get(layout.name, ()) if c not in table.column_names]:
        raise not_laid_out(where, layout.name, f"it has no column {', '.join(missing)}")
    if layout is youcook2.LAYOUT:
        table = youcook2.with_ids(table, where)
    return rows(where, table, layout, config.split)


def _name(asked: str, columns: list[str]) -> str:
    return _LOOKS.get(frozenset(columns) - _NO_COLUMNS, "table") if asked == "auto" else asked
