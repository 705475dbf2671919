"""The exact ranking against brute force in double precision, however the work is cut."""

from __future__ import annotations

import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import vidembed
from tests.helpers.runs import good, record, vectors
from vidembed.encode import registry
from vidembed.errors import ConfigError, RunError
from vidembed.evaluation import exact, gallery, scan, sift, workers
from vidembed.evaluation.gallery import Gallery, Side
from vidembed.evaluation.scan import Asked
from vidembed.evaluation.workers import Here
from vidembed.store.run import Run

DIM = 6
TOP = 7


def write(folder: Path, parts: list[list[tuple[str, int, int]]], rows: dict, metric="IP") -> Run:
    """A run whose parts have these (video, segment, segments), with a vector for each."""
    dim = len(next(iter(rows.values())))
    run = Run.create_or_resume(str(folder), record(dim=dim, metric=metric))
    for part in parts:
        run.commit(vectors([good(v, rows[v, k], k, n) for v, k, n in part], dim))
    return run


def plain(folder: Path, values: np.ndarray, size: int = 16, metric="IP") -> Run:
    """One vector a video, so many to a part."""
    names = [(f"v{k:05}", 0, 1) for k in range(len(values))]
    rows = {(name, 0): values[k] for k, (name, _, _) in enumerate(names)}
    return write(folder, [names[a : a + size] for a in range(0, len(names), size)], rows, metric)


def order_of(run: Run) -> list[str]:
    return Gallery.of(run).ids.to_pylist()


def double(query: np.ndarray, vector: np.ndarray, metric: str) -> float:
    """Of one pair, in the order in which the package sums too: equal vectors tie in any order."""
    if metric == "L2":
        return -float(((query.astype(np.float64) - vector.astype(np.float64)) ** 2).sum())
    return float((query.astype(np.float64) * vector.astype(np.float64)).sum())


def brute(scores: np.ndarray, codes: np.ndarray, own: np.ndarray, hidden: np.ndarray):
    """Ranks, ties and the first ones, from the whole matrix, query by query."""
    ranks, ties, tops = [], [], []
    for row, code, out in zip(scores, own, hidden, strict=True):
        shown = [k for k in range(len(row)) if k != out]
        best = max(row[k] for k in shown if codes[k] == code)
        ranks.append(1 + sum(row[k] > best for k in shown))
        ties.append(sum(row[k] == best and codes[k] != code for k in shown))
        first = sorted(shown, key=lambda k: (-row[k], k))[:TOP]
        tops.append(first + [-1] * (TOP - len(first)))
    return np.array(ranks, float), np.array(ties), np.array(tops)


def matrix(queries: list[np.ndarray], videos: list[np.ndarray], metric: str) -> np.ndarray:
    """Best over all vectors of both."""
    return np.array(
        [[max(double(a, b, metric) for a in q for b in v) for v in videos] for q in queries]
    )


def same(found, expected) -> None:
    rank, ties, top = expected
    np.testing.assert_array_equal(found.rank, rank)
    np.testing.assert_array_equal(found.ties, ties)
    np.testing.assert_array_equal(found.top, top)


def asked(values: np.ndarray, own: np.ndarray, hidden: np.ndarray | None = None) -> Asked:
    none = np.full(len(own), -1, np.int64)
    return Asked(Side.single(values), own, none if hidden is None else hidden)


