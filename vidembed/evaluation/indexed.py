"""What the index of a Milvus collection finds of what there is, and what that costs.

ANN recall is the share of the exact first k that the index gives back among its own first k.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vidembed.errors import ConfigError
from vidembed.evaluation.index_ranking import Index, rank, search
from vidembed.store.milvus_index import check_params

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vidembed.evaluation.ranking import Ranking
    from vidembed.evaluation.scan import Asked

__all__ = ["Index", "Latency", "Point", "ann_recall", "latency", "measure", "parse_sweep", "rank",
           "sweep"]  # fmt: skip

_WARM_UP, _MOST_TIMED, _TIMED_S = 10, 1000, 60.0
# Milvus computes in float32, the exact ranking in float64.
_TOLERANCE = 1e-5
_NOT_SWEPT = "--sweep: expected a search parameter and its values, as ef=16,32,64,128; got {!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Of requests of one query each, one after the other, seen from here; milliseconds."""

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float

    def plain(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in ("mean", "p50", "p90", "p95", "p99")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One setting of an index: what it finds and what it costs. ann_recall: by k, those that the
    setting can answer; depth: how many videos each query was answered with.
    """

    params: dict[str, int]
    ranking: Ranking
    depth: int
    ann_recall: dict[int, float]
    latency: Latency
    queries_per_s: float

    def plain(self) -> dict[str, Any]:
        """As evaluation.json has it, without metrics."""
        return {
            "depth": self.depth,
            "ann_recall": {f"@{k}": round(value, 6) for k, value in self.ann_recall.items()},
            "latency_ms": {k: round(v, 3) for k, v in self.latency.plain().items()},
            "queries_per_s": round(self.queries_per_s, 1),
        }


def measure(
    index: Index, asked: Asked, code: NDArray[np.int64], exact: Ranking, ks: Sequence[int]
) -> Point:
    """`rank` with its ANN recall and its cost. exact: of the same queries, with max(ks) first ones
    or the whole gallery.
    """
    top = max(ks)
    depth = index.depth(asked.side.items, top)
    began = time.perf_counter()
    ranking = rank(index, asked, code, top)
    seconds = time.perf_counter() - began
    answerable = [k for k in ks if k <= depth or depth == index.gallery.videos]
    return Point(
        params=dict(index.params),
        ranking=ranking,
        depth=depth,
        ann_recall={k: ann_recall(ranking, exact, k) for k in answerable},
        latency=latency(index, asked.side.vectors, min(top, depth)),
        queries_per_s=asked.side.items / seconds,
    )


def sweep(
    index: Index,
    asked: Asked,
    code: NDArray[np.int64],
    exact: Ranking,
    ks: Sequence[int],
    values: str,
) -> list[Point]:
    """`measure` for each value of a search parameter. values: as `ef=16,32,64,128`. Raises
    ConfigError where this is no such list, or the index has no such parameter.
    """
    settings = [index.with_params(params) for params in parse_sweep(values)]
    for each in settings:
        check_params(each.params, index.facts.kind, 1)
    return [measure(each, asked, code, exact, ks) for each in settings]


def parse_sweep(values: str) -> list[dict[str, int]]:
    """`ef=16,32` as one set of parameters a value. Raises ConfigError."""
    name, _, listed = values.partition("=")
    name = name.strip()
    try:
        found = [int(value) for value in listed.split(",")]
    except ValueError:
        raise ConfigError(_NOT_SWEPT.format(values)) from None
    if not name.isidentifier():
        raise ConfigError(_NOT_SWEPT.format(values))
    return [{name: value} for value in dict.fromkeys(found)]


def ann_recall(found: Ranking, exact: Ranking, k: int) -> float:
    """The mean over the queries of the share of the exact first k that was found among the first k.

    What was found counts by its score: it must reach that of the exact k-th, so that it does not
    matter which of equal ones came back.
    """
    there = exact.top[:, :k] >= 0
    wanted = there.sum(axis=1)
    asked = wanted > 0
    last = exact.scores[np.arange(len(wanted)), np.maximum(wanted, 1) - 1].astype(np.float64)
    bound = last - _TOLERANCE * np.maximum(1.0, np.abs(last))
    good = (found.top[:, :k] >= 0) & (found.scores[:, :k] >= bound[:, None])
    share = np.minimum(good.sum(axis=1), wanted)[asked] / wanted[asked]
    return float(share.mean()) if len(share) else 1.0


def latency(index: Index, vectors: NDArray[np.float32], top: int) -> Latency:
    """Of up to 1,000 of these queries, spread over all, after some that warm up; for a minute at
    most. vectors: float32 [queries, dim].
    """
    chosen = vectors[np.linspace(0, len(vectors) - 1, min(len(vectors), _MOST_TIMED)).astype(int)]
    for vector in chosen[:_WARM_UP]:
        search(index, vector[None], top)
    taken: list[float] = []
    began = time.perf_counter()
    for vector in chosen:
        before = time.perf_counter()
        search(index, vector[None], top)
        now = time.perf_counter()
        taken.append(1000 * (now - before))
        if now - began > _TIMED_S:
            break
    p50, p90, p95, p99 = (float(p) for p in np.percentile(taken, [50, 90, 95, 99]))
    return Latency(mean=float(np.mean(taken)), p50=p50, p90=p90, p95=p95, p99=p99)
