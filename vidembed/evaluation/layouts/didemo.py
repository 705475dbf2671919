"""DiDeMo: train_data.json, val_data.json, test_data.json."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidembed.evaluation.layouts import files
from vidembed.evaluation.layouts.layout import Layout, Rows, not_laid_out
from vidembed.evaluation.layouts.records import field, strings

LAYOUT = Layout(name="didemo", texts=("description",))


def looks_like(document: Any) -> bool:
    return (
        isinstance(document, list)
        and bool(document)
        and isinstance(document[0], dict)
        and {"video", "description", "times"} <= document[0].keys()
    )


def read(document: Any, where: str, split: str | None) -> Rows:
    """A row for each video: its descriptions as one paragraph, in the file's order."""
    if not isinstance(document, list):
        raise not_laid_out(where, LAYOUT.name, "it is no list of annotations")
    found: dict[str, list[str]] = {}
    for n, record in enumerate(document):
        place = (where, f"record {n}")
        video = field(record, "video", str, place)
        found.setdefault(video, []).append(field(record, "description", str, place))
    paragraphs = [" ".join(descriptions) for descriptions in found.values()]
    table = strings({"video_id": list(found), "description": paragraphs})
    if split is None:
        return Rows(where=where, table=table, layout=LAYOUT)
    names = pa.array(sorted(files.names_beside(where, split)), pa.string())
    chosen = pc.is_in(table["video_id"], value_set=names)
    return Rows(where=where, table=table, layout=LAYOUT, chosen=chosen)
