"""Which hits and misses an evaluation's page shows, and how they look."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidembed.access import Access
from vidembed.evaluation.thumbnails import Studio, places
from vidembed.pages.gallery import Answer, Example

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from vidembed.pages.gallery import Kind, Picture
    from vidembed.store.run import Run

SHOWN = 5
"""How many results of a query are shown."""
NEAR = 10
"""Up to this rank a miss is a near one."""
DIRECTIONS = ("text_to_video", "video_to_text", "video_to_video")
# The inverse of the golden ratio: its multiples, modulo 1, lie evenly however many are taken.
_GOLDEN = 0.6180339887498949


def choose(rows: pa.Table, n: int) -> list[Example]:
    """About n queries of `evaluation.parquet` that show what the encoder can and cannot do.

    Of each direction as many; of these a third each the worst misses, the nearest ones, and hits
    that lie spread over the queries, each of another video or label as long as there are some.
    The same rows give the same examples. They have no pictures yet: see `pictures`.
    """
    present = [name for name in DIRECTIONS if pc.any(pc.equal(rows["direction"], name)).as_py()]
    found: list[Example] = []
    for at, direction in enumerate(present):
        part = rows.filter(pc.equal(rows["direction"], direction))
        share = n // len(present) + (at < n % len(present))
        found += _of_direction(part, share)
    return _captioned(found, rows)


def _of_direction(part: pa.Table, n: int) -> list[Example]:
    rank = _middle_ranks(part)
    orders = {
        "miss": _worst_first(part, rank, rank > NEAR),
        "near": _nearest_first(part, rank, (rank > 1) & (rank <= NEAR)),
        "hit": _spread(np.flatnonzero(rank <= 1)),
    }
    taken = _in_turn({kind: _varied(part, order, n) for kind, order in orders.items()}, n)
    return [
        _example(part.slice(row, 1).to_pylist()[0], kind, rank[row])
        for kind, order in taken.items()
        for row in order
    ]


def _middle_ranks(part: pa.Table) -> NDArray[np.float64]:
    rank = pc.fill_null(part["rank"].cast(pa.float64()), np.inf).to_numpy()
    ties = pc.fill_null(part["ties"].cast(pa.float64()), 0.0).to_numpy()
    middle: NDArray[np.float64] = rank + ties / 2
    return middle


def _worst_first(
    part: pa.Table, rank: NDArray[np.float64], among: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Rows by falling rank, of equal ones those with the lower average precision first."""
    rows = np.flatnonzero(among)
    precision = np.zeros(len(part))
    if "average_precision" in part.column_names:
        column = pc.fill_null(part["average_precision"].cast(pa.float64()), 0.0)
        precision = column.to_numpy()
    return rows[np.lexsort((rows, precision[rows], -rank[rows]))]


def _nearest_first(
    part: pa.Table, rank: NDArray[np.float64], among: NDArray[np.bool_]
) -> NDArray[np.int64]:
    rows = np.flatnonzero(among)
    return rows[np.lexsort((rows, rank[rows]))]


