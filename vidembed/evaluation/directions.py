"""The questions of each direction, and what a ranking says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidembed import metrics
from vidembed.errors import RunMismatchError
from vidembed.evaluation import exact, results
from vidembed.evaluation.gallery import Gallery, Side
from vidembed.evaluation.ranking import Ranking
from vidembed.evaluation.scan import Asked
from vidembed.store.run import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidembed.config import EvaluateConfig
    from vidembed.evaluation.queries import Queries
    from vidembed.evaluation.workers import Workers


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """Texts and the videos that they describe.

    table: as `Queries` has it. vectors: float32 [texts, dim]. wanted: int64 [texts], each one's
    video as a position in the gallery.
    """

    table: pa.Table
    vectors: NDArray[np.float32]
    wanted: NDArray[np.int64]
    gallery: Gallery

    @property
    def several(self) -> bool:
        """Whether some video has several texts."""
        return len(np.unique(self.wanted)) < len(self.wanted)

    @property
    def asked(self) -> Asked:
        hidden = np.full(len(self.wanted), -1, np.int64)
        return Asked(Side.single(self.vectors), self.wanted, hidden)

    def rank(self, top: int, workers: Workers) -> Ranking:
        """The videos for each text; every video has a code of its own."""
        return exact.rank(self.asked, self.gallery, np.arange(self.gallery.videos), top, workers)

    def measured(self, config: EvaluateConfig, ranking: Ranking) -> dict[str, Any]:
        """The metrics of text to video."""

        def measure(some: NDArray[np.int64]) -> dict[str, Any]:
            return metrics.retrieval(
                ranking.rank[some],
                ranking.ties[some],
                gallery=self.gallery.videos,
                ks=config.k,
                rule=config.ties,
                several=self.several,
            )

        table = results.one_answer(config, ranking, self.gallery.videos, several=self.several)
        return table | results.breakdowns(config.by, self.table, measure)

    def rows(self, config: EvaluateConfig, ranking: Ranking) -> pa.Table:
        relevant = results.lists(self.wanted[:, None], self.gallery.ids)
        queries = {"query_id": self.table["query_id"], "query": self.table["text"]}
        queries |= results.by_columns(config, self.table)
        return results.rows("text_to_video", queries, ranking, relevant, self.gallery.ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """Videos that have texts, as queries: video to text. videos: these; order: int64 [texts], the
    rows of `texts`, video by video; starts: int64 [videos + 1], where each video's begin.
    """

    texts: Texts
    videos: Gallery
    order: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Texts) -> Described:
        order = np.argsort(texts.wanted, kind="stable")
        videos, starts = np.unique(texts.wanted[order], return_index=True)
        return cls(
            texts=texts,
            videos=texts.gallery.only(videos),
            order=order,
            starts=np.append(starts, len(order)).astype(np.int64),
        )

    def rank(self, top: int, workers: Workers) -> tuple[Ranking, NDArray[np.int64]]:
        """See `exact.rank_texts`."""
        side = Side(self.texts.vectors[self.order], self.starts)
        return exact.rank_texts(self.videos, side, top, workers)

    def measured(self, config: EvaluateConfig, ranking: Ranking) -> dict[str, Any]:
        def measure(some: NDArray[np.int64]) -> dict[str, Any]:
            return metrics.retrieval(
                ranking.rank[some],
                ranking.ties[some],
                gallery=self.videos.videos,
                ks=config.k,
                rule=config.ties,
            )

        table = results.one_answer(config, ranking, self.videos.videos)
        return table | results.breakdowns(config.by, self._first(), measure)

    def rows(
        self, config: EvaluateConfig, ranking: Ranking, nearest: NDArray[np.int64]
    ) -> pa.Table:
        """`relevant` and `top` name texts, by their `query_id`."""
        names = self.texts.table["query_id"].combine_chunks().take(pa.array(self.order))
        relevant = pa.ListArray.from_arrays(pa.array(self.starts, pa.int32()), names)
        queries = {"query_id": self.videos.ids, "query": self.videos.ids}
        queries |= results.by_columns(config, self._first())
        found = Ranking(rank=ranking.rank, ties=ranking.ties, top=nearest, scores=ranking.scores)
        return results.rows("video_to_text", queries, found, relevant, names)

    def _first(self) -> pa.Table:
        """Of each video the row of its first text."""
        return self.texts.table.take(pa.array(self.order[self.starts[:-1]]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Videos that look for others of their label.

    table: as `Queries` has it, less those without an answer. gallery: the videos that may be found,
    all with labels. code: int64 [gallery], a number for each label. asked: the queries' vectors,
    labels and, where they are in the gallery, themselves. relevant: int64 [queries], how many
    answers each has.
    """

    table: pa.Table
    gallery: Gallery
    code: NDArray[np.int64]
    asked: Asked
    relevant: NDArray[np.int64]
    alone: int

    @classmethod
    def of(cls, config: EvaluateConfig, queries: Queries, gallery: Gallery) -> Labels:
        """Raises ConfigError where --query-run is no run, RunMismatchError where its vectors are
        another encoder's.
        """
        assert queries.labels is not None
        assert queries.gallery_labels is not None
        known = queries.gallery_labels
        at = places(known["video_id"], gallery.ids)
        order = np.argsort(at)
        found = gallery.only(at[order])
        coded = known["label"].combine_chunks().dictionary_encode()
        code = coded.indices.to_numpy().astype(np.int64)[order]
        table = queries.labels
        own = places(table["label"], coded.dictionary)
        hidden = places(table["video_id"], found.ids)
        counts = np.bincount(code, minlength=len(coded.dictionary))
        relevant = counts[own] - (code[hidden] == own) * (hidden >= 0)
        keep = np.flatnonzero(relevant > 0)
        table = table.take(pa.array(keep))
        source = _query_gallery(config, gallery)
        vectors = source.only(places(table["video_id"], source.ids)).read()
        return cls(
            table=table,
            gallery=found,
            code=code,
            asked=Asked(vectors, own[keep], hidden[keep]),
            relevant=relevant[keep],
            alone=int((relevant < 1).sum()),
        )

    def rank(self, top: int, workers: Workers) -> Ranking:
        return exact.rank(self.asked, self.gallery, self.code, top, workers)

    def measured(self, config: EvaluateConfig, ranking: Ranking) -> dict[str, Any]:
        found = self.found(ranking)

        def measure(some: NDArray[np.int64]) -> dict[str, Any]:
            part = metrics.Labelled(
                hits=found.hits[some],
                relevant=found.relevant[some],
                rank=found.rank[some],
                ties=found.ties[some],
                gallery=found.gallery,
            )
            return metrics.labelled(part, config.k)

        table = results.many_answers(config, found)
        return table | results.breakdowns(config.by, self.table, measure)

    def found(self, ranking: Ranking) -> metrics.Labelled:
        hits = self.code[ranking.top] == self.asked.code[:, None]
        return metrics.Labelled(
            hits=hits & (ranking.top >= 0),
            relevant=self.relevant,
            rank=ranking.rank,
            ties=ranking.ties,
            gallery=self.gallery.videos - bool((self.asked.hidden >= 0).any()),
        )

    def rows(self, config: EvaluateConfig, ranking: Ranking) -> pa.Table:
        found, k = self.found(ranking), max(config.k)
        ids, shown = self.gallery.ids, ranking.top[:, : results.SHOWN]
        relevant = results.answers(shown, self.asked.code, self.code, self.asked.hidden, ids)
        queries: dict[str, Any] = {
            "query_id": self.table["video_id"],
            "query": self.table["video_id"],
            "label": self.table["label"],
            "hit_ratio": metrics.hit_ratio(found, k),
            "average_precision": metrics.average_precision(found, k),
            "ndcg": metrics.ndcg(found, k),
        }
        queries |= results.by_columns(config, self.table)
        return results.rows("video_to_video", queries, ranking, relevant, ids)


def _query_gallery(config: EvaluateConfig, gallery: Gallery) -> Gallery:
    if config.query_run is None:
        return gallery
    run = Run.open(config.query_run)
    if run.fingerprint != gallery.run.fingerprint:
        raise RunMismatchError(
            f"--query-run {run.uri} holds vectors of {run.identity['encoder']} with fingerprint "
            f"{run.fingerprint}, {gallery.run.uri} of {gallery.run.identity['encoder']} with "
            f"{gallery.run.fingerprint}: they do not compare"
        )
    return gallery if run.uri == gallery.run.uri else Gallery.of(run)


def places(names: Any, among: pa.Array) -> NDArray[np.int64]:
    """Positions int64 of names, -1 where there is none."""
    found = pc.fill_null(pc.index_in(names, value_set=among), -1)
    positions: NDArray[np.int64] = found.to_numpy().astype(np.int64)
    return positions
