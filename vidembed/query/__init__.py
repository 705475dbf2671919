"""Queries: runs and collections searched by a text, a video, an id or a vector."""

from __future__ import annotations

from vidembed.query.encoding import spec_of
from vidembed.query.hits import Hit, TextHit
from vidembed.query.index import Index, open_index
from vidembed.query.matrix import Similarity, similarity
from vidembed.query.search import rank_texts, search

__all__ = [
    "Hit",
    "Index",
    "Similarity",
    "TextHit",
    "open_index",
    "rank_texts",
    "search",
    "similarity",
    "spec_of",
]
