"""Texts' first videos ranked again by a re-ranker, which looks at their frames."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np

from vidembed import metrics
from vidembed.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidembed.config import EvaluateConfig
    from vidembed.evaluation.directions import Texts
    from vidembed.evaluation.ranking import Ranking
    from vidembed.rerank import Reranking, Window
    from vidembed.store.run import Run


def check(run: Run, texts: Texts) -> None:
    """Raise ConfigError where a video is more than one vector."""
    if texts.gallery.rows > texts.gallery.videos:
        raise ConfigError(
            f"--rerank scores whole videos, and {run.uri} is cut into segments: embed the videos "
            f"without --segment-seconds, or leave --rerank out"
        )


def rank_again(
    config: EvaluateConfig, reranking: Reranking, texts: Texts, ranking: Ranking
) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Each text's new rank, float64 [texts], and the metrics of these."""
    again = _Again(reranking, texts)
    first = [row[row >= 0].tolist() for row in ranking.top[:, : config.rerank_top]]
    ranks = again.ranks(first, texts.wanted, ranking.rank + ranking.ties / 2.0)
    ties = np.zeros(len(ranks), np.int64)
    terms = metrics.retrieval_terms(ranks, ties, ks=config.k, rule="middle")
    table = metrics.retrieval(ranks, ties, gallery=texts.gallery.videos, ks=config.k, rule="middle")
    return ranks, table | {
        "ci95": metrics.bootstrap(terms),
        "rerank_top": config.rerank_top,
        "not_decoded": again.lost,
        "architecture": reranking.reranker.spec.architecture,
        "weights": reranking.reranker.spec.digest,
    }


class _Again:
    """Ranks after the first videos of each text have been ranked again.

    Each video goes through the decoder and the image tower once. Its features wait in a file, so
    that memory does not grow with the videos.
    """

    def __init__(self, reranking: Reranking, texts: Texts) -> None:
        self._reranking = reranking
        self._words = reranking.reranker.words(texts.table["text"].to_pylist())
        self._names = texts.gallery.ids
        self._windows = _windows(texts)
        self.lost = 0

    def ranks(
        self, first: list[list[int]], wanted: NDArray[np.int64], before: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The rank of each text's wanted video; `before` is its rank in the run."""
        videos = sorted({video for order in first for video in order})
        frames, dim = self._reranking.shape
        with tempfile.TemporaryFile() as file:
            shape = (len(videos), frames, dim)
            features: NDArray[np.float32] = np.memmap(file, np.float32, "w+", shape=shape)
            masks = np.zeros((len(videos), frames), np.bool_)
            place = {}
            for row, video in enumerate(videos):
                name = self._names[video].as_py()
                found = self._reranking.features(name, self._windows[video])
                if found is not None:
                    features[row], masks[row] = found
                    place[video] = row
            self.lost = len(videos) - len(place)
            ranks = [
                self._rank(k, order, int(wanted[k]), before[k], (place, features, masks))
                for k, order in enumerate(first)
            ]
        return np.array(ranks, np.float64)

    def _rank(
        self,
        text: int,
        order: list[int],
        own: int,
        before: float,
        there: tuple[dict[int, int], NDArray[np.float32], NDArray[np.bool_]],
    ) -> float:
        place, features, masks = there
        scored = [video for video in order if video in place]
        if own not in order:
            # A tie at the end of the first ones must not put it among them.
            return max(before, len(order) + 1.0)
        if own not in place:
            rest = [video for video in order if video not in place]
            return len(scored) + rest.index(own) + 1.0
        rows = [place[video] for video in scored]
        words = self._words[text : text + 1]
        scores = self._reranking.reranker.score_features(words, features[rows], masks[rows])
        return float(metrics.ranks(scores, np.array([scored.index(own)]))[0])


def _windows(texts: Texts) -> list[Window]:
    """Where each video of the gallery is, and from when to when it counts."""
    gallery = texts.gallery
    table = gallery.run.read(["uri", "start_s", "end_s"])
    lengths = [len(rows) for _, rows in gallery.run.iterate(["video_id"])]
    begins = np.concatenate([[0], np.cumsum(lengths)])
    rows = begins[gallery.part] + gallery.row
    return [(row["uri"], row["start_s"], row["end_s"]) for row in table.take(rows).to_pylist()]
