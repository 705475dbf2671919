"""The ranking through the index of a Milvus collection: what it does not give back has no rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidembed.errors import ConfigError, RunMismatchError
from vidembed.evaluation.ranking import Ranking
from vidembed.store.milvus_index import settle, wide_enough

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from vidembed.evaluation.gallery import Gallery
    from vidembed.evaluation.scan import Asked
    from vidembed.store.milvus import Collection
    from vidembed.store.milvus_index import IndexFacts

MOST = 16384
"""Results that a server gives to a query."""
# Hits of the answers that are in memory at once, and of all answers of a FLAT index.
_HITS = 1 << 20
_ALL_HITS = 20_000_000
_KEYS = 1 << 16
# Nothing is written meanwhile: there is nothing to wait for.
_CONSISTENCY = "Eventually"


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """A collection that holds a run, and how it is searched. params: of its index, as {"ef": 128};
    facts: what it is.
    """

    collection: Collection
    gallery: Gallery
    params: Mapping[str, int]
    facts: IndexFacts

    @classmethod
    def of(
        cls,
        collection: Collection,
        gallery: Gallery,
        params: Mapping[str, int],
        patience_s: float = 120.0,
    ) -> Index:
        """Check that the collection holds the run's rows and no others, and have them in the index.

        Raises RunMismatchError where it was made for other vectors or another metric, ConfigError
        where it lacks rows of the run or has others.
        """
        _check_made_for(collection, gallery)
        _check_rows(collection, gallery)
        facts = settle(collection, patience_s)
        return cls(collection=collection, gallery=gallery, params=params, facts=facts)

    def with_params(self, params: Mapping[str, int]) -> Index:
        return Index(
            collection=self.collection,
            gallery=self.gallery,
            params={**self.params, **params},
            facts=self.facts,
        )

    @property
    def grouped(self) -> bool:
        """Whether videos have several rows, of which the best counts."""
        return self.gallery.rows > self.gallery.videos

    def depth(self, queries: int, top: int) -> int:
        """How many videos a query is answered with, where the first `top` are wanted.

        FLAT compares with all whatever is asked for, and gives back what memory allows. To the
        others it makes a difference how many are wanted: they are asked for as a search would.
        """
        if self.facts.kind == "FLAT":
            most = max(top, _ALL_HITS // max(1, queries))
            return min(self.gallery.videos, MOST, most)
        # An index that looks at `ef` vectors gives back so many at most.
        looked = [self.params[name] for name in ("ef", "search_list") if name in self.params]
        return min(self.gallery.videos, MOST, top, *looked)

    def plain(self) -> dict[str, Any]:
        """As evaluation.json has it."""
        return {
            "collection": self.collection.name,
            "uri": self.collection.uri,
            "index": self.facts.plain(),
            "search_params": dict(self.params),
            "rows": self.facts.rows,
        }


def rank(index: Index, asked: Asked, code: NDArray[np.int64], top: int) -> Ranking:
    """Rank the gallery's videos for each query, as far as the index gives them back.

    code: int64 [videos], see `Asked`; top: how many of the first are kept. A rank is inf where no
    relevant video came back. Ties are those of equal float32 scores in the answer.
    """
    return _ranked(index, asked, code, top, index.depth(asked.side.items, top))


def _ranked(index: Index, asked: Asked, code: NDArray[np.int64], top: int, depth: int) -> Ranking:
    blocks = [
        _block(index, asked[queries], code, top, depth)
        for queries in asked.side.cuts(max(1, _HITS // depth))
    ]
    return Ranking(
        rank=np.concatenate([each.rank for each in blocks]),
        ties=np.concatenate([each.ties for each in blocks]),
        top=np.concatenate([each.top for each in blocks]),
        scores=np.concatenate([each.scores for each in blocks]),
    )


def _block(index: Index, asked: Asked, code: NDArray[np.int64], top: int, depth: int) -> Ranking:
    query, item, score = _found(index, asked, depth)
    answer = np.full(asked.side.items, -np.inf)
    relevant = code[item] == asked.code[query]
    np.maximum.at(answer, query[relevant], score[relevant])
    count, here = asked.side.items, answer[query]
    above = np.bincount(query[score > here], minlength=count)
    ties = np.bincount(query[(score == here) & ~relevant], minlength=count)
    came = np.isfinite(answer)
    first, scores = np.full((count, top), -1, np.int64), np.full((count, top), -np.inf, np.float32)
    order = np.lexsort((item, -score, query))
    sorted_query = query[order]
    place = np.arange(len(order)) - np.searchsorted(sorted_query, sorted_query)
    kept, place = order[place < top], place[place < top]
    first[query[kept], place], scores[query[kept], place] = item[kept], score[kept]
    return Ranking(
        rank=np.where(came, 1.0 + above, np.inf),
        ties=np.where(came, ties, 0).astype(np.int64),
        top=first,
        scores=scores,
    )


def _found(
    index: Index, asked: Asked, depth: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """(query, position in the gallery, score) of each video that came back, each pair once."""
    # One that does not count comes back too.
    wanted = min(depth + int((asked.hidden >= 0).any()), MOST)
    hits = search(index, asked.side.vectors, wanted)
    lengths = [len(each) for each in hits]
    owner = np.repeat(np.arange(asked.side.items), np.diff(asked.side.starts))
    query = np.repeat(owner, lengths)
    names = pa.array([hit["video_id"] for each in hits for hit in each], pa.string())
    item = pc.index_in(names, value_set=index.gallery.ids).to_numpy(zero_copy_only=False)
    score = np.array([hit["score"] for each in hits for hit in each], np.float64)
    if index.facts.metric == "L2":
        score = -score
    if len(names) and np.isnan(item.astype(np.float64)).any():
        raise ConfigError(
            f"collection {index.collection.name!r} was written to while it was evaluated: do this "
            f"again"
        )
    item = item.astype(np.int64)
    shown = item != asked.hidden[query]
    query, item, score = query[shown], item[shown], score[shown]
    if not asked.side.is_single:
        query, item, score = _best_of_pairs(query, item, score)
    return _cut(query, item, score, depth)


def _best_of_pairs(
    query: NDArray[np.int64], item: NDArray[np.int64], score: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Of a query of several vectors, each video once."""
    order = np.lexsort((-score, item, query))
    query, item, score = query[order], item[order], score[order]
    new = np.ones(len(query), bool)
    new[1:] = (query[1:] != query[:-1]) | (item[1:] != item[:-1])
    return query[new], item[new], score[new]