def drawn(kind: str, n: int, seed: int = 0) -> np.ndarray:
    """Vectors: at random, or of few different values and with twins, so that much ties."""
    draw = np.random.default_rng(seed)
    if kind == "random":
        return draw.normal(size=(n, DIM)).astype(np.float32)
    some = draw.normal(size=(max(2, n // 5), DIM)).astype(np.float32)
    return some[draw.integers(0, len(some), n)]


class Small:
    """Blocks of a fixed shape, and in another order than the run's."""

    def __init__(self, rows: int, columns: int, tasks: int, device=None) -> None:
        self._device = device or sift.Cpu(1 << 20)
        self._device.shape = lambda: (rows, columns)
        self._tasks = tasks

    def shares(self, loads):
        size = -(-len(loads) // self._tasks)
        return [loads[a : a + size] for a in range(0, len(loads), size)][::-1]

    def each(self, call, shared, tasks):
        return (call(self._device, shared, task) for task in list(tasks)[::-1])


@pytest.mark.parametrize("metric", ["COSINE", "IP", "L2"])
@pytest.mark.parametrize("kind", ["random", "tied"])
def test_ranks_ties_and_first_ones_are_those_of_brute_force(tmp_path, kind, metric):
    videos, queries = drawn(kind, 60), drawn(kind, 25, 1)
    run = plain(tmp_path, videos, metric=metric)
    names = order_of(run)
    values = np.stack([videos[int(name[1:])] for name in names])
    own = np.random.default_rng(2).integers(0, 60, 25)
    if kind == "tied":
        # Those that ask with a vector of the gallery.
        queries[:10] = values[own[:10]]
    codes = np.arange(60)
    expected = brute(
        matrix([q[None] for q in queries], [v[None] for v in values], metric),
        codes,
        own,
        np.full(25, -1),
    )
    there = Gallery.of(run)
    same(exact.rank(asked(queries, own), there, codes, TOP, Here(1 << 20, gpu=False)), expected)
    assert expected[0].max() > 20
    assert (expected[1].max() > 0) == (kind == "tied")


@pytest.mark.parametrize("rows", [1, 3, 8, 100])
@pytest.mark.parametrize("columns", [1, 5, 64])
def test_the_blocks_do_not_show(tmp_path, monkeypatch, rows, columns):
    # Sums of very different numbers: float32 gives another result in another order.
    draw = np.random.default_rng(0)
    scale = np.exp(draw.normal(size=301) * 4).astype(np.float32)
    videos = (draw.normal(size=(40, 301)) * scale).astype(np.float32)
    videos[20:30] = videos[:10]
    queries = (draw.normal(size=(9, 301)) * scale).astype(np.float32)
    run = plain(tmp_path, videos, size=13)
    values = np.stack([videos[int(name[1:])] for name in order_of(run)])
    own, codes = np.arange(0, 36, 4), np.arange(40)
    scores = matrix([q[None] for q in queries], [v[None] for v in values], "IP")
    expected = brute(scores, codes, own, np.full(9, -1))
    assert expected[1].sum() > 0
    monkeypatch.setattr(gallery, "LOAD_ROWS", max(2, columns))
    found = exact.rank(
        asked(queries, own), Gallery.of(run), codes, TOP, Small(rows, columns, tasks=3)
    )
    same(found, expected)


def test_the_blocks_of_a_gpu_say_the_same(tmp_path):
    # Its code, on the CPU that is here.
    pytest.importorskip("torch")
    for metric in ("IP", "L2"):
        videos, queries = drawn("tied", 50), drawn("tied", 20)
        run = plain(tmp_path / metric, videos, metric=metric)
        own, codes = np.random.default_rng(5).integers(0, 8, 20), np.arange(50) % 8
        hidden = np.arange(20)
        devices = (sift.Cpu(1 << 20), sift.Gpu(1 << 20, "cpu"))
        one, other = (
            exact.rank(
                asked(queries, own, hidden), Gallery.of(run), codes, TOP, Small(7, 11, 2, device)
            )
            for device in devices
        )
        same(other, (one.rank, one.ties, one.top))
        np.testing.assert_array_equal(one.scores, other.scores)


def segmented(folder: Path, metric: str = "IP", seed: int = 0) -> tuple[Run, list[np.ndarray]]:
    """Videos of one to four segments, which lie in parts at random; and each video's vectors."""
    draw = np.random.default_rng(seed)
    counts = draw.integers(1, 5, 30)
    rows = {
        (f"v{k:02}", s): draw.integers(-2, 3, DIM).astype(np.float32)
        for k in range(30)
        for s in range(counts[k])
    }
    every = [(v, s, int(counts[int(v[1:])])) for v, s in rows]
    draw.shuffle(every)
    parts = [[tuple(each) for each in every[a : a + 9]] for a in range(0, len(every), 9)]
    run = write(folder, [[(v, int(s), int(n)) for v, s, n in part] for part in parts], rows, metric)
    names = order_of(run)
    return run, [np.stack([rows[n, s] for s in range(counts[int(n[1:])])]) for n in names]


@pytest.mark.parametrize("metric", ["IP", "L2"])
def test_a_video_counts_by_its_best_segment_wherever_its_segments_lie(
    tmp_path, monkeypatch, metric
):
    run, videos = segmented(tmp_path, metric)
    queries = np.random.default_rng(1).integers(-2, 3, (12, DIM)).astype(np.float32)
    own, codes = np.arange(12) * 2, np.arange(30)
    expected = brute(matrix([q[None] for q in queries], videos, metric), codes, own, [-1] * 12)
    for rows in (1, 4, 1000):
        monkeypatch.setattr(gallery, "LOAD_ROWS", rows)
        found = exact.rank(asked(queries, own), Gallery.of(run), codes, TOP, Small(5, 3, 4))
        same(found, expected)


@pytest.mark.parametrize("metric", ["IP", "L2"])
@pytest.mark.parametrize("kinds", [2, 15])
def test_videos_that_share_a_label_are_found_and_oneself_is_not(tmp_path, metric, kinds):
    run, videos = segmented(tmp_path, metric)
    there = Gallery.of(run)
    codes = np.arange(30) % kinds
    hidden = np.arange(30)
    expected = brute(matrix(videos, videos, metric), codes, codes, hidden)
    question = Asked(there.read(), codes, hidden)
    for device in (sift.Cpu(1 << 20), sift.Gpu(1 << 20, "cpu")):
        same(exact.rank(question, there, codes, TOP, Small(4, 6, 3, device)), expected)


def test_many_answers_are_sifted_and_few_compared_one_by_one(tmp_path, monkeypatch):
    videos, queries = drawn("tied", 60), drawn("tied", 30, 1)
    there = Gallery.of(plain(tmp_path, videos))
    codes, own = np.arange(60) % 3, np.arange(30) % 3
    part = scan.Candidates(there.read(), codes, 0)
    for metric in ("IP", "L2"):
        found = []
        for dear in (0, 1e9):
            monkeypatch.setattr(scan, "_DEAR", dear)
            found.append(scan.answers(asked(queries, own, np.arange(30)), part, metric))
        np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("metric", ["IP", "L2"])
def test_a_video_finds_its_texts_by_the_nearest_of_each_videos(tmp_path, monkeypatch, metric):
    run, videos = segmented(tmp_path, metric)
    draw = np.random.default_rng(3)
    counts = draw.integers(1, 4, 30)
    starts = np.concatenate([[0], np.cumsum(counts)])
    texts = draw.integers(-2, 3, (starts[-1], DIM)).astype(np.float32)
    each = [texts[a:b] for a, b in itertools.pairwise(starts)]
    scores = matrix(videos, each, metric)
    expected = brute(scores, np.arange(30), np.arange(30), [-1] * 30)
    monkeypatch.setattr(gallery, "LOAD_ROWS", 7)
    found, rows = exact.rank_texts(Gallery.of(run), Side(texts, starts), TOP, Small(4, 5, 1))
    same(found, expected)
    for video in range(30):
        for place, item in enumerate(found.top[video]):
            own = [max(double(v, t, metric) for v in videos[video]) for t in each[item]]
            assert rows[video, place] == starts[item] + int(np.argmax(own))


def test_twins_tie_at_every_place_of_a_block(tmp_path):
    draw = np.random.default_rng(0)
    vector, query = draw.normal(size=(2, 513)).astype(np.float32)
    run = plain(tmp_path, np.tile(vector, (300, 1)), size=100)
    found = exact.rank(
        asked(np.tile(query, (5, 1)), np.array([0, 1, 50, 298, 299])),
        Gallery.of(run),
        np.arange(300),
        TOP,
        Here(1 << 20, gpu=False),
    )
    assert found.rank.tolist() == [1] * 5
    assert found.ties.tolist() == [299] * 5
    assert found.top.tolist() == [list(range(TOP))] * 5


def test_scores_that_differ_by_less_than_float32_tells_are_still_in_order(tmp_path):
    # Each is a little better than the one before, by less than a product in float32 is off; the
    # last is much worse than all.
    draw = np.random.default_rng(0)
    base = np.abs(draw.normal(size=257) * 100).astype(np.float32)
    query = np.abs(draw.normal(size=257)).astype(np.float32)
    base[0] = 1e-3
    videos = np.tile(base, (41, 1))
    for k in range(40):
        videos[k, 0] += np.float32(k * 1e-6)
    videos[40] *= 0.1
    run = plain(tmp_path, videos, size=41)
    own = np.array([0, 20, 39, 40])
    for columns in (1, 3, 7, 64):
        found = exact.rank(
            asked(np.tile(query, (4, 1)), own),
            Gallery.of(run),
            np.arange(41),
            TOP,
            Small(2, columns, 1),
        )
        assert found.rank.tolist() == [40, 20, 1, 41]
        assert found.top.tolist() == [list(range(39, 39 - TOP, -1))] * 4


def test_memory_does_not_grow_with_queries_times_videos(tmp_path):
    videos, queries = drawn("random", 24_000), drawn("random", 3000, 1)
    there = Gallery.of(plain(tmp_path, videos, size=6000))
    own = np.arange(3000)
    tracemalloc.start()
    try:
        found = exact.rank(
            asked(queries, own), there, np.arange(24_000), TOP, Here(8 << 20, gpu=False)
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.rank.max() > 10_000
    # All scores are 288 MB.
    assert peak < 32 << 20


def test_a_part_that_is_damaged_is_named(tmp_path):
    run = plain(tmp_path, drawn("random", 40))
    there = Gallery.of(run)
    part = Path(run.parts()[1])
    data = bytearray(part.read_bytes())
    at = pq.ParquetFile(part).metadata.row_group(0)
    names = [at.column(k).path_in_schema for k in range(at.num_columns)]
    column = at.column(next(k for k, name in enumerate(names) if name.startswith("embedding")))
    middle = column.data_page_offset + column.total_compressed_size // 2
    data[middle : middle + 8] = b"garbage!"
    part.write_bytes(data)
    question = asked(drawn("random", 3), np.arange(3))
    with pytest.raises(RunError, match=f"{part.name} is damaged"):
        exact.rank(question, there, np.arange(40), TOP, Here(1 << 20, gpu=False))


# On Ray


def captioned(folder: Path, count: int) -> Run:
    """Videos of the tiny encoder's size in parts of 50, with captions and labels of their own."""
    spec = registry.describe("clip4clip-tiny")
    draw = np.random.default_rng(0)
    values = draw.normal(size=(count, spec.dim)).astype(np.float32)
    values[1::7] = values[:-1:7]
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    run = Run.create_or_resume(str(folder), record(spec))
    for a in range(0, count, 50):
        rows = [good(f"v{k:04}", values[k]) for k in range(a, min(a + 50, count))]
        run.commit(vectors(rows, spec.dim))
    return run


def questions(path: Path, count: int) -> str:
    shapes = ["circle", "square", "triangle", "star"]
    colours = ["red", "green", "blue", "yellow", "white"]
    pq.write_table(
        pa.table(
            {
                "video_id": [f"v{k % count:04}" for k in range(count + 20)],
                "caption": [
                    f"a {colours[k % 5]} {shapes[k // 5 % 4]} moves {k % 3} times"
                    for k in range(count + 20)
                ],
                "label": [f"label {k % count % 9}" for k in range(count + 20)],
            }
        ),
        path,
    )
    return str(path)


@pytest.mark.ray
def test_ray_and_this_process_write_the_same_results(tmp_path, ray_session, monkeypatch):
    # With what is post-processed, too; 160 videos of which many are twins.
    run, q = captioned(tmp_path / "run", 160), questions(tmp_path / "q.parquet", 160)
    options = {"also": "dual-softmax,qb-norm", "query_bank": q, "by": "width", "examples": 0}
    monkeypatch.setattr(gallery, "LOAD_ROWS", 30)
    there = vidembed.evaluate(run.uri, q, out=str(tmp_path / "ray"), **options)
    monkeypatch.setattr(workers, "_ray_is_there", lambda: False)
    here = vidembed.evaluate(run.uri, q, out=str(tmp_path / "here"), **options)
    assert there["text_to_video"]["queries"] == 180
    assert set(there.result) >= {"text_to_video", "video_to_text", "video_to_video"}
    for result in (there.result, here.result):
        assert result.pop("seconds") > 0
        result.pop("created")
    assert there.result == here.result
    one, other = (pq.read_table(Path(e.out) / "evaluation.parquet") for e in (there, here))
    assert one.equals(other)
    assert pc.max(one["ties"]).as_py() > 0


@pytest.mark.ray
def test_a_damaged_part_is_named_by_a_worker_too(tmp_path, ray_session):
    run = captioned(tmp_path / "run", 120)
    there = Gallery.of(run)
    part = Path(run.parts()[1])
    data = part.read_bytes()
    question = Asked(there.read(), np.arange(120), np.full(120, -1))
    part.write_bytes(data[:-200])
    pool = workers.OnRay(1 << 20, 2, gpu=False)
    with pytest.raises(RunError, match=f"{part.name} is damaged"):
        exact.rank(question, there, np.arange(120), TOP, pool)
    part.unlink()
    with pytest.raises(RunError, match=f"{part.name} is not there any more"):
        exact.rank(question, there, np.arange(120), TOP, pool)


@pytest.mark.ray
def test_a_local_run_is_refused_by_a_cluster_of_which_a_node_does_not_see_it(
    tmp_path, ray_session, monkeypatch
):
    import ray

    from vidembed import cluster

    run = captioned(tmp_path / "run", 20)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    # Twice the one node that there is: the other answers what a node without the disk would.
    monkeypatch.setattr(cluster, "_nodes", lambda: nodes * 2)
    cluster.check_run_seen(run.uri)
    with pytest.raises(ConfigError, match=r"does not see .*gone: on a cluster, RUN must be on s3"):
        cluster.check_run_seen(str(tmp_path / "gone"))
