"""One query against a run or a collection: the nearest videos, best first."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from vidembed import retrieval
from vidembed.clips import ClipSpec
from vidembed.decode.limits import Limits
from vidembed.decode.worker import DecodeWorker
from vidembed.encode import registry
from vidembed.errors import ClipError, ConfigError, RunMismatchError
from vidembed.rerank import Reranking, read_clip
from vidembed.store.milvus import Collection
from vidembed.store.run import Run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vidembed.config import SearchConfig
    from vidembed.encode.spec import Encoder, EncoderSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One row of an answer. score: higher is nearer (cosine, dot product, minus squared distance
    on a run; the collection's own measure on Milvus). Where it is the re-ranker's, first_score is
    the one of the search.
    """

    id: str
    video_id: str
    score: float
    uri: str
    start_s: float
    end_s: float
    metadata: dict[str, Any]
    first_score: float | None = None

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def search(config: SearchConfig) -> list[Hit]:
    """Answer one query. Raises ConfigError, WeightsError, RunMismatchError, or ClipError where the
    query video cannot be decoded.
    """
    if config.rerank is None:
        return _first(config, config.top)
    # Before the search: weights that do not fit must not cost one.
    place = config.run or config.milvus or ""
    with Reranking(config.rerank, config.device, place, config.allow_root) as reranking:
        hits = _first(config, max(config.top, config.rerank_top))
        return _reranked(reranking, config.text or "", hits)[: config.top]


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
    if config.run is not None:
        run = Run.open(config.run)
        if config.encoder not in (None, run.identity["encoder"]):
            raise RunMismatchError(
                f"{run.uri} was embedded with {run.identity['encoder']}, not {config.encoder}"
            )
        query = _query(config, spec_of(run, config.weights))
        rows = retrieval.nearest(run, query, top)
    else:
        rows = _search_collection(config, top)
    return [_hit(row) for row in rows]


def spec_of(run: Run, weights: str | None = None) -> EncoderSpec:
    """The encoder that a run was made with, found again and compared.

    Raises RunMismatchError where the weights are not the run's.
    """
    identity = run.identity
    name, own = str(identity["encoder"]), str(run.record.get("weights") or "")
    shipped = registry.entry(name).shipped
    spec = registry.describe(name, None if shipped else (weights or own))
    if spec.digest != identity["weights"]:
        raise RunMismatchError(
            f"{run.uri} was embedded with other weights than {spec.weights or name} (digest "
            f"{str(identity['weights'])[:16]}, found {spec.digest[:16]}): name those with --weights"
        )
    return spec.prepared(ClipSpec.parse(identity["clip"]))


def _search_collection(config: SearchConfig, top: int) -> list[dict[str, Any]]:
    assert config.milvus is not None
    collection = Collection(config.milvus, config.collection)
    try:
        made = collection.made_for()
        name = config.encoder or made["encoder"]
        shipped = registry.entry(name).shipped
        spec = registry.describe(name, None if shipped else (config.weights or made["weights"]))
        spec = spec.prepared(ClipSpec.parse(json.loads(made["clip"])))
        if spec.fingerprint != made["fingerprint"]:
            raise RunMismatchError(
                f"collection {config.collection!r} holds vectors of {made['encoder']} with "
                f"fingerprint {made['fingerprint']}; {name} as found here has {spec.fingerprint}: "
                f"a search would compare what does not compare. Name its --encoder and --weights"
            )
        return collection.search(_query(config, spec)[None], top)[0]
    finally:
        collection.close()


def _query(config: SearchConfig, spec: EncoderSpec) -> NDArray[np.float32]:
    """The query's vector, float32 [dim]."""
    if config.text is not None and not spec.context_length:
        raise ConfigError(f"{spec.name} has no text tower: search with --video FILE")
    encoder = registry.load(spec, config.device, "float32")
    if config.text is not None:
        found: NDArray[np.float32] = encoder.encode_text([config.text])[0]
        return found
    assert config.video is not None
    return encode_video_file(encoder, config.video)


def encode_video_file(encoder: Encoder, uri: str) -> NDArray[np.float32]:
    """The vector, float32 [dim], of a whole video, decoded as the job does: in a child process."""
    worker = DecodeWorker(Limits(seconds=300))
    try:
        frames, valid = read_clip(worker, encoder.spec.clip, (uri, None, None))
        masked = encoder.spec.clip.sampling.pad == "mask"
        found: NDArray[np.float32] = encoder.encode_video(
            frames[None], [valid] if masked else None
        )[0]
        return found
    except ClipError as error:
        raise ConfigError(f"--video {error}") from error
    finally:
        worker.close()


def _hit(row: dict[str, Any]) -> Hit:
    return Hit(
        id=row["id"],
        video_id=row["video_id"],
        score=round(row["score"], 6),
        uri=row["uri"],
        start_s=row["start_s"],
        end_s=row["end_s"],
        metadata=retrieval.metadata(row),
    )
