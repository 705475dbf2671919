"""MUGEN: train.json, val.json, test.json of the release."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidembed.evaluation.layouts.layout import Layout, Rows, rows
from vidembed.evaluation.layouts.records import field, name, records, strings

LAYOUT = Layout(name="mugen", ids=("video_id", "video_file"), texts=("text",))
_MANUAL = "manual"


def looks_like(document: Any) -> bool:
    return isinstance(document, dict) and {"metadata", "data"} <= document.keys()


def read(document: Any, where: str, split: str | None) -> Rows:
    """A row for each annotation; `split`, which is how it was made, is `manual` or `auto`.

    Where no split is asked for, the first manual text of each video, as the authors evaluate.
    """
    keys = ("video_id", "video_file", "text", "split")
    columns: dict[str, list[Any]] = {key: [] for key in keys}
    first: list[bool] = []
    for n, record in enumerate(records(document, "data", where, LAYOUT.name)):
        place = (where, f"data[{n}]")
        video = field(record, "video", dict, place)
        about = (
            field(video, "id", str, (where, f"data[{n}].video")),
            name(video.get("video_file")),
        )
        texts = _annotations(record, place)
        for values in texts:
            for key, value in zip(keys, (*about, *values), strict=True):
                columns[key].append(value)
        kinds = [kind for _, kind in texts]
        at = kinds.index(_MANUAL) if _MANUAL in kinds else 0
        first += [k == at for k in range(len(kinds))]
    table = strings(columns)
    if split is None:
        manual = pc.equal(table["split"], _MANUAL)
        text = pc.if_else(manual, table["text"], pa.scalar(None, pa.string()))
        table = table.set_column(2, "text", text).filter(pa.array(first, pa.bool_()))
    return rows(where, table, LAYOUT, split)


def _annotations(record: dict[str, Any], place: tuple[str, str]) -> list[tuple[str | None, str]]:
    """(text, how it was made), at least one."""
    where, at = place
    found: list[tuple[str | None, str]] = []
    for n, annotation in enumerate(records(record, "annotations", f"{where}: {at}", LAYOUT.name)):
        inner = (where, f"{at}.annotations[{n}]")
        found.append((field(annotation, "text", str, inner), field(annotation, "type", str, inner)))
    return found or [(None, "none")]
