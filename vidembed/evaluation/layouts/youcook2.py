"""YouCook2: the annotations, and the csv of MIL-NCE's evaluation. A segment is what is found.

Both give a segment the same id: VIDEO_START_END.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from vidembed.errors import ConfigError
from vidembed.evaluation.layouts.layout import Layout, Rows, not_laid_out, rows
from vidembed.evaluation.layouts.records import field, name, records, strings

LAYOUT = Layout(name="youcook2", ids=("segment_id",), texts=("sentence", "text"))
COLUMNS = ("video_id", "start", "end", "text")


def looks_like(document: Any) -> bool:
    return isinstance(document, dict) and isinstance(document.get("database"), dict)


def read(document: Any, where: str, split: str | None) -> Rows:
    """A row for each annotated segment, with `recipe_type` and `split` of its video."""
    database = document.get("database") if isinstance(document, dict) else None
    if not isinstance(database, dict):
        raise not_laid_out(where, LAYOUT.name, "database is not an object of videos")
    keys = ("segment_id", "video_id", "sentence", "split", "recipe_type")
    columns: dict[str, list[Any]] = {key: [] for key in keys}
    for video, about in database.items():
        for n, found in enumerate(records(about, "annotations", f"{where}: {video}", LAYOUT.name)):
            place = (where, f"annotations[{n}] of {video}")
            segment = field(found, "segment", list, place)
            if len(segment) != 2:
                raise ConfigError(f"{where}: {place[1]} has no segment of two times")
            columns["segment_id"].append(_segment_id(video, segment[0], segment[1], place))
            columns["video_id"].append(video)
            columns["sentence"].append(field(found, "sentence", str, place))
            columns["split"].append(name(about.get("subset")))
            columns["recipe_type"].append(name(about.get("recipe_type")))
    return rows(where, strings(columns), LAYOUT, split)


def with_ids(table: pa.Table, where: str) -> pa.Table:
    """The csv, with the segments' ids."""
    times = (table[key].to_pylist() for key in ("video_id", "start", "end"))
    ids = [
        None if video is None else _segment_id(video, start, end, (where, f"row {n}"))
        for n, (video, start, end) in enumerate(zip(*times, strict=True), 1)
    ]
    return table.append_column("segment_id", pa.array(ids, pa.string()))


def _segment_id(video: str, start: Any, end: Any, place: tuple[str, str]) -> str:
    for value in (start, end):
        if not isinstance(value, int | float):
            where, at = place
            raise ConfigError(f"{where}: {at} has {value!r} where a time in seconds belongs")
    return f"{video}_{_seconds(start)}_{_seconds(end)}"


def _seconds(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(value)