def _spread(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows in an order of which every beginning lies evenly over them all."""
    keys = np.modf(np.arange(len(rows)) * _GOLDEN)[0]
    return rows[np.argsort(keys, kind="stable")]


def _varied(part: pa.Table, order: NDArray[np.int64], n: int) -> list[int]:
    """The first rows of an order; those whose right answer was there already come last."""
    # Captions of one video, or videos of one label, often fail together.
    head = order[: 16 * n]
    relevant = part["relevant"].take(pa.array(head)).to_pylist()
    seen: set[str] = set()
    first: list[int] = []
    again: list[int] = []
    for row, ids in zip(head.tolist(), relevant, strict=True):
        key = ids[0] if ids else ""
        (again if key in seen else first).append(row)
        seen.add(key)
    return [*first, *again]


def _in_turn(orders: dict[str, list[int]], n: int) -> dict[Kind, list[int]]:
    """n rows, one of each kind after the other as long as there are some."""
    taken: dict[Kind, list[int]] = {"miss": [], "near": [], "hit": []}
    while n > 0 and any(orders.values()):
        for kind, order in orders.items():
            if order and n > 0:
                taken[kind].append(order.pop(0))  # type: ignore[index]
                n -= 1
    return taken


def _example(row: dict[str, Any], kind: Kind, rank: float) -> Example:
    relevant = set(row["relevant"])
    scores = row["scores"] or []
    answers = tuple(
        Answer(id=name, right=name in relevant, score=scores[at] if at < len(scores) else None)
        for at, name in enumerate(row["top"][:SHOWN])
    )
    wanted = None
    if not any(answer.right for answer in answers) and row["relevant"]:
        wanted = Answer(id=row["relevant"][0], right=True, score=_score_of(row))
    return Example(
        direction=row["direction"],
        kind=kind,
        query_id=row["query_id"],
        query=row["query"],
        rank=None if np.isinf(rank) else float(rank),
        reranked=row.get("reranked"),
        answers=answers,
        wanted=wanted,
        relevant=len(row["relevant"]),
    )


def _score_of(row: dict[str, Any]) -> float | None:
    """The score of the first relevant one, where it is among those that the row names."""
    pairs = dict(zip(row["top"], row["scores"] or [], strict=False))
    return pairs.get(row["relevant"][0])


def _captioned(examples: list[Example], rows: pa.Table) -> list[Example]:
    """With the words of texts that an id names, those that were asked of videos, and labels."""
    texts = rows.filter(pc.equal(rows["direction"], "text_to_video"))
    of_id = dict(zip(*_known(texts["query_id"], texts["query"], examples), strict=True))
    whole = pc.list_flatten(texts["relevant"])
    # Of several captions the first: a dictionary keeps the last that it is given.
    parents = pc.list_parent_indices(texts["relevant"])
    ids, captions = _known(whole, texts["query"].take(parents), examples)
    of_video = dict(zip(reversed(ids), reversed(captions), strict=True))
    label_of: dict[str, str] = {}
    if "label" in rows.column_names:
        asked = rows.filter(pc.equal(rows["direction"], "video_to_video"))
        label_of = dict(zip(*_known(asked["query"], asked["label"], examples), strict=True))
    found = []
    for example in examples:
        words = of_id if example.direction == "video_to_text" else of_video
        labels = label_of if example.direction == "video_to_video" else {}
        captioned = _each(example, functools.partial(_with_words, words, labels))
        if not _is_text(example):
            query = example.query
            captioned = replace(captioned, caption=of_video.get(query), label=labels.get(query))
        found.append(captioned)
    return found


def _with_words(words: dict[str, str], labels: dict[str, str], answer: Answer) -> Answer:
    return replace(answer, caption=words.get(answer.id), label=labels.get(answer.id))


def _known(
    ids: pa.ChunkedArray, words: pa.ChunkedArray, examples: list[Example]
) -> tuple[list[str], list[str]]:
    """Of (id, words) those whose id an example names."""
    named = {a.id for e in examples for a in _answers(e)} | {e.query for e in examples}
    keep = pc.is_in(ids, pa.array(sorted(named), pa.string()))
    return ids.filter(keep).to_pylist(), words.filter(keep).to_pylist()


def _is_text(example: Example) -> bool:
    return example.direction == "text_to_video"


def _answers(example: Example) -> list[Answer]:
    return [*example.answers, *([example.wanted] if example.wanted else [])]


def _each(example: Example, change: Callable[[Answer], Answer]) -> Example:
    """The example with each of its answers changed."""
    return replace(
        example,
        answers=tuple(change(answer) for answer in example.answers),
        wanted=None if example.wanted is None else change(example.wanted),
    )


def pictures(
    run: Run, examples: Sequence[Example], allow_root: Sequence[str], query_run: Run | None = None
) -> list[Example]:
    """The examples with pictures of their videos, and with what the run says that these show.

    A picture is the middle of a video's window, decoded once in a child process; where it cannot
    be had, it says why. Their number and the time they take are bounded: see `thumbnails`.
    query_run: the run that the query videos are of, where it is another. allow_root: what may be
    opened besides what a run's place allows.

    Write the numbers before this is called: it reads files that may have changed since. Raises
    RunError where a part of a run is damaged, or no decoder starts.
    """
    if not examples:
        return []
    queries = {e.query for e in examples if not _is_text(e)}
    results = {a.id for e in examples for a in _answers(e) if _finds_videos(e)}
    if query_run is None:
        asked = found = _Album(run, allow_root, queries | results)
    else:
        asked = _Album(query_run, allow_root, queries)
        found = _Album(run, allow_root, results)
    with Studio() as studio:
        # What was asked and what was wanted first: the time may not do for all.
        for example in examples:
            if not _is_text(example):
                asked.take(studio, example.query)
            if example.wanted is not None and _finds_videos(example):
                found.take(studio, example.wanted.id)
        for place in range(SHOWN):
            for example in examples:
                if _finds_videos(example) and place < len(example.answers):
                    found.take(studio, example.answers[place].id)
    return [_illustrated(example, asked, found) for example in examples]


def _finds_videos(example: Example) -> bool:
    return example.direction != "video_to_text"


def _illustrated(example: Example, asked: _Album, found: _Album) -> Example:
    if not _is_text(example):
        caption = asked.caption(example.query) or example.caption
        example = replace(example, picture=asked.pictures[example.query], caption=caption)
    if not _finds_videos(example):
        return example

    def shown(answer: Answer) -> Answer:
        caption = found.caption(answer.id) or answer.caption
        return replace(answer, picture=found.pictures[answer.id], caption=caption)

    return _each(example, shown)


class _Album:
    """The videos of one run that are shown, each with its picture once."""

    def __init__(self, run: Run, allow_root: Sequence[str], ids: set[str]) -> None:
        self._access = Access.of(run.uri, allow_root)
        self._places = places(run, ids)
        self.pictures: dict[str, Picture] = {}

    def take(self, studio: Studio, name: str) -> None:
        if name not in self.pictures:
            self.pictures[name] = studio.picture(self._places.get(name), self._access)

    def caption(self, name: str) -> str | None:
        place = self._places.get(name)
        return place.caption if place else None
