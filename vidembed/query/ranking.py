"""Texts in the order in which they fit a video."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidembed import retrieval
from vidembed.query.hits import TextHit, rounded

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


def ranked(
    texts: Sequence[str],
    vectors: NDArray[np.float32],
    videos: NDArray[np.float32],
    metric: str,
) -> list[TextHit]:
    """The texts, given with their vectors [texts, dim], best first for a video, given by one vector
    or those of its segments [n, dim]: a text's score is its best one. Those of equal score as they
    came.
    """
    scores = retrieval.similarity(vectors, videos, metric).max(axis=1)
    hits = [
        TextHit(text=text, score=rounded(score), position=at)
        for at, (text, score) in enumerate(zip(texts, scores, strict=True))
    ]
    return sorted(hits, key=lambda each: -each.score)
