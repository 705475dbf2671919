"""Videos that have labels: those that are searched with, and those that may be found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidembed import sources
from vidembed.errors import ConfigError
from vidembed.evaluation.asked import Videos, with_metadata
from vidembed.evaluation.layouts import LABEL_COLUMNS
from vidembed.evaluation.matching import as_text, positions
from vidembed.store.run import Run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vidembed.evaluation.asked import Asked


def wanted(asked: Asked) -> bool:
    """Whether there are labels to ask with. Raises ConfigError where they were asked for, and are
    nowhere.
    """
    config = asked.config
    by_name = "video_to_video" in config.directions
    if config.directions and not by_name:
        return False
    if _column(asked, asked.rows.table.column_names):
        return True
    if not (by_name or config.label_column or config.query_run):
        return False
    run = asked.videos
    if not _column(asked, _own_columns(asked, run).column_names):
        raise ConfigError(
            f"no column {config.label_column or LABEL_COLUMNS[0]}: {asked.rows.where} has "
            f"{', '.join(asked.rows.table.column_names)}; {run.run.uri} has "
            f"{', '.join(run.names())}; name the column of labels with --label-column"
        )
    return True


def read(asked: Asked, keys: list[str]) -> tuple[pa.Table, pa.Table, dict[str, int]]:
    """`Queries.labels`, `Queries.gallery_labels`, and how many are left out by reason.

    keys: the source's columns that may name a row's video.
    """
    known, unlabelled = _gallery(asked)
    if _query_run(asked) is None:
        asking, without = _of_gallery(asked, known), unlabelled
    else:
        asking, without = _of_query_run(asked, keys)
    counts = pc.value_counts(known["label"].combine_chunks())
    # In one run the query itself is not there to be found.
    least = 2 if _query_run(asked) is None else 1
    shared = counts.filter(pc.greater_equal(counts.field("counts"), least)).field("values")
    answered = asking.filter(pc.is_in(asking["label"], value_set=shared))
    if not len(answered):
        raise ConfigError(
            f"{asked.rows.where}: no two videos have one label: there is nothing to find"
        )
    left_out = {"no label": without, "label alone": len(asking) - len(answered)}
    return answered, known, left_out


def _names(asked: Asked) -> tuple[str, ...]:
    """Of the columns that may hold labels."""
    named = asked.config.label_column
    return (named,) if named else LABEL_COLUMNS


def _column(asked: Asked, columns: Sequence[str]) -> str | None:
    return next((name for name in _names(asked) if name in columns), None)


def _own_columns(asked: Asked, videos: Videos) -> pa.Table:
    """Those that a run has of the columns that may hold labels."""
    return videos.columns(list(_names(asked)))


def _query_run(asked: Asked) -> str | None:
    """None where the videos to search with are the run's own."""
    named = asked.config.query_run
    if named is None or sources.absolute(named) == asked.videos.run.uri:
        return None
    return named


def _gallery(asked: Asked) -> tuple[pa.Table, int]:
    """`gallery_labels`, and how many videos have none."""
    column = _column(asked, asked.rows.table.column_names)
    if column is None:
        return _own(asked, asked.videos)
    at, source, without = _labelled(asked, column, asked.at)
    labels = _labels(asked.rows.table, asked.rows.where, column).take(source)
    return pa.table({"video_id": asked.videos.ids.take(at), "label": labels}), without


def _own(asked: Asked, videos: Videos) -> tuple[pa.Table, int]:
    """The labels that are a column of a run, and how many of its videos have none."""
    found = _own_columns(asked, videos)
    column = _column(asked, found.column_names)
    assert column is not None
    labels = _labels(found, videos.run.uri, column)
    table = pa.table({"video_id": videos.ids, "label": labels}).filter(pc.is_valid(labels))
    return table, len(videos.ids) - len(table)


