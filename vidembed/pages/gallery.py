"""Hits and misses, as a page shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["miss", "near", "hit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """jpeg: at most 160 pixels wide and high, and 6 kB; None where there is none, and the reason.

    width, height: in pixels.
    """

    jpeg: bytes | None = None
    width: int = 160
    height: int = 90
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A video or a text that was found, or should have been. score: None where it is not known;
    right: whether it is relevant; caption: its words, or those of its video; label: of a video that
    is found by one.
    """

    id: str
    right: bool
    score: float | None = None
    caption: str | None = None
    label: str | None = None
    picture: Picture | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A query with its first results.

    kind: `hit` where a right one is first and alone, `near` where it is among the first ten, else
    `miss`. rank: from 1, of those that score the same the mean one; None where an index did not
    give it back. reranked: after re-ranking. wanted: a right one, where none is among the answers;
    relevant: how many there are. caption, label, picture: of the video that is the query.
    """

    direction: str
    kind: Kind
    query_id: str
    query: str
    rank: float | None
    reranked: float | None = None
    answers: tuple[Answer, ...]
    wanted: Answer | None = None
    relevant: int
    caption: str | None = None
    label: str | None = None
    picture: Picture | None = None
