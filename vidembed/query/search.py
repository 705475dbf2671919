"""The command's job: one query, against a run or a collection, or texts for one video."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vidembed.encode import registry
from vidembed.query.encoding import QueryEncoder
from vidembed.query.index import Index, open_collection, open_run
from vidembed.query.ranking import ranked
from vidembed.query.texts import read_texts
from vidembed.rerank import Reranking

if TYPE_CHECKING:
    from vidembed.config import SearchConfig
    from vidembed.query.hits import Hit, TextHit


def search(config: SearchConfig) -> list[Hit]:
    """Answer one query. Raises ConfigError, WeightsError, RunMismatchError."""
    if config.rerank is None:
        return _first(config, config.top)
    # Before the search: weights that do not fit must not cost one.
    place = config.run or config.milvus or ""
    with Reranking(config.rerank, config.device, place, config.allow_root) as reranking:
        hits = _first(config, max(config.top, config.rerank_top))
        return _reranked(reranking, config.text or "", hits)[: config.top]


def rank_texts(config: SearchConfig) -> list[TextHit]:
    """The first `top` of the texts of --texts, for the video of --video or --id.

    Raises ConfigError, ManifestError, WeightsError or RunMismatchError.
    """
    texts = read_texts(config.texts or "", config.text_column)
    if config.is_one:
        with _opened(config) as index:
            return index.rank_texts(texts, video=config.video, id=config.id, top=config.top)
    encoder = QueryEncoder(registry.describe(config.encoder or "", config.weights), config.device)
    # What has no text tower is refused before a video is decoded.
    vectors = encoder.texts(texts)
    video = encoder.video(config.video or "")
    return ranked(texts, vectors, video, encoder.spec.metric)[: config.top]


def _reranked(reranking: Reranking, text: str, hits: list[Hit]) -> list[Hit]:
    """The same hits, best first by the re-ranker; those that cannot be decoded come last."""
    clips = [(hit.id, (hit.uri, hit.start_s, hit.end_s)) for hit in hits]
    scores = reranking.scores(text, clips)
    scored = [
        replace(hit, score=round(score, 6), first_score=hit.score)
        for hit, score in zip(hits, scores, strict=True)
        if score is not None
    ]
    rest = [hit for hit, score in zip(hits, scores, strict=True) if score is None]
    return [*sorted(scored, key=lambda hit: -hit.score), *rest]


def _first(config: SearchConfig, top: int) -> list[Hit]:
    """The `top` rows whose vectors are nearest."""
    with _opened(config) as index:
        return index.search(
            config.text,
            video=config.video,
            id=config.id,
            top=top,
            filter=config.filter,
            group_by=config.group_by,
            search_params=config.search_params,
        )


def _opened(config: SearchConfig) -> Index:
    if config.run is not None:
        # One query: what was read is not needed again.
        return open_run(
            config.run,
            encoder=config.encoder,
            weights=config.weights,
            device=config.device,
            memory=0,
        )
    assert config.milvus is not None
    return open_collection(
        config.milvus,
        config.collection,
        encoder=config.encoder,
        weights=config.weights,
        device=config.device,
    )
