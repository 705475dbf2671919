"""Which video of a run a row of queries means: by its id, or by the name of its file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from vidembed.errors import ConfigError
from vidembed.formats import VIDEO_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from vidembed.evaluation.layouts import Rows

NOT_THERE = -1
FAILED = -2
NO_ID = -3
REASONS = {NO_ID: "no id", FAILED: "failed in the run", NOT_THERE: "not in the run"}
"""Why a row has no video, by what stands in place of its position."""

_SUFFIX = r"(?i)\.(" + "|".join(sorted(s[1:] for s in VIDEO_SUFFIXES)) + r")$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The videos of a run. videos: string [n], each once. failed: string, those that have no
    vector. name: the run, for messages.
    """

    name: str
    videos: pa.Array
    failed: pa.Array


def stems(ids: Any) -> Any:
    """Names of files without folder and suffix: 'videos/video7.mp4' is 'video7'."""
    return pc.replace_substring_regex(
        pc.replace_substring_regex(ids, pattern=r"^.*[/\\]", replacement=""),
        pattern=_SUFFIX,
        replacement="",
    )


def as_text(column: Any, where: str, name: str) -> pa.ChunkedArray:
    """A column of names as strings. Raises ConfigError where it holds something else."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    allowed = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_integer,
        pa.types.is_boolean,
        pa.types.is_null,
    )
    if not any(is_it(kind) for is_it in allowed):
        raise ConfigError(f"{where}: column {name} holds {column.type}, expected text")
    found = column.cast(pa.string())
    return found if isinstance(found, pa.ChunkedArray) else pa.chunked_array([found])


def positions(rows: Rows, ids: list[str], place: Place) -> NDArray[np.int64]:
    """int64 [rows], the position of each row's video in `place.videos`, or one of `REASONS`.

    ids: columns to try in turn. Of each, ids count as they are; where none of them is in the run,
    all are taken by stem. Raises ConfigError where a stem may mean several videos.
    """
    columns = [as_text(rows.table[name], rows.where, name) for name in ids]
    for column in columns:
        if (found := _found(column, place, lambda names: names)) is not None:
            return found
    by_stem = [stems(column) for column in columns]
    for column, short in zip(columns, by_stem, strict=True):
        if (found := _found(short, place, stems)) is not None:
            _refuse_ambiguous(rows.where, (column, short, found), place)
            return found
    return _none(columns[0], by_stem[0], place)


def _found(
    ids: pa.ChunkedArray, place: Place, shape: Callable[[Any], Any]
) -> NDArray[np.int64] | None:
    """None where none of the ids is there."""
    there = pc.index_in(ids, value_set=shape(place.videos), skip_nulls=True)
    if there.null_count == len(there):
        return None
    return _with_reasons(ids, there, shape(place.failed))


def _none(ids: pa.ChunkedArray, short: pa.ChunkedArray, place: Place) -> NDArray[np.int64]:
    nothing = pa.chunked_array([pa.nulls(len(ids), pa.int32())])
    failed = pc.is_in(ids, value_set=place.failed)
    if pc.any(failed).as_py():
        return _with_reasons(ids, nothing, place.failed)
    return _with_reasons(short, nothing, stems(place.failed))


def _with_reasons(
    ids: pa.ChunkedArray, there: pa.ChunkedArray, failed: pa.Array
) -> NDArray[np.int64]:
    reason = pc.if_else(pc.is_in(ids, value_set=failed), FAILED, NOT_THERE)
    reason = pc.if_else(pc.is_null(ids), NO_ID, reason)
    found: NDArray[np.int64] = pc.coalesce(there.cast(pa.int64()), reason).to_numpy()
    return found


def _refuse_ambiguous(
    where: str,
    asked: tuple[pa.ChunkedArray, pa.ChunkedArray, NDArray[np.int64]],
    place: Place,
) -> None:
    """Two videos of one stem, or two ids of the file that mean one video."""
    ids, short, found = asked
    names = stems(place.videos)
    wanted = pc.is_in(names, value_set=pc.unique(short))
    if len(twice := _two_of(names.filter(wanted), place.videos.filter(wanted))):
        raise ConfigError(
            f"{where}: its ids are not those of {place.name}, and by file name {twice[0]!r} may be "
            f"{twice[1]!r} or {twice[2]!r}: spell the ids as the run does"
        )
    there = pa.array(found >= 0)
    if len(twice := _two_of(short.filter(there), ids.filter(there))):
        raise ConfigError(
            f"{where}: its ids are not those of {place.name}, and by file name {twice[1]!r} and "
            f"{twice[2]!r} would be one video: spell the ids as the run does"
        )


def _two_of(names: Any, ids: Any) -> tuple[str, ...]:
    """(name, id, id) of the first name that two different ids have; () where none has."""
    pairs = pa.table({"name": names, "id": ids}).group_by(["name", "id"]).aggregate([])
    counts = pairs.group_by("name").aggregate([("id", "count")])
    shared = counts.filter(pc.greater(counts["id_count"], 1))
    if not len(shared):
        return ()
    name = shared["name"][0]
    one, two = sorted(pairs.filter(pc.equal(pairs["name"], name))["id"].to_pylist())[:2]
    return name.as_py(), one, two