def _labels(table: pa.Table, where: str, column: str) -> pa.ChunkedArray:
    """Null where there is none."""
    labels = as_text(table[column], where, column)
    return pc.if_else(pc.equal(labels, ""), pa.scalar(None, pa.string()), labels)


def _labelled(
    asked: Asked, column: str, at: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """(videos, the first row of each that has a label, how many videos have rows but no label).

    Raises ConfigError where a video has two labels.
    """
    labels = _labels(asked.rows.table, asked.rows.where, column)
    there = at >= 0
    rows = np.flatnonzero(there & pc.is_valid(labels).to_numpy())
    videos, first, inverse = np.unique(at[rows], return_index=True, return_inverse=True)
    codes = labels.combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy()[rows]
    other = np.flatnonzero(codes != codes[first][inverse])
    if len(other):
        one, two = rows[first[inverse[other[0]]]], rows[other[0]]
        raise ConfigError(
            f"{asked.rows.where}: rows {one + 1} and {two + 1} are of one video and have different "
            f"labels ({labels[one]}, {labels[two]}): a video has one; leave labels out with "
            f"--directions text_to_video,video_to_text"
        )
    order = np.argsort(rows[first])
    without = len(np.unique(at[there])) - len(videos)
    return videos[order], rows[first][order], without


def _of_gallery(asked: Asked, known: pa.Table) -> pa.Table:
    """Those of the labelled videos that ask: where there is a split, those of its rows."""
    at = _at(known, asked.videos)
    if _column(asked, asked.rows.table.column_names):
        of_split = np.isin(at, asked.at[asked.chosen])
        known, at = known.filter(pa.array(of_split)), at[of_split]
    return asked.with_columns(known, asked.first_rows()[at], at)


def _at(table: pa.Table, videos: Videos) -> NDArray[np.int64]:
    found: NDArray[np.int64] = (
        pc.index_in(table["video_id"], value_set=videos.ids).cast(pa.int64()).to_numpy()
    )
    return found


def _of_query_run(asked: Asked, keys: list[str]) -> tuple[pa.Table, int]:
    """Labels of the videos of the other run: its own, else those of the source."""
    named = _query_run(asked)
    assert named is not None
    run = Run.open(named)
    ids = run.read(["video_id"])
    if not len(ids):
        raise ConfigError(f"{run.uri} has no embeddings to search with (--query-run)")
    videos = Videos(run=run, ids=pc.unique(ids["video_id"]))
    if _column(asked, _own_columns(asked, videos).column_names):
        table, without = _own(asked, videos)
    else:
        table, without = _from_source(asked, keys, videos)
    if not len(table):
        raise ConfigError(
            f"{run.uri}: none of its videos has a label: neither a column of it nor "
            f"{asked.rows.where} names one (--query-run, --label-column)"
        )
    return with_metadata(table, asked.config.by, videos, _at(table, videos)), without


def _from_source(asked: Asked, keys: list[str], videos: Videos) -> tuple[pa.Table, int]:
    column = _column(asked, asked.rows.table.column_names)
    labels = pa.chunked_array([pa.nulls(len(videos.ids), pa.string())])
    if column is not None:
        at, source, _ = _labelled(asked, column, positions(asked.rows, keys, videos.place()))
        own = _labels(asked.rows.table, asked.rows.where, column).take(source)
        where = pc.index_in(pa.array(np.arange(len(videos.ids))), value_set=pa.array(at))
        labels = own.take(where)
    if asked.rows.layout.folders:
        labels = pc.coalesce(labels, _folders(videos.ids))
    table = pa.table({"video_id": videos.ids, "label": labels}).filter(pc.is_valid(labels))
    return table, len(videos.ids) - len(table)


def _folders(ids: pa.Array) -> pa.Array:
    """The folder's name in 'eating_cake/a.mp4', null in 'a.mp4'."""
    return pc.struct_field(pc.extract_regex(ids, r"(?:^|/)(?P<folder>[^/]+)/[^/]+$"), "folder")
