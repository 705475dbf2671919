"""Search through the index of a Milvus collection."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vidembed.errors import ConfigError, RunMismatchError
from vidembed.query.hits import Hit, best_first, hit
from vidembed.store.milvus import Collection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

# Milvus returns no more rows of one query.
_MOST = 16384


class CollectionIndex:
    """The rows of a collection, found by its index. Usable by several threads at once."""

    kind: Literal["collection"] = "collection"

    def __init__(self, uri: str, name: str, consistency: str | None = None) -> None:
        """consistency: of searches, see `Collection.search`.

        Raises ConfigError where nothing answers, or there is no such collection of ours.
        """
        self.place, self.collection = uri, name
        self._consistency = consistency
        self._collection = Collection(uri, name)
        try:
            self.made = self._collection.made_for()
            self._version = self._collection.current()
        except BaseException:
            self._collection.close()
            raise
        self.metric = self.made["metric"]

    def close(self) -> None:
        self._collection.close()

    def _now(self) -> Collection:
        """The collection, or the one that the alias means at this moment: an answer comes from one.

        Raises RunMismatchError where it holds vectors of another encoder than when it was opened.
        """
        if self._version is self._collection:
            return self._collection
        current = self._collection.current()
        if current.name != self._version.name:
            made = current.made_for()
            if made["fingerprint"] != self.fingerprint:
                raise RunMismatchError(
                    f"alias {self.collection!r} in {self.place} means vectors of "
                    f"{made['encoder']} (fingerprint {made['fingerprint']}) now, and was opened "
                    f"for {self.encoder} ({self.fingerprint}): open it again"
                )
            self._version = current
        return self._version

    @property
    def fingerprint(self) -> str:
        return self.made["fingerprint"]

    @property
    def encoder(self) -> str:
        return self.made["encoder"]

    @cached_property
    def dim(self) -> int:
        return self._version.dim()

    @property
    def rows(self) -> int:
        return self._now().count()

    @property
    def columns(self) -> list[str]:
        return self._now().columns()

    def nearest(
        self,
        queries: NDArray[np.float32],
        top: int,
        *,
        without: str | None = None,
        where: str | None = None,
        by_video: bool = False,
        params: Mapping[str, Any] | None = None,
    ) -> list[Hit]:
        """As of a run; only as good as the collection's index."""
        # Milvus has no way to leave a video out that holds for any id: more are asked for.
        more = 0 if without is None else 1 if by_video else len(queries)
        answers = self._now().search(
            queries,
            min(top + more, _MOST),
            filter=where or "",
            params=dict(params or {}),
            group_by="video_id" if by_video else None,
            consistency=self._consistency,
        )
        best: dict[str, Hit] = {}
        for row in (row for rows in answers for row in rows):
            found = hit(row, -row["score"] if self.metric == "L2" else row["score"])
            there = best.get(found.id)
            if found.video_id != without and (there is None or there.score < found.score):
                best[found.id] = found
        return best_first(best.values(), by_video=by_video)[:top]

    def get(self, ids: Sequence[str]) -> list[Hit | None]:
        """The rows of these ids, with score 0; None for those that are not there."""
        return [None if row is None else hit(row, 0.0) for row in self._got(ids)]

    def stored(self, key: str) -> tuple[str, NDArray[np.float32]]:
        """As of a run. Raises ConfigError where there is no such id."""
        rows = self._stored([key]) or self._stored([f"{key}#0"])
        if not rows:
            raise ConfigError(
                f"collection {self.collection!r} in {self.place} has no row and no video with the "
                f"id {key!r}"
            )
        video, segments = str(rows[0]["video_id"]), int(rows[0]["segments"])
        if video == key and segments > 1:
            rows = self._stored([f"{key}#{k}" for k in range(segments)])
        return video, np.stack([np.asarray(row["embedding"], np.float32) for row in rows])

    def _stored(self, ids: list[str]) -> list[dict[str, Any]]:
        fields = ["id", "video_id", "segments", "embedding"]
        return [row for row in self._got(ids, fields) if row is not None]

    def _got(
        self, ids: Sequence[str], fields: Sequence[str] | None = None
    ) -> list[dict[str, Any] | None]:
        return self._now().get(ids, fields, consistency=self._consistency)
