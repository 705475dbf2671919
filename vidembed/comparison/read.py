"""What `evaluate` wrote, read again."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vidembed import sources
from vidembed.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DIRECTIONS = ("text_to_video", "video_to_text", "video_to_video")
RERANKED = "text_to_video_reranked"

_JSON, _PARQUET = "evaluation.json", "evaluation.parquet"
_NEEDED = {
    "direction": pa.string(), "query_id": pa.string(), "query": pa.string(),
    "rank": pa.float64(), "ties": pa.int64(),
}  # fmt: skip
# Columns of a video's query, and the metric whose terms they are.
_MEASURES = {"hit_ratio": "mHR", "average_precision": "mAP", "ndcg": "nDCG"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The queries of one direction, and where their answers stand.

    ids, texts: string arrays. rank: float64, inf where nothing was given back. ties: int64.
    Of video queries only: measures by metric (`mAP@10`), float64; hits, bool [queries, places], as
    far as the rows hold what came back. All of these are of one length.
    several: some video has several captions. gallery: among how many candidates each query looked,
    where that is known.
    """

    ids: pa.Array
    texts: pa.Array
    rank: NDArray[np.float64]
    ties: NDArray[np.int64]
    several: bool
    measures: dict[str, NDArray[np.float64]]
    hits: NDArray[np.bool_]
    gallery: int | None

    def __len__(self) -> int:
        return len(self.ids)

    def place(self) -> NDArray[np.float64]:
        """The mean of the places where each answer may stand, float64; inf where it is nowhere."""
        found: NDArray[np.float64] = self.rank + self.ties / 2.0
        return found

    def take(self, rows: NDArray[np.int64]) -> Asked:
        """Some of the queries, in another order."""
        return Asked(
            ids=self.ids.take(pa.array(rows)),
            texts=self.texts.take(pa.array(rows)),
            rank=self.rank[rows],
            ties=self.ties[rows],
            several=self.several,
            measures={name: values[rows] for name, values in self.measures.items()},
            hits=self.hits[rows],
            gallery=self.gallery,
        )


@dataclass(frozen=True, slots=True)
class Evaluated:
    """An evaluation: where it is, its `evaluation.json`, and its rows."""

    folder: str
    result: dict[str, Any]
    rows: pa.Table

    @classmethod
    def open(cls, place: str) -> Evaluated:
        """The evaluation at `place`: its folder, one of its files, or the run that has it inside.

        Raises ConfigError where there is none, or it cannot be read.
        """
        folder = _folder(sources.absolute(place))
        try:
            result = json.loads(sources.read_whole(sources.join(folder, _JSON)))
        except FileNotFoundError:
            raise ConfigError(f"{folder} has {_PARQUET} but no {_JSON}: evaluate again") from None
        except ValueError as error:
            raise ConfigError(f"{sources.join(folder, _JSON)}: not valid JSON: {error}") from None
        if not isinstance(result, dict):
            raise ConfigError(f"{sources.join(folder, _JSON)}: expected an object")
        return cls(folder, result, _rows(sources.join(folder, _PARQUET)))

    @property
    def directions(self) -> list[str]:
        """What it measured, in the usual order; `text_to_video_reranked` where it ranked again."""
        there = set(pc.unique(self.rows["direction"]).to_pylist())
        found = [name for name in DIRECTIONS if name in there]
        if "text_to_video" in found and "reranked" in self.rows.column_names:
            again = self._of("text_to_video")["reranked"]
            if not again.null_count:
                found.insert(1, RERANKED)
        return found

    def asked(self, direction: str) -> Asked:
        """The queries of one of `directions`. Raises ConfigError where one stands there twice."""
        reranked = direction == RERANKED
        rows = self._of("text_to_video" if reranked else direction)
        ids = rows["query_id"].combine_chunks()
        counts = pc.value_counts(ids)
        if pc.max(counts.field("counts")).as_py() > 1:
            twice = counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"]
            raise ConfigError(f"{self.folder}: {direction} has the query {twice} more than once")
        rank = rows["reranked"] if reranked else rows["rank"]
        ties = pa.array(np.zeros(len(rows), np.int64)) if reranked else rows["ties"]
        facts = self.result.get(direction)
        facts = facts if isinstance(facts, dict) else {}
        of_videos = direction == "video_to_video"
        return Asked(
            ids=ids,
            texts=rows["query"].combine_chunks(),
            rank=pc.fill_null(rank, float("inf")).to_numpy(),
            ties=pc.fill_null(ties, 0).to_numpy(zero_copy_only=False),
            several=direction in ("text_to_video", RERANKED) and _several(rows),
            measures=_measures(rows, facts) if of_videos else {},
            hits=_hits(rows) if of_videos else np.zeros((len(rows), 0), np.bool_),
            gallery=facts.get("gallery"),
        )

    def _of(self, direction: str) -> pa.Table:
        return self.rows.filter(pc.equal(self.rows["direction"], direction))


