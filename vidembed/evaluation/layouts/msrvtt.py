"""MSR-VTT: MSRVTT_data.json, videodatainfo_2017.json."""

from __future__ import annotations

from typing import Any

from vidembed.evaluation.layouts.layout import Layout, Rows, rows
from vidembed.evaluation.layouts.records import field, name, records, strings

LAYOUT = Layout(name="msrvtt", texts=("caption",), query_id="sen_id")


def looks_like(document: Any) -> bool:
    return isinstance(document, dict) and {"videos", "sentences"} <= document.keys()


def read(document: Any, where: str, split: str | None) -> Rows:
    """A row for each sentence, with `split` and `category` of its video."""
    videos = {
        field(video, "video_id", str, (where, f"videos[{n}]")): video
        for n, video in enumerate(records(document, "videos", where, LAYOUT.name))
    }
    columns: dict[str, list[Any]] = {
        key: [] for key in ("video_id", "caption", "sen_id", "split", "category")
    }
    for n, sentence in enumerate(records(document, "sentences", where, LAYOUT.name)):
        place = (where, f"sentences[{n}]")
        video = field(sentence, "video_id", str, place)
        about = videos.get(video, {})
        columns["video_id"].append(video)
        columns["caption"].append(field(sentence, "caption", str, place))
        columns["sen_id"].append(name(sentence.get("sen_id")))
        columns["split"].append(name(about.get("split")))
        columns["category"].append(name(about.get("category")))
    return rows(where, strings(columns), LAYOUT, split)
