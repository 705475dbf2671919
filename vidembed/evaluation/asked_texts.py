"""The texts among the rows of a source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidembed.errors import ConfigError
from vidembed.evaluation.matching import as_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidembed.evaluation.asked import Asked

_DIRECTIONS = {"text_to_video", "video_to_text"}


def wanted(asked: Asked) -> bool:
    """Whether there are texts, and they may be asked. Raises ConfigError where the column that
    the user named is not there.
    """
    directions = set(asked.config.directions)
    return (not directions or bool(directions & _DIRECTIONS)) and _column(asked) is not None


def _column(asked: Asked) -> str | None:
    named, columns = asked.config.text_column, asked.rows.table.column_names
    if named is None:
        return next((name for name in asked.rows.layout.texts if name in columns), None)
    if named not in columns:
        raise asked.no_column(named, "--text-column")
    return named


def read(asked: Asked, key: str) -> tuple[pa.Table, dict[str, int]]:
    """`Queries.texts`, and how many rows are left out by reason.

    key: the column that names a row's video. Raises ConfigError where no row has a text.
    """
    name = _column(asked)
    assert name is not None
    source, column = _one_a_row(asked.rows.table[name])
    texts = as_text(column, asked.rows.where, name)
    there = asked.chosen[source] & (asked.at[source] >= 0)
    blank = pc.or_kleene(pc.equal(pc.binary_length(texts), 0), pc.utf8_is_space(texts))
    written = pc.fill_null(pc.invert(blank), False).to_numpy()
    keep = np.flatnonzero(there & written)
    if not len(keep):
        raise ConfigError(f"{asked.rows.where}: column {name} has no text for any video of the run")
    ids = _query_ids(asked, key, source).take(keep)
    source = source[keep]
    at = asked.at[source]
    table = pa.table(
        {"query_id": ids, "text": texts.take(keep), "video_id": asked.videos.ids.take(at)}
    )
    return asked.with_columns(table, source, at), {"no text": int((there & ~written).sum())}


def _one_a_row(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], Any]:
    """(the row of each text, the texts): a row may hold a list of them, an empty one is no text."""
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return np.arange(len(column)), column
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    repeats = np.maximum(lengths, 1)
    source = np.repeat(np.arange(len(column)), repeats)
    empty = np.repeat(lengths == 0, repeats)
    at = np.cumsum(~empty) - 1
    return source, pc.list_flatten(column).take(pa.array(at, mask=empty))


def _query_ids(asked: Asked, key: str, source: NDArray[np.int64]) -> pa.ChunkedArray:
    """A name for each text: that of its row, with a number where several have one."""
    rows = asked.rows
    names = as_text(rows.table[key], rows.where, key)
    own = rows.layout.query_id
    if own is not None and own in rows.table.column_names:
        names = pc.coalesce(as_text(rows.table[own], rows.where, own), names)
    return _numbered(pc.fill_null(names, "").take(source))


def _numbered(names: pa.ChunkedArray) -> pa.ChunkedArray:
    """`a`, `b`, `a` are `a#0`, `b`, `a#1`."""
    codes = names.combine_chunks().dictionary_encode().indices.to_numpy()
    counts = np.bincount(codes)
    order = np.argsort(codes, kind="stable")
    first = np.cumsum(counts) - counts
    turn = np.empty(len(codes), np.int64)
    turn[order] = np.arange(len(codes)) - first[codes[order]]
    numbered = pc.binary_join_element_wise(names, pa.array(turn).cast(pa.string()), "#")
    return pc.if_else(pa.array(counts[codes] > 1), numbered, names)
