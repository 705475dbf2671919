"""Evaluations made by hand: a run of drawn videos, random vectors, and what a ranking makes of
them, in the schema of evaluation.json and evaluation.parquet.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tests.helpers.runs import good, write_run
from vidembed import metrics

if TYPE_CHECKING:
    from pathlib import Path

    from vidembed.store.run import Run

KS = (1, 5, 10)
FACTS = {
    "left_out": {"the video is not in the run": 3, "no text": 0},
    "layout": "table",
    "encoder": "clip4clip-tiny",
    "fingerprint": "0123456789abcdef",
    "metric": "COSINE",
    "backend": "exact",
    "ties": "reference",
    "k": list(KS),
    "seconds": 2.5,
}


@dataclass(frozen=True)
class Evaluated:
    run: Run
    result: dict[str, Any]
    rows: pa.Table

    def only(self, direction: str) -> tuple[dict[str, Any], pa.Table]:
        """What an evaluation of this direction alone leaves."""
        keep = [row for row in self.rows.to_pylist() if row["direction"] == direction]
        rows = pa.Table.from_pylist(keep, schema=self.rows.schema)
        return {**FACTS, "run": self.run.uri, direction: self.result[direction]}, rows


def evaluated(folder: Path, manifest: Path, noise: float = 1.5, **changes: Any) -> Evaluated:
    """The drawn videos of a manifest, found through vectors that are right up to some noise.

    changes: by video id, what its row of the run has instead.
    """
    videos = list(csv.DictReader(manifest.open(encoding="utf-8")))
    rng = np.random.default_rng(5)
    truth = rng.normal(size=(len(videos), 8))
    seen = unit(truth + noise * rng.normal(size=truth.shape))
    asked = unit(truth + noise * rng.normal(size=truth.shape))
    rows = []
    for video, vector in zip(videos, seen, strict=True):
        row = good(video["video_id"], vector.tolist())
        row |= {"uri": str(manifest.parent / video["uri"]), "start_s": 0.0, "end_s": 2.0}
        rows.append(row | {"caption": video["caption"]} | changes.get(video["video_id"], {}))
    run = write_run(folder, rows, dim=8)
    ids = [video["video_id"] for video in videos]
    texts = [video["caption"] for video in videos]
    scores = asked @ seen.T
    own = np.eye(len(ids), dtype=bool)
    labels = np.array([video["shape"] for video in videos])
    same = (labels[:, None] == labels[None, :]) & ~own
    forward, t2v = ranked("text_to_video", scores, own, ids, ids, texts)
    backward, v2t = ranked("video_to_text", scores.T, own, ids, ids, ids)
    within = np.where(own, -np.inf, seen @ seen.T)
    among, v2v = ranked("video_to_video", within, same, ids, ids, ids)
    label_of = dict(zip(ids, labels.tolist(), strict=True))
    v2v = [row | {"label": label_of[row["query"]]} for row in v2v]
    result = {
        "text_to_video": forward | by(t2v, [video["color"] for video in videos]),
        "video_to_text": backward,
        "video_to_video": among,
        "run": run.uri,
        **FACTS,
    }
    columns = pa.Table.from_pylist([*t2v, *v2t, *v2v], schema=SCHEMA)
    return Evaluated(run, result, columns)


SCHEMA = pa.schema(
    {
        "direction": pa.string(),
        "query_id": pa.string(),
        "query": pa.string(),
        "relevant": pa.list_(pa.string()),
        "rank": pa.float64(),
        "ties": pa.int64(),
        "top": pa.list_(pa.string()),
        "scores": pa.list_(pa.float32()),
        "average_precision": pa.float64(),
        "label": pa.string(),
    }
)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def ranked(
    direction: str,
    scores: np.ndarray,
    right: np.ndarray,
    query_ids: list[str],
    gallery: list[str],
    queries: list[str],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(table, rows): each row of scores is a query, each column a candidate."""
    rows, ranks = [], []
    for at, row in enumerate(scores):
        if not right[at].any():
            continue
        order = np.argsort(-row, kind="stable")
        hits = right[at][order]
        rank = float(np.flatnonzero(hits)[0] + 1)
        ranks.append(rank)
        rows.append(
            {
                "direction": direction,
                "query_id": query_ids[at],
                "query": queries[at],
                "relevant": [gallery[i] for i in np.flatnonzero(right[at])],
                "rank": rank,
                "ties": 0,
                "top": [gallery[i] for i in order[:10]],
                "scores": row[order[:10]].tolist(),
            }
        )
    found = np.array(ranks)
    table: dict[str, Any] = metrics.retrieval(
        found, np.zeros(len(found), np.int64), gallery=len(gallery), ks=KS
    )
    if direction == "video_to_video":
        table = {"mHR@1": 0.25, "mHR@5": 0.5, "mAP@5": 0.625, "nDCG@5": 0.75, **table}
        del table["MdR"], table["MnR"]
    ci95 = {f"R@{k}": [table[f"R@{k}"] * 0.9, min(1.0, table[f"R@{k}"] * 1.1)] for k in KS}
    return table | {"ci95": ci95}, rows


def by(rows: list[dict[str, Any]], values: list[str]) -> dict[str, Any]:
    """The breakdown of one direction by one value a row."""
    found: dict[str, Any] = {}
    for value in sorted(set(values)):
        ranks = [row["rank"] for row, own in zip(rows, values, strict=True) if own == value]
        table = {f"R@{k}": float(np.mean([r <= k for r in ranks])) for k in KS}
        found[value] = table | {"queries": len(ranks)}
    return {"by": {"color": found}}
