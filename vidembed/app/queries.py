"""What a user of the page asks, and the answer, as values."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from vidembed import addresses
from vidembed.errors import ClipError, VidembedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vidembed.app.rows import Rows
    from vidembed.app.uploads import Uploads
    from vidembed.query import Hit, Index

    Kind = Literal["text", "video", "like"]

# The names that captions go by, best first.
_CAPTIONS = ("caption", "sentence", "text", "title")
_LONGEST = 90
_SAMPLED = 200
_MOST_TOP = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """kind: what `value` is: a text, the token of an uploaded video, or the id of a row. shown: the
    words for it.
    """

    kind: Kind
    value: str
    shown: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How it is answered. filter: in Milvus's words, or empty. group: a video's best segment
    alone.
    """

    top: int
    filter: str
    group: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """hits, best first; or what went wrong, and what to do."""

    query: Query
    hits: tuple[Hit, ...] = ()
    seconds: float = 0.0
    error: str | None = None
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What is searched, and with what, as it was when the page began. place: the run's path or the
    server's address; name: the run's or the collection's.
    """

    kind: str
    place: str
    name: str
    rows: int
    encoder: str
    fingerprint: str
    metric: str
    has_text: bool

    @classmethod
    def of(cls, index: Index) -> About:
        place = addresses.shown(index.place).rstrip("/")
        return cls(
            kind=index.kind,
            place=place,
            name=index.collection or addresses.display_name(place),
            rows=index.rows,
            encoder=index.encoder,
            fingerprint=index.fingerprint,
            metric=index.metric,
            has_text=index.has_text,
        )


class Asking:
    """Puts queries to an index. For several threads."""

    def __init__(self, index: Index, rows: Rows, uploads: Uploads) -> None:
        self.index = index
        self.about = About.of(index)
        self.most_bytes = uploads.max_bytes
        self._rows = rows
        self._uploads = uploads

    def warm(self) -> None:
        """Load what encodes texts now, not while the first user waits."""
        if self.about.has_text and self.about.rows:
            self.index.search("a video", top=1)

    def answer(self, query: Query, wishes: Wishes) -> Answer:
        """What is wrong is part of the answer: nothing that a user types or uploads raises."""
        began = time.monotonic()
        try:
            hits = self._hits(query, wishes)
        except ClipError as error:
            return _failed(query, str(error), "Try another file.")
        except VidembedError as error:
            return _failed(query, str(error), _remedy(query, wishes, str(error)))
        self._rows.keep(hits)
        return Answer(query=query, hits=tuple(hits), seconds=time.monotonic() - began)

    def _hits(self, query: Query, wishes: Wishes) -> list[Hit]:
        top = min(max(1, wishes.top), _MOST_TOP)
        group: Literal["video"] | None = "video" if wishes.group else None
        chosen = wishes.filter.strip() or None
        search = self.index.search
        if query.kind == "text":
            return search(query.value, top=top, filter=chosen, group_by=group)
        if query.kind == "like":
            return search(id=query.value, top=top, filter=chosen, group_by=group)
        path = self._uploads.path(query.value)
        if path is None:
            raise ClipError("NotFound", f"{query.shown} is no longer here: drop it again")
        try:
            return search(video=path, top=top, filter=chosen, group_by=group)
        except VidembedError as error:
            # The user knows it by its own name, and the folder is none of their business.
            raise type(error)(
                *(_renamed(word, path, query.shown) for word in error.args)
            ) from error


def examples(given: Sequence[str], sample: Sequence[Hit], most: int = 5) -> list[str]:
    """Texts to offer: those that were given, else captions of the sample."""
    if given:
        return list(given)
    for name in _CAPTIONS:
        texts = [_text(hit.metadata.get(name)) for hit in sample]
        # The best example is one that finds something else than the one before.
        found = list(dict.fromkeys(text for text in texts if 3 <= len(text) <= _LONGEST))
        if found:
            step = max(1, len(found) // most)
            return found[::step][:most]
    return []


def filter_hint(sample: Sequence[Hit]) -> str:
    """The start of a filter that some rows pass: a column of short words, and one of them."""
    for hit in sample[:1]:
        for name, value in hit.metadata.items():
            if name not in _CAPTIONS and isinstance(value, str) and value and len(value) <= 20:
                return f"{name} == {value!r} and "
    return ""


def sample(index: Index, count: int = _SAMPLED) -> list[Hit]:
    """Some rows of the index, the same each time: those nearest to a vector of chance."""
    if not index.rows:
        return []
    vector = np.random.default_rng(0).standard_normal(index.spec.dim).astype(np.float32)
    vector /= np.linalg.norm(vector)
    return index.search(vector=vector, top=min(count, index.rows))


def _text(value: object) -> str:
    """A caption; the first where a video has several."""
    if isinstance(value, (list, tuple)):
        value = value[0] if value else ""
    return " ".join(value.split()) if isinstance(value, str) else ""


def _failed(query: Query, error: str, remedy: str) -> Answer:
    sys.stderr.write(f"vidembed: {query.shown}: {error}\n")
    # The page has boxes where the command line has flags.
    shown = error.replace("--filter", "filter").removeprefix("--video ")
    return Answer(query=query, error=shown, remedy=remedy)


def _remedy(query: Query, wishes: Wishes, error: str) -> str:
    if wishes.filter.strip() and "filter" in error:
        return "Mend the filter, or empty it, and search again."
    if query.kind == "video":
        return "Try another file."
    return "Search again; if it stays, look at the terminal where the page runs."


def _renamed(word: object, path: str, name: str) -> object:
    return word.replace(path, name) if isinstance(word, str) else word