def words(direction: str) -> str:
    """A direction as people read it: text→video."""
    return direction.replace("_to_", "→").replace("_", ", ")


def _folder(place: str) -> str:
    if sources.display_name(place) in (_JSON, _PARQUET):
        place = sources.parent(place)
    folders = (place, sources.join(place, "evaluation"))
    for folder in folders:
        if sources.exists(sources.join(folder, _PARQUET)):
            return folder
    raise ConfigError(
        f"no {_PARQUET} in {' or '.join(map(sources.shown, folders))}: "
        f"run `vidembed evaluate RUN --queries QUERIES` first, and name its folder or the run"
    )


def _rows(uri: str) -> pa.Table:
    try:
        table = pq.read_table(pa.BufferReader(sources.read_whole(uri)))
    except (pa.ArrowInvalid, OSError) as error:
        raise ConfigError(f"{sources.shown(uri)} cannot be read: {error}") from None
    missing = [name for name in _NEEDED if name not in table.column_names]
    if missing:
        raise ConfigError(
            f"{sources.shown(uri)} has no column {', '.join(missing)}: it is of an older vidembed, "
            "or not of vidembed; evaluate again"
        )
    for name, kind in _NEEDED.items():
        try:
            column = table[name].cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ConfigError(f"{sources.shown(uri)}, column {name}: {error}") from None
        table = table.set_column(table.column_names.index(name), name, column)
    return table


def _several(rows: pa.Table) -> bool:
    """Whether some video is the answer to several texts."""
    if "relevant" not in rows.column_names:
        return False
    first = pc.list_element(rows["relevant"].filter(_filled(rows["relevant"])), 0)
    return len(pc.unique(first)) < len(first)


def _filled(lists: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.greater(pc.fill_null(pc.list_value_length(lists), 0), 0)


def _hits(rows: pa.Table) -> NDArray[np.bool_]:
    """Which places of `top` hold an answer: bool [queries, places]."""
    if not {"top", "relevant"} <= set(rows.column_names):
        return np.zeros((len(rows), 0), np.bool_)
    width = pc.max(pc.list_value_length(rows["top"])).as_py() or 0
    found = np.zeros((len(rows), width), np.bool_)
    for row, top, relevant in zip(found, rows["top"], rows["relevant"], strict=True):
        videos, answers = top.as_py() or (), set(relevant.as_py() or ())
        row[: len(videos)] = [video in answers for video in videos]
    return found


def _measures(rows: pa.Table, facts: dict[str, Any]) -> dict[str, NDArray[np.float64]]:
    """The columns of hit ratio, average precision and nDCG, named for the k that they are at."""
    k = max(_ks(facts), default=None)
    if k is None:
        return {}
    return {
        f"{metric}@{k}": rows[column].cast(pa.float64()).to_numpy()
        for column, metric in _MEASURES.items()
        if column in rows.column_names and not rows[column].null_count
    }


def _ks(facts: dict[str, Any]) -> Sequence[int]:
    names = (re.fullmatch(r"mHR@(\d+)", name) for name in facts)
    return [int(name[1]) for name in names if name]
