"""A run or a collection, open for queries."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from vidembed import retrieval
from vidembed.errors import ConfigError, RunMismatchError
from vidembed.query import memory as room
from vidembed.query.encoding import QueryEncoder, spec_of, spec_of_collection
from vidembed.query.ranking import ranked
from vidembed.query.run_index import RunIndex
from vidembed.store.milvus_calls import is_lite
from vidembed.store.run import Run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from vidembed.encode.registry import Device
    from vidembed.encode.spec import EncoderSpec
    from vidembed.query.collection_index import CollectionIndex
    from vidembed.query.hits import Hit, TextHit
    from vidembed.report import RunReport

_COLLECTION = "videos"


class Index:
    """A run or a collection, open for queries: see `vidembed.open`. Several threads may use it.

    place: the run's path, or the Milvus URI. kind: `run` or `collection`. collection: its name,
    None for a run. encoder: the name of the one that made the vectors; fingerprint: of its weights,
    preprocessing and sampling; metric: COSINE, IP or L2, by which rows are compared.
    """

    def __init__(
        self,
        rows: RunIndex | CollectionIndex,
        *,
        weights: str | None = None,
        device: Device = "auto",
    ) -> None:
        self._index = rows
        self._weights, self._device = weights, device
        self._lock = threading.Lock()
        self._encoder: QueryEncoder | None = None
        self.place: str = rows.place
        self.kind: Literal["run", "collection"] = rows.kind
        self.collection: str | None = rows.collection
        self.encoder: str = rows.encoder
        self.fingerprint: str = rows.fingerprint
        self.metric: str = rows.metric

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        name = f", collection={self.collection!r}" if self.collection else ""
        return f"<{self.kind} {self.place!r}{name}, {self.encoder}>"

    def close(self) -> None:
        """Give memory and connections free."""
        self._index.close()

    @property
    def spec(self) -> EncoderSpec:
        """The encoder's, found again through the run or the collection, and compared with it.

        Raises WeightsError where its weights are gone, RunMismatchError where they are others.
        """
        return self._queries().spec

    @property
    def has_text(self) -> bool:
        """Whether texts can be asked for. Raises as `spec` does."""
        return self.spec.context_length > 0

    @property
    def rows(self) -> int:
        """How many rows there are now."""
        return self._index.rows

    @property
    def columns(self) -> list[str]:
        """The names of the metadata columns."""
        return self._index.columns

    @property
    def exact(self) -> RunIndex:
        """The rows of a run, block by block. Raises ConfigError for a collection, which gives the
        nearest of its rows only.
        """
        if isinstance(self._index, RunIndex):
            return self._index
        raise ConfigError(
            f"this needs all rows, and collection {self.collection!r} gives the nearest of them "
            f"only: open the run that it was loaded from"
        )

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 [texts, dim]. Raises ConfigError where the encoder has no text tower."""
        return self._queries().texts(texts)

    def search(  # noqa: PLR0913 - a query's options, all but one by name
        self,
        text: str | None = None,
        *,
        video: str | None = None,
        id: str | None = None,  # noqa: A002
        vector: NDArray[np.float32] | None = None,
        top: int = 10,
        filter: str | None = None,  # noqa: A002
        group_by: Literal["video"] | None = None,
        search_params: Mapping[str, Any] | None = None,
    ) -> list[Hit]:
        """The `top` rows nearest to a text, a video (file or address), a row or a video that is
        there already (by its id; the video itself is left out), or a vector [dim]; best first,
        those of equal score by id.

        id of a video that has several segments, and a vector [n, dim]: a row's score is its best
        one. filter: a condition in Milvus's words that rows fulfil. group_by: `video`: of the
        segments of a video, the best alone. search_params: of Milvus's index, as `{"ef": 128}`.

        Raises ConfigError, WeightsError, or RunMismatchError.
        """
        if top < 1:
            raise ConfigError(f"top: expected 1 or more, got {top}")
        if group_by not in (None, "video"):
            raise ConfigError(f"group_by: expected 'video', got {group_by!r}")
        if search_params and self.kind == "run":
            raise ConfigError("search_params are for a collection: a run is searched exactly")
        queries, without = self._vectors(text, video, id, vector)
        return self._index.nearest(
            queries,
            top,
            without=without,
            where=filter,
            by_video=group_by == "video",
            params=search_params,
        )

    def get(self, ids: Sequence[str]) -> list[Hit | None]:
        """The rows of these ids, in this order, with score 0; None for those not there."""
        return self._index.get(ids)

    def rank_texts(
        self,
        texts: Sequence[str],
        *,
        video: str | None = None,
        id: str | None = None,  # noqa: A002
        top: int | None = None,
    ) -> list[TextHit]:
        """The texts, those first that fit a video best: a file or an address, or the id of a row or
        of a video that is there. top: how many; None: all. Raises as `search` does.
        """
        if isinstance(texts, str):
            raise ConfigError("texts: expected a list of texts, got one text")
        vectors = self.encode_texts(texts)
        videos, _ = self._vectors(None, video, id, None)
        return ranked(texts, vectors, videos, self.metric)[:top]

    def similarity(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The scores of all texts with all rows of a run, float32 [texts, rows], rows in the order
        of `ids`. For a matrix that does not fit into memory there is `vidembed similarity`.
        """
        run, vectors = self.exact, self.encode_texts(texts)
        blocks = [
            retrieval.similarity(vectors, run.vectors(group), self.metric) for group in run.listed()
        ]
        return np.concatenate(blocks, axis=1)

    def ids(self) -> list[str]:
        """The ids of all rows of a run, in the order of `similarity`."""
        run = self.exact
        return [key for group in run.listed() for key in run.read(group, ["id"])["id"].to_pylist()]

    def _queries(self) -> QueryEncoder:
        with self._lock:
            if self._encoder is None:
                self._encoder = QueryEncoder(self._described(), self._device)
            return self._encoder

    def _described(self) -> EncoderSpec:
        if isinstance(self._index, RunIndex):
            return spec_of(self._index.run, self._weights)
        return spec_of_collection(self._index.collection, self._index.made, self._weights)

    def _vectors(
        self,
        text: str | None,
        video: str | None,
        key: str | None,
        vector: NDArray[np.float32] | None,
    ) -> tuple[NDArray[np.float32], str | None]:
        """The query as vectors [n, dim], and the video that is no answer to it."""
        given = [each for each in (text, video, key, vector) if each is not None]
        if len(given) != 1:
            raise ConfigError("give one of a text, video=, id= and vector=")
        if text is not None:
            return self._queries().texts([text]), None
        if video is not None:
            return self._queries().video(video), None
        if key is not None:
            own, vectors = self._index.stored(key)
            return vectors, own
        return self._checked(vector), None

    def _checked(self, vector: Any) -> NDArray[np.float32]:
        found = np.atleast_2d(np.asarray(vector, np.float32))
        dim = self._index.dim
        if found.ndim != 2 or found.shape[1] != dim or not np.isfinite(found).all():
            raise ConfigError(
                f"vector: expected finite numbers [{dim}], or [n, {dim}], got {found.shape}"
            )
        if self.metric != "COSINE":
            return found
        length = np.linalg.norm(found, axis=1, keepdims=True)
        if not length.all():
            raise ConfigError("vector: one of zeros has no direction to compare")
        return np.asarray(found / length, np.float32)


def open_run(
    uri: str,
    *,
    encoder: str | None = None,
    weights: str | None = None,
    device: Device = "auto",
    memory: int | None = None,
) -> Index:
    """See `open_index`."""
    run = Run.open(uri)
    if encoder not in (None, run.identity["encoder"]):
        raise RunMismatchError(
            f"{run.uri} was embedded with {run.identity['encoder']}, not {encoder}"
        )
    rows = RunIndex(run, room.usual() if memory is None else memory)
    return Index(rows, weights=weights, device=device)


def open_collection(
    uri: str,
    name: str = _COLLECTION,
    *,
    encoder: str | None = None,
    weights: str | None = None,
    device: Device = "auto",
    consistency: str | None = None,
) -> Index:
    """See `open_index`."""
    from vidembed.query.collection_index import CollectionIndex

    rows = CollectionIndex(uri, name, consistency)
    if encoder not in (None, rows.encoder):
        rows.close()
        raise RunMismatchError(
            f"collection {name!r} in {uri} holds vectors of {rows.encoder}, not {encoder}"
        )
    return Index(rows, weights=weights, device=device)


def open_index(
    place: RunReport | str | os.PathLike[str],
    *,
    collection: str | None = None,
    encoder: str | None = None,
    weights: str | None = None,
    device: Device = "auto",
    memory: int | None = None,
    consistency: str | None = None,
) -> Index:
    """See `vidembed.open`."""
    uri = os.fspath(place) if isinstance(place, str | os.PathLike) else place.out
    if is_lite(uri) or uri.startswith(("http://", "https://")):
        name = collection or _COLLECTION
        return open_collection(
            uri,
            name,
            encoder=encoder,
            weights=weights,
            device=device,
            consistency=consistency,
        )
    if collection is not None:
        raise ConfigError(
            f"collection={collection!r} is for Milvus, and {uri} is a run: give a path ending in "
            f".db, or http://host:19530"
        )
    return open_run(uri, encoder=encoder, weights=weights, device=device, memory=memory)
