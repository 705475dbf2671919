"""The rows of a source of queries beside the run that they are asked of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidembed.errors import ConfigError
from vidembed.evaluation.matching import Place

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidembed.config import EvaluateConfig
    from vidembed.evaluation.layouts import Rows
    from vidembed.store.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Videos:
    """The videos of a run and what its columns say of them. ids: string [n], each once."""

    run: Run
    ids: pa.Array

    def columns(self, names: list[str]) -> pa.Table:
        """Those of the columns that the run has, a row for each of `ids`."""
        wanted = [name for name in names if name != "video_id"]
        try:
            table = self.run.read(["video_id", "segment", *wanted])
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ConfigError(
                f"{self.run.uri}: its parts hold {', '.join(wanted)} as types that do not go "
                f"together: {str(error).splitlines()[0]}"
            ) from error
        first = table.filter(pc.equal(table["segment"], 0))
        at = pc.index_in(self.ids, value_set=first["video_id"].combine_chunks())
        return first.select([name for name in wanted if name in table.column_names]).take(at)

    def names(self) -> list[str]:
        """Of the run's columns."""
        parts = self.run.parts()
        return list(self.run.schema_of(parts[0]).names) if parts else []

    def place(self) -> Place:
        failed = self.run.read(["video_id"], "failures")
        ids = failed["video_id"].combine_chunks() if len(failed) else pa.array([], pa.string())
        return Place(name=self.run.uri, videos=self.ids, failed=ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """at: int64 [rows], the position of each row's video in `videos.ids`, or why it has none."""

    config: EvaluateConfig
    rows: Rows
    videos: Videos
    at: NDArray[np.int64]

    @property
    def chosen(self) -> NDArray[np.bool_]:
        """bool [rows], those of the split."""
        if self.rows.chosen is None:
            return np.ones(len(self.rows.table), np.bool_)
        found: NDArray[np.bool_] = self.rows.chosen.to_numpy()
        return found

    def no_column(self, names: str, flag: str) -> ConfigError:
        return ConfigError(
            f"{self.rows.where}: no column {names}; it has "
            f"{', '.join(self.rows.table.column_names) or 'none'}; name one with {flag}"
        )

    def with_columns(
        self, table: pa.Table, source: NDArray[np.int64], at: NDArray[np.int64]
    ) -> pa.Table:
        """`table` and the columns to break it down by: of the rows `source` where the source has
        them (null where that is -1), else of the videos `at`.
        """
        there = pa.array(source, mask=source < 0)
        for name in self.config.by:
            if name not in table.column_names and name in self.rows.table.column_names:
                table = table.append_column(name, self.rows.table[name].take(there))
        return with_metadata(table, self.config.by, self.videos, at)

    def first_rows(self) -> NDArray[np.int64]:
        """int64 [videos], the first row of each; -1 where the source has none."""
        first = np.full(len(self.videos.ids), -1)
        rows = np.flatnonzero(self.at >= 0)[::-1]
        first[self.at[rows]] = rows
        return first


def with_metadata(
    table: pa.Table, names: tuple[str, ...], videos: Videos, at: NDArray[np.int64]
) -> pa.Table:
    """`table` and those of the columns that it lacks, of the videos `at`. Raises ConfigError."""
    lacking = [name for name in dict.fromkeys(names) if name not in table.column_names]
    if lacking:
        found = videos.columns(lacking)
        if absent := [name for name in lacking if name not in found.column_names]:
            raise ConfigError(
                f"--by {absent[0]}: neither the queries nor {videos.run.uri} have such a column; "
                f"the run has {', '.join(videos.names())}"
            )
        found = found.take(at)
        for name in lacking:
            table = table.append_column(name, found[name])
    for name in names:
        if pa.types.is_nested(table[name].type):
            raise ConfigError(f"--by {name}: it holds {table[name].type}, expected one value a row")
    return table
