"""What an evaluation found, as tables, and how it is written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vidembed import metrics, sources
from vidembed.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from vidembed.config import EvaluateConfig
    from vidembed.evaluation.ranking import Ranking

SHOWN = 10
"""Of a query's results, how many evaluation.parquet names."""
_RELEVANT = 1000
_VALUES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Retrieval metrics by direction, as evaluation.json has them, and where it is."""

    out: str
    result: dict[str, Any]

    def __getitem__(self, direction: str) -> dict[str, Any]:
        found: dict[str, Any] = self.result[direction]
        return found


def one_answer(
    config: EvaluateConfig, ranking: Ranking, gallery: int, *, several: bool = False
) -> dict[str, Any]:
    """Metrics of queries with one answer each, with intervals. several: see `metrics.retrieval`."""
    rank, ties = ranking.rank, ranking.ties
    terms = metrics.retrieval_terms(rank, ties, ks=config.k, rule=config.ties, several=several)
    table = metrics.retrieval(
        rank, ties, gallery=gallery, ks=config.k, rule=config.ties, several=several
    )
    return table | {"ci95": metrics.bootstrap(terms)}


def many_answers(config: EvaluateConfig, found: metrics.Labelled) -> dict[str, Any]:
    """Metrics of queries with many answers each, with intervals."""
    terms = metrics.labelled_terms(found, config.k)
    return metrics.labelled(found, config.k) | {"ci95": metrics.bootstrap(terms)}


def check_breakdowns(config: EvaluateConfig, *tables: pa.Table | None) -> None:
    """Raise ConfigError for a column of too many values to break anything down by."""
    for table in tables:
        if table is None:
            continue
        for name in config.by:
            count = pc.count_distinct(table[name], mode="all").as_py()
            if count > _VALUES:
                raise ConfigError(
                    f"--by {name}: it has {count:,} values; a breakdown can have {_VALUES:,}"
                )


def breakdowns(
    names: Sequence[str],
    table: pa.Table,
    measure: Callable[[NDArray[np.int64]], dict[str, Any]],
) -> dict[str, Any]:
    """{"by": {column: {value: metrics}}}, of most queries first; nothing without columns.

    measure: the metrics of some queries, given by their rows in `table`.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        values = pc.fill_null(table[name].cast(pa.string()), "none").combine_chunks()
        coded = values.dictionary_encode()
        codes, words = coded.indices.to_numpy(), coded.dictionary.to_pylist()
        counts = np.bincount(codes, minlength=len(words))
        order = sorted(range(len(words)), key=lambda code: (-counts[code], words[code]))
        found[name] = {}
        for code in order:
            table_of_value = measure(np.flatnonzero(codes == code))
            table_of_value.pop("gallery", None)
            found[name][words[code]] = table_of_value
    return {"by": found} if found else {}


def rows(
    direction: str,
    queries: dict[str, Any],
    ranking: Ranking,
    relevant: pa.Array,
    ids: pa.Array,
) -> pa.Table:
    """Rows of evaluation.parquet. queries: columns query_id and query, and further ones; ids: the
    names of what `ranking.top` counts.
    """
    top = ranking.top[:, :SHOWN]
    count = len(top)
    return pa.table(
        {
            "direction": pa.array([direction] * count, pa.string()),
            "query_id": queries["query_id"],
            "query": queries["query"],
            "relevant": relevant,
            "rank": pa.array(ranking.rank, mask=np.isinf(ranking.rank)),
            "ties": ranking.ties,
            "top": lists(top, ids),
            "scores": _scores(ranking.scores[:, :SHOWN], top),
        }
        | {name: values for name, values in queries.items() if name not in ("query_id", "query")}
    )


def by_columns(config: EvaluateConfig, table: pa.Table) -> dict[str, Any]:
    """The columns that metrics are broken down by, as text; one that has a name of ours gets
    another.
    """
    ours = {
        "direction", "query_id", "query", "relevant", "rank", "ties", "top", "scores", "reranked",
        "hit_ratio", "average_precision", "ndcg",
    }  # fmt: skip
    return {
        f"by_{name}" if name in ours else name: table[name].cast(pa.string()).combine_chunks()
        for name in config.by
    }


def lists(positions: NDArray[np.int64], ids: pa.Array) -> pa.Array:
    """Names of positions [queries, places], without those of -1."""
    there = positions >= 0
    names = ids.take(pa.array(positions[there]))
    return pa.ListArray.from_arrays(_offsets(there.sum(axis=1)), names)


def _scores(scores: NDArray[np.float32], positions: NDArray[np.int64]) -> pa.Array:
    there = positions >= 0
    return pa.ListArray.from_arrays(_offsets(there.sum(axis=1)), pa.array(scores[there]))


def _offsets(counts: NDArray[np.int64]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())


def answers(
    top: NDArray[np.int64],
    code: NDArray[np.int64],
    of_gallery: NDArray[np.int64],
    hidden: NDArray[np.int64],
    ids: pa.Array,
) -> pa.Array:
    """The right answers of each query: those among the first, then others up to a thousand.

    code: int64 [queries], of_gallery: int64 [gallery]: of one code are answers; hidden: int64
    [queries], what does not count.
    """
    order = np.argsort(of_gallery, kind="stable")
    codes = of_gallery[order]
    begin = np.searchsorted(codes, code, side="left")
    end = np.searchsorted(codes, code, side="right")
    found: list[NDArray[np.int64]] = []
    for k in range(len(code)):
        first = top[k, top[k] >= 0]
        first = first[of_gallery[first] == code[k]]
        rest = order[begin[k] : min(end[k], begin[k] + _RELEVANT)]
        rest = rest[~np.isin(rest, first) & (rest != hidden[k])]
        found.append(np.concatenate([first, rest])[:_RELEVANT])
    sizes = np.array([len(each) for each in found], np.int64)
    return pa.ListArray.from_arrays(_offsets(sizes), ids.take(pa.array(np.concatenate(found))))


def write(out: str, result: dict[str, Any], table: pa.Table) -> None:
    """evaluation.parquet, then evaluation.json: where that is, all of an evaluation is."""
    for name in ("evaluation.html", "evaluation.json"):
        sources.remove(sources.join(out, name))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    sources.write_whole(sources.join(out, "evaluation.parquet"), sink.getvalue().to_pybytes())
    text = json.dumps(result, indent=2) + "\n"
    sources.write_whole(sources.join(out, "evaluation.json"), text.encode())
