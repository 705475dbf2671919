"""MSVD: raw-captions.pkl, and captions in lines of text."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidembed import sources
from vidembed.errors import ConfigError
from vidembed.evaluation.layouts import files, pickles
from vidembed.evaluation.layouts.layout import Layout, Rows, not_laid_out
from vidembed.evaluation.layouts.records import strings

LAYOUT = Layout(name="msvd", ids=("video_id", "name"), texts=("caption",))
_MAPPING = "youtube_mapping.txt"
_SHORT = re.compile(r"vid\d+")
# MSVD has 81 thousand captions of 3.5 million letters. A pickle may name one list any number of
# times.
_MOST = 1 << 28


def read_pickle(where: str, split: str | None) -> Rows:
    """video -> captions, each a string or a list of words."""
    found = pickles.load(files.content(where), where)
    if not isinstance(found, dict):
        raise not_laid_out(where, LAYOUT.name, "it holds no dict of videos")
    columns: dict[str, list[Any]] = {"video_id": [], "caption": []}
    room = _MOST
    for video, captions in found.items():
        if not isinstance(video, str) or not isinstance(captions, list | tuple):
            raise not_laid_out(where, LAYOUT.name, f"{str(video)[:50]!r} has no list of captions")
        for caption in captions:
            columns["video_id"].append(video)
            columns["caption"].append(_caption(caption, video, where))
            room -= len(video) + len(columns["caption"][-1]) + 1
            if room < 0:
                raise ConfigError(f"{where}: its captions have more than {_MOST:,} letters")
    return _part(where, strings(columns), split)


def _caption(caption: Any, video: str, where: str) -> str:
    if isinstance(caption, str):
        return caption
    if isinstance(caption, list | tuple) and all(isinstance(word, str) for word in caption):
        return " ".join(caption)
    raise not_laid_out(where, LAYOUT.name, f"a caption of {video!r} is no string or list of words")


def read_text(where: str, split: str | None) -> Rows:
    """Lines of a video's id and a caption, with a tab or blank between; # begins a remark."""
    columns: dict[str, list[Any]] = {"video_id": [], "caption": []}
    for number, line in enumerate(files.text(where).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = line.split("\t", 1) if "\t" in line else line.split(" ", 1)
        if len(parts) < 2:
            raise not_laid_out(where, LAYOUT.name, f"line {number} has no caption after its id")
        columns["video_id"].append(parts[0].strip())
        columns["caption"].append(parts[1].strip())
    if not columns["video_id"]:
        raise ConfigError(f"{where}: it has no captions")
    table = strings(columns)
    names = _mapping(where)
    if names:
        real = [names.get(video) for video in columns["video_id"]]
        table = table.append_column("name", pa.array(real, pa.string()))
    return _part(where, table, split)


def _mapping(where: str) -> dict[str, str]:
    """vid1 -> the id on YouTube, of a file beside that has both in each line."""
    beside = sources.join(sources.parent(where), _MAPPING)
    if not sources.exists(beside):
        return {}
    found = {}
    for line in files.text(beside).splitlines():
        one, _, other = line.strip().partition(" ")
        short, real = (one, other.strip()) if _SHORT.fullmatch(one) else (other.strip(), one)
        found[short] = real
    return found


def _part(where: str, table: pa.Table, split: str | None) -> Rows:
    if split is None:
        return Rows(where=where, table=table, layout=LAYOUT)
    names = pa.array(sorted(files.names_beside(where, split)), pa.string())
    chosen = pc.is_in(table["video_id"], value_set=names)
    if "name" in table.column_names:
        chosen = pc.or_(chosen, pc.is_in(table["name"], value_set=names))
    return Rows(where=where, table=table, layout=LAYOUT, chosen=chosen)
