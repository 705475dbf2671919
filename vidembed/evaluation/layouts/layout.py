"""What a layout is: which columns of its rows say what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from vidembed.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

TEXT_COLUMNS = ("caption", "sentence")
LABEL_COLUMNS = ("label",)
SPLIT_COLUMN = "split"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the rows of a file are to be read.

    ids: columns that may name a row's video; of those that are there, the first that knows videos
    of the run counts. texts: columns that may hold its text; the first that is there counts.
    query_id: the column that names a row, where the data set has one. folders: whether a query
    video that has no label otherwise has its folder's name for one.
    """

    name: str
    ids: tuple[str, ...] = ("video_id",)
    texts: tuple[str, ...] = TEXT_COLUMNS
    query_id: str | None = None
    folders: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A source of queries as a table.

    where: the source, for messages. chosen: bool [rows], those of the part that was asked for;
    None where all of them are.
    """

    where: str
    table: pa.Table
    layout: Layout
    chosen: pa.ChunkedArray | None = None


def rows(where: str, table: pa.Table, layout: Layout, split: str | None) -> Rows:
    """`split`: a value of the table's column of that name; ConfigError where it has none such."""
    if split is None:
        return Rows(where=where, table=table, layout=layout)
    if SPLIT_COLUMN not in table.column_names:
        raise ConfigError(
            f"{where}: laid out as {layout.name}, its rows do not say of which part they are (no "
            f"column {SPLIT_COLUMN}): leave out --split {split}"
        )
    parts = table[SPLIT_COLUMN].cast("string")
    chosen = pc.fill_null(pc.equal(parts, split), False)
    if not pc.any(chosen).as_py():
        known = sorted(str(part) for part in pc.unique(parts).to_pylist() if part is not None)
        raise ConfigError(f"{where}: it has no part {split!r} (--split), but {_some(known)}")
    return Rows(where=where, table=table, layout=layout, chosen=chosen)


def not_laid_out(where: str, layout: str, why: str) -> ConfigError:
    """`where` was to be laid out as `layout`, and is not."""
    return ConfigError(
        f"{where}: not laid out as {layout}: {why}. Name its layout with --layout, or make a table "
        f"of it with the columns video_id and caption"
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (", …" if len(names) > 10 else "") or "none"
