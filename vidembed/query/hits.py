"""What a search gives back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vidembed import schema

if TYPE_CHECKING:
    from collections.abc import Iterable

# Scores are told to so many digits, and what is the same to these is ordered by id: one more says
# only how the processor has added up.
_DIGITS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One row of an answer.

    score: higher is nearer (cosine, dot product, or minus the squared distance, after the metric).
    Where it is the re-ranker's, first_score is the one of the search. start_s, end_s: seconds of
    the video. metadata: the manifest's columns.
    """

    id: str
    video_id: str
    score: float
    uri: str
    start_s: float
    end_s: float
    metadata: dict[str, Any]
    first_score: float | None = None

    def plain(self) -> dict[str, Any]:
        """The fields as a dict."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextHit:
    """One of the texts that were ranked for a video. position: among the texts as given, from 0."""

    text: str
    score: float
    position: int

    def plain(self) -> dict[str, Any]:
        """The fields as a dict."""
        return asdict(self)


def rounded(score: float) -> float:
    return round(float(score), _DIGITS)


def hit(row: dict[str, Any], score: float) -> Hit:
    """A row of a run or a collection as a hit."""
    return Hit(
        id=row["id"],
        video_id=row["video_id"],
        score=rounded(score),
        uri=row["uri"],
        start_s=row["start_s"],
        end_s=row["end_s"],
        metadata={k: v for k, v in row.items() if k not in schema.RESERVED},
    )


def best_first(hits: Iterable[Hit], *, by_video: bool = False) -> list[Hit]:
    """Sorted by score, then by id. by_video: of each video the best alone."""
    ordered = sorted(hits, key=lambda each: (-each.score, each.id))
    if not by_video:
        return ordered
    best: dict[str, Hit] = {}
    for each in ordered:
        best.setdefault(each.video_id, each)
    return list(best.values())
