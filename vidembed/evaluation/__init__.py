"""How well texts find their videos in a run, and videos their texts: retrieval metrics, exactly.

A job of its own: it reads a run and never changes its vectors.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vidembed import metrics, retrieval, sources
from vidembed.encode import registry
from vidembed.errors import ConfigError
from vidembed.manifest import ID_COLUMNS, Columns, read_table
from vidembed.query import spec_of
from vidembed.rerank import Reranking
from vidembed.store.run import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidembed.config import EvaluateConfig
    from vidembed.rerank import Window

KS = (1, 5, 10)
TEXT_COLUMNS = ("caption", "sentence")
_TOP = 10
_BLOCK = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Retrieval metrics by direction, as evaluation.json has them, and where it is."""

    out: str
    result: dict[str, Any]

    def __getitem__(self, direction: str) -> dict[str, Any]:
        found: dict[str, Any] = self.result[direction]
        return found


def evaluate(config: EvaluateConfig) -> Evaluation:
    """Rank the run's videos for each query text, and the texts for each video.

    Raises ConfigError where queries and run do not fit.
    """
    run = Run.open(config.run)
    if config.rerank is None:
        return _evaluate(config, run, None)
    with Reranking(config.rerank, config.device, run.uri, config.allow_root) as reranking:
        return _evaluate(config, run, reranking)


def _evaluate(config: EvaluateConfig, run: Run, reranking: Reranking | None) -> Evaluation:
    gallery, vectors = _gallery(run)
    texts, wanted, left_out = _queries(config, gallery)
    spec = spec_of(run, config.weights)
    if not spec.context_length:
        raise ConfigError(f"{spec.name} has no text tower: it cannot rank videos for a text")
    encoder = registry.load(spec, config.device, "float32")
    found = encoder.encode_text(texts)
    metric = str(run.record["metric"])
    top = _TOP if reranking is None else max(_TOP, config.rerank_top)
    forward, best = _text_to_video(found, vectors, wanted, metric, top)
    backward = _video_to_text(found, vectors, wanted, metric)
    result: dict[str, Any] = {"text_to_video": _table(forward, len(gallery))}
    rows = _rows(texts, gallery, wanted, forward, best)
    if reranking is not None:
        first = [order[: config.rerank_top] for order, _ in best]
        again = _Again(
            reranking, texts, [(v, w) for v, w in zip(gallery, _windows(run), strict=True)]
        )
        ranks = again.ranks(first, wanted, forward)
        result["text_to_video_reranked"] = _table(ranks, len(gallery)) | {
            "rerank_top": config.rerank_top,
            "not_decoded": again.lost,
            "architecture": reranking.reranker.spec.architecture,
            "weights": reranking.reranker.spec.digest,
        }
        rows = rows.append_column("reranked", pa.array(ranks))
    result |= {
        "video_to_text": _table(backward, len(backward)),
        "left_out": left_out,
        "encoder": spec.name,
        "fingerprint": run.fingerprint,
        "backend": "exact",
    }
    out = config.out or run.path("evaluation")
    out = sources.absolute(out)
    _write(out, result, rows)
    return Evaluation(out=out, result=result)


def _gallery(run: Run) -> tuple[list[str], NDArray[np.float32]]:
    table = run.read(["video_id", "segments", "embedding"])
    if not len(table):
        raise ConfigError(f"{run.uri} has no embeddings to evaluate")
    cut = table.filter(pc.greater(table["segments"], 1))
    if len(cut):
        raise ConfigError(
            f"{run.uri} is cut into segments ({cut['video_id'][0]} has "
            f"{cut['segments'][0]}): an evaluation needs one vector a video"
        )
    return table["video_id"].to_pylist(), retrieval.matrix(table["embedding"])


def _queries(
    config: EvaluateConfig, gallery: list[str]
) -> tuple[list[str], NDArray[np.int64], int]:
    """Texts, for each the position of its video in the gallery, and how many were left out.

    A text is left out where it is empty, or where its video is not in the run.
    """
    table = read_table(config.queries, Columns(id=config.id_column))
    ids = _pick(table, config.queries, config.id_column, ID_COLUMNS, "--id-column")
    texts = _pick(table, config.queries, config.text_column, TEXT_COLUMNS, "--text-column")
    place = {video: i for i, video in enumerate(gallery)}
    pairs = [
        (text, place[str(video)])
        for video, text in zip(ids.to_pylist(), texts.to_pylist(), strict=True)
        if text and str(video) in place
    ]
    if not pairs:
        raise ConfigError(
            f"{config.queries}: none of its {len(table)} ids is in {config.run}; its first is "
            f"{ids[0].as_py() if len(ids) else 'missing'!r}, the run's first is {gallery[0]!r}"
        )
    wanted = np.array([video for _, video in pairs], np.int64)
    return [text for text, _ in pairs], wanted, len(table) - len(pairs)