def _cut(
    query: NDArray[np.int64], item: NDArray[np.int64], score: NDArray[np.float64], depth: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The first `depth` of each query."""
    order = np.lexsort((item, -score, query))
    place = np.arange(len(order)) - np.searchsorted(query[order], query[order])
    kept = order[place < depth]
    return query[kept], item[kept], score[kept]


def search(index: Index, vectors: NDArray[np.float32], top: int) -> list[list[dict[str, Any]]]:
    """The first `top` videos of each vector [n, dim]: `video_id` and `score`, Milvus's own."""
    return index.collection.search(
        vectors,
        top,
        # It may be one more than was asked for, where one does not count.
        params=wide_enough(index.params, top),
        group_by="video_id" if index.grouped else None,
        fields=["video_id"],
        consistency=_CONSISTENCY,
    )


def _check_made_for(collection: Collection, gallery: Gallery) -> None:
    made, run = collection.made_for(), gallery.run
    where = f"collection {collection.name!r} in {collection.uri}"
    if made["fingerprint"] != run.fingerprint:
        raise RunMismatchError(
            f"{where} holds vectors of {made['encoder']} with fingerprint {made['fingerprint']}, "
            f"{run.uri} has {run.fingerprint}: name the --collection that the run was loaded into"
        )
    if made["metric"] != run.record["metric"]:
        raise RunMismatchError(
            f"{where} compares by {made['metric']}, {run.uri} by {run.record['metric']}: their "
            f"rankings do not compare; load the run into a collection of its own metric"
        )


def _check_rows(collection: Collection, gallery: Gallery) -> None:
    """Candidates must be the same on both sides: key by key, and no others."""
    run, rows = gallery.run, collection.count()
    where = f"collection {collection.name!r} in {collection.uri}"
    lacking = sum(len(_lacking(collection, keys)) for keys in _keys(gallery))
    if lacking:
        raise ConfigError(
            f"{where} lacks {lacking:,} of the {gallery.rows:,} rows of {run.uri}: bring them in "
            f"with vidembed load"
        )
    if rows != gallery.rows:
        raise ConfigError(
            f"{where} has {rows:,} rows, {run.uri} {gallery.rows:,}: rows of others would be "
            f"candidates, too; load the run into a --collection of its own"
        )


def _lacking(collection: Collection, keys: list[str]) -> list[str]:
    found = collection.get(keys, ["id"], consistency=_CONSISTENCY)
    return [key for key, row in zip(keys, found, strict=True) if row is None]


def _keys(gallery: Gallery) -> Iterator[list[str]]:
    for _, table in gallery.run.iterate(["id"]):
        ids = table["id"].to_pylist()
        for at in range(0, len(ids), _KEYS):
            yield ids[at : at + _KEYS]
