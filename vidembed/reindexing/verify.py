"""Whether a new version answers as the runs would, before any reader sees it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from vidembed import retrieval
from vidembed.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from vidembed.store.milvus import Collection
    from vidembed.store.run import Run

K = 10
_POLL_S = 1.0
_SAY_S = 10.0


def wait_for_index(
    collection: Collection, patience_s: float, say: Callable[[str], None], *, unread: bool
) -> None:
    """Have what was written sealed, and wait until all of it is indexed.

    A search before that compares with every vector of the growing segments: right, and slow.
    unread: nobody searches it yet: it is loaded anew, so that the next search is by its index.
    Raises RunError where nothing moves for patience_s.
    """
    ask, client, name = collection.asking, collection.asking.client, collection.name
    if not collection.is_lite:
        # Flushing waits for the data nodes: longer than an ordinary call.
        ask(lambda: client.flush(name, timeout=max(60.0, patience_s)))
    _until_indexed(collection, patience_s, say)
    if unread and not collection.is_lite:
        ask(lambda: client.release_collection(name, timeout=60.0))
        ask(lambda: client.load_collection(name, timeout=max(60.0, patience_s)))


def _until_indexed(collection: Collection, patience_s: float, say: Callable[[str], None]) -> None:
    ask, client, name = collection.asking, collection.asking.client, collection.name
    least, since, said = None, time.monotonic(), time.monotonic()
    while True:
        facts = ask(lambda: client.describe_index(name, "embedding", timeout=30.0))
        pending = int(facts.get("pending_index_rows") or 0)
        if str(facts.get("state", "Finished")) == "Failed":
            raise RunError(f"Milvus could not build the index of {name}: {facts}")
        if not pending:
            return
        now = time.monotonic()
        if least is None or pending < least:
            least, since = pending, now
        elif now - since > patience_s:
            raise RunError(
                f"the index of {name} stands still with {pending:,} rows to go: repeat the call, "
                f"or wait longer with --milvus-patience"
            )
        if now - said > _SAY_S:
            said = now
            say(f"{pending:,} rows to be indexed")
        time.sleep(_POLL_S)


def recall(run: Run, collection: Collection, metric: str, sample: int, seed: int = 0) -> float:
    """Recall@10 of the index: of the ten rows nearest to vectors of the run, how many it gives.

    sample: how many vectors are tried, drawn from all. What scores the same as the tenth counts as
    well as the tenth. The vectors are read twice, one part at a time.
    """
    queries = _drawn(run, sample, seed)
    k, tenth = _exact(run, queries, metric)
    answers = collection.search(queries, k)
    sign = -1.0 if metric == "L2" else 1.0
    half = collection.fields()["embedding"] == "FLOAT16_VECTOR"
    slack = (2e-3 if half else 1e-4) * (1.0 + np.abs(tenth))
    found = [
        sum(sign * hit["score"] >= least - more for hit in hits[:k])
        for hits, least, more in zip(answers, tenth, slack, strict=True)
    ]
    return float(np.mean(found) / k)


def _drawn(run: Run, sample: int, seed: int) -> NDArray[np.float32]:
    """Vectors [sample, dim] of rows drawn without replacement, or all of them."""
    parts = run.parts()
    sizes = [len(run.read_part(part, ["id"])) for part in parts]
    total = sum(sizes)
    chosen = np.arange(total)
    if sample < total:
        chosen = np.sort(np.random.default_rng(seed).choice(total, sample, replace=False))
    first, found = 0, []
    for part, size in zip(parts, sizes, strict=True):
        here = chosen[(chosen >= first) & (chosen < first + size)] - first
        first += size
        if len(here):
            found.append(retrieval.matrix(run.read_part(part, ["embedding"])["embedding"])[here])
    return np.concatenate(found)


def _exact(run: Run, queries: NDArray[np.float32], metric: str) -> tuple[int, NDArray[np.float32]]:
    """k, and for each query the score of the k-th nearest row; higher is nearer."""
    best: NDArray[Any] = np.empty((len(queries), 0), np.float32)
    for _, table in run.iterate(["embedding"]):
        if not len(table):
            continue
        vectors = retrieval.matrix(table["embedding"])
        scores = retrieval.similarity(_scaled(queries, metric), _scaled(vectors, metric), metric)
        best = np.concatenate([best, scores], axis=1)
        if best.shape[1] > K:
            best = -np.partition(-best, K - 1, axis=1)[:, :K]
    return best.shape[1], best.min(axis=1)


def _scaled(vectors: NDArray[np.float32], metric: str) -> NDArray[np.float32]:
    if metric != "COSINE":
        return vectors
    lengths: NDArray[Any] = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = vectors / np.maximum(lengths, np.float32(1e-12))
    return scaled