def _pick(
    table: pa.Table, where: str, named: str | None, usual: tuple[str, ...], flag: str
) -> pa.ChunkedArray:
    for name in (named,) if named else usual:
        if name in table.column_names:
            return table[name]
    raise ConfigError(
        f"{where}: no column {named or ' or '.join(usual)}; it has "
        f"{', '.join(table.column_names)}; name one with {flag}"
    )


def _text_to_video(
    texts: NDArray[np.float32],
    videos: NDArray[np.float32],
    wanted: NDArray[np.int64],
    metric: str,
    top: int = _TOP,
) -> tuple[NDArray[np.float64], list[tuple[list[int], list[float]]]]:
    """Ranks of the wanted videos, and the `top` best videos with their scores for each text."""
    found: list[NDArray[np.float64]] = []
    best: list[tuple[list[int], list[float]]] = []
    for at in range(0, len(texts), _BLOCK):
        scores = retrieval.similarity(texts[at : at + _BLOCK], videos, metric)
        found.append(metrics.ranks(scores, wanted[at : at + _BLOCK]))
        order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
        values = np.take_along_axis(scores, order, axis=1)
        best += list(zip(order.tolist(), values.tolist(), strict=True))
    return np.concatenate(found), best


def _video_to_text(
    texts: NDArray[np.float32], videos: NDArray[np.float32], wanted: NDArray[np.int64], metric: str
) -> NDArray[np.float64]:
    """The rank of each video's own texts among those of all videos that have texts.

    A video's texts count by the nearest of them, its own as its rivals': the rule of CLIP4Clip
    for several captions a video.
    """
    order = np.argsort(wanted, kind="stable")
    asked, first = np.unique(wanted[order], return_index=True)
    found: list[NDArray[np.float64]] = []
    for at in range(0, len(asked), _BLOCK):
        part = asked[at : at + _BLOCK]
        scores = retrieval.similarity(videos[part], texts[order], metric)
        nearest = np.maximum.reduceat(scores, first, axis=1)
        found.append(metrics.ranks(nearest, np.arange(at, at + len(part))))
    return np.concatenate(found)


def _windows(run: Run) -> list[Window]:
    """Where each video of the gallery is, and from when to when it counts."""
    table = run.read(["uri", "start_s", "end_s"])
    return [(row["uri"], row["start_s"], row["end_s"]) for row in table.to_pylist()]


class _Again:
    """Ranks after the first videos of each text have been ranked again.

    Each video goes through the decoder and the image tower once. Its features wait in a file, so
    that memory does not grow with the videos.
    """

    def __init__(
        self, reranking: Reranking, texts: list[str], clips: list[tuple[str, Window]]
    ) -> None:
        self._reranking, self._clips = reranking, clips
        self._words = reranking.reranker.words(texts)
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
                found = self._reranking.features(*self._clips[video])
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


def _table(found: NDArray[np.float64], gallery: int) -> dict[str, Any]:
    return metrics.retrieval(found, gallery, KS) | {"ci95": metrics.bootstrap(found, KS)}


def _rows(
    texts: list[str],
    gallery: list[str],
    wanted: NDArray[np.int64],
    found: NDArray[np.float64],
    best: list[tuple[list[int], list[float]]],
) -> pa.Table:
    return pa.table(
        {
            "query": texts,
            "relevant": [[gallery[v]] for v in wanted],
            "rank": found,
            "top": [[gallery[i] for i in order[:_TOP]] for order, _ in best],
            "scores": pa.array([s[:_TOP] for _, s in best], pa.list_(pa.float32())),
        }
    )


def _write(out: str, result: dict[str, Any], rows: pa.Table) -> None:
    text = json.dumps(result, indent=2) + "\n"
    sources.write_whole(sources.join(out, "evaluation.json"), text.encode())
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    sources.write_whole(sources.join(out, "evaluation.parquet"), sink.getvalue().to_pybytes())
