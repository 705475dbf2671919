"""Whether captions find their videos in a new version as well as they do in the live one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from vidembed.config import EvaluateConfig
from vidembed.config.evaluate import QueryOptions
from vidembed.errors import ConfigError
from vidembed.evaluation import queries
from vidembed.query.encoding import QueryEncoder, spec_of_collection
from vidembed.store.milvus import Collection

if TYPE_CHECKING:
    from vidembed.config import ReindexConfig
    from vidembed.store.run import Run

K = 10
# Texts that are encoded and searched at once.
_AT_ONCE = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """R@10 of text to video with the new version, and with the live one, if there is one."""

    now: float
    before: float | None
    queries: int


class Captions:
    """Texts, and for each the video that it should find among the first ten."""

    def __init__(self, options: ReindexConfig, run: Run) -> None:
        """Those of --gate-queries whose videos the run has. Raises ConfigError where there are
        none.
        """
        source = options.gate_queries
        read = {name: getattr(options, name) for name in (*QueryOptions.model_fields, "id_column")}
        config = EvaluateConfig.make(
            {"run": run.uri, "queries": source, "directions": "text_to_video", **read}
        )
        ids = [table["video_id"] for _, table in run.iterate(["video_id"])]
        gallery = pc.unique(pa.chunked_array([c for column in ids for c in column.chunks]))
        texts = queries.read(config, run, gallery).texts
        if texts is None:
            raise ConfigError(f"--gate-queries {source}: no texts")
        self._texts: list[str] = texts["text"].to_pylist()
        self._videos: list[str] = texts["video_id"].to_pylist()

    def gate(self, uri: str, before: str | None, now: str, weights: str | None) -> Gate:
        """R@10 through the indexes of two versions, each with its own encoder.

        weights: of the new one's encoder, where they are not where the runs had them.
        """
        found = self._recall(uri, now, weights)
        live = None if before is None else self._recall(uri, before, None)
        return Gate(now=found, before=live, queries=len(self._texts))

    def _recall(self, uri: str, version: str, weights: str | None) -> float:
        collection = Collection(uri, version)
        try:
            spec = spec_of_collection(version, collection.made_for(), weights)
            if not spec.context_length:
                raise ConfigError(
                    f"--gate-queries: {spec.name}, of {version}, has no text tower and finds "
                    f"nothing by captions"
                )
            encoder = QueryEncoder(spec)
            found = 0
            for at in range(0, len(self._texts), _AT_ONCE):
                vectors = encoder.texts(self._texts[at : at + _AT_ONCE])
                answers = collection.search(vectors, K, group_by="video_id", fields=["video_id"])
                found += sum(
                    any(hit["video_id"] == video for hit in hits)
                    for hits, video in zip(answers, self._videos[at:], strict=False)
                )
            return found / len(self._texts)
        finally:
            collection.close()
