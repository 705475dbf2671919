"""The ranking through Milvus's index beside the exact one, what it loses, and what it costs."""

from __future__ import annotations

import csv
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.helpers.runs import good, write_run
from vidembed import metrics
from vidembed.errors import ConfigError, RunMismatchError
from vidembed.evaluation import exact, indexed
from vidembed.evaluation.gallery import Gallery, Side
from vidembed.evaluation.ranking import Ranking
from vidembed.evaluation.scan import Asked
from vidembed.evaluation.workers import Here
from vidembed.store import milvus_search
from vidembed.store.milvus import Collection, CollectionSpec

if TYPE_CHECKING:
    from pathlib import Path

    from vidembed.store.run import Run

pytestmark = [pytest.mark.milvus]

DIM = 16
SPEC = CollectionSpec(
    name="indexed",
    dim=DIM,
    metric="COSINE",
    index="FLAT",
    encoder="clip4clip",
    weights="w",
    fingerprint="f" * 16,
    clip="{}",
)
HERE = Here(1 << 22, gpu=False)
RNG = np.random.default_rng(3)


def unit(values: np.ndarray) -> np.ndarray:
    values = values / np.linalg.norm(values, axis=1, keepdims=True)
    return values.astype(np.float32)


def run_of(folder: Path, values: np.ndarray, segments: int = 1) -> Run:
    rows = [
        good(f"v{k // segments}", vector, k % segments, segments) for k, vector in enumerate(values)
    ]
    return write_run(folder, rows, dim=DIM)


@pytest.fixture(scope="module")
def lite(tmp_path_factory):
    return str(tmp_path_factory.mktemp("indexed") / "lite.db")


@pytest.fixture
def loaded(lite, request):
    """Loads runs into collections, and drops these after the test."""
    made: list[Collection] = []

    def load(run: Run, uri: str = lite, **changes) -> Collection:
        name = f"c{abs(hash(request.node.name)) % 10**8}_{len(made)}"
        found = Collection(uri, name)
        made.append(found)
        found.ensure(replace(SPEC, name=name, **changes))
        for part in run.parts():
            found.upsert(run.read_part(part))
        return found

    yield load
    for each in made:
        each.drop()
        each.close()


def asked(values: np.ndarray, code, hidden=None) -> Asked:
    code = np.asarray(code, np.int64)
    hidden = np.full(len(code), -1) if hidden is None else hidden
    return Asked(Side.single(values), code, np.asarray(hidden, np.int64))


def both(collection: Collection, run: Run, questions: Asked, code=None, top: int = 10):
    """(through the index, exact)."""
    gallery = Gallery.of(run)
    code = np.arange(gallery.videos) if code is None else code
    index = indexed.Index.of(collection, gallery, {})
    return (
        indexed.rank(index, questions, code, top),
        exact.rank(questions, gallery, code, top, HERE),
    )


def same(found: Ranking, expected: Ranking) -> None:
    np.testing.assert_array_equal(found.rank, expected.rank)
    np.testing.assert_array_equal(found.ties, expected.ties)
    np.testing.assert_array_equal(found.top, expected.top)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


# Searching a collection


@pytest.fixture(scope="module")
def crowded(tmp_path_factory, lite):
    """Rows of 30 videos: v0 has 200 segments around one direction, the others four each."""
    values = RNG.normal(size=(316, DIM))
    values[:200] = np.eye(DIM)[0] + 0.05 * values[:200]
    rows = [good("v0", v, k, 200) for k, v in enumerate(unit(values[:200]))]
    rows += [good(f"v{1 + k // 4}", v, k % 4, 4) for k, v in enumerate(unit(values[200:]))]
    run = write_run(tmp_path_factory.mktemp("crowded") / "run", rows, dim=DIM)
    collection = Collection(lite, "crowded")
    collection.ensure(replace(SPEC, name="crowded"))
    for part in run.parts():
        collection.upsert(run.read_part(part))
    yield collection, run
    collection.drop()
    collection.close()


def best_of_each(run: Run, query: np.ndarray, top: int) -> list[str]:
    table = run.read(["id", "video_id", "embedding"])
    scores = np.stack(table["embedding"].to_numpy()) @ query
    found: dict[str, str] = {}
    for k in np.argsort(-scores):
        found.setdefault(table["video_id"][int(k)].as_py(), table["id"][int(k)].as_py())
    return list(found.values())[:top]


@pytest.mark.parametrize("most", [16384, 64])
def test_of_each_video_the_best_segment_comes_once_however_many_the_first_has(
    crowded, monkeypatch, most
):
    collection, run = crowded
    monkeypatch.setattr(milvus_search, "MOST", most)
    queries = unit(np.stack([np.eye(DIM)[0], RNG.normal(size=DIM)]))
    found = collection.search(queries, 12, group_by="video_id", fields=["segment"])
    for query, hits in zip(queries, found, strict=True):
        assert [hit["id"] for hit in hits] == best_of_each(run, query, 12)
    every = collection.search(queries, 40, group_by="video_id")
    assert [len(hits) for hits in every] == [30, 30]


def test_queries_and_answers_beyond_one_request_are_asked_for_in_several(crowded, monkeypatch):
    collection, _ = crowded
    queries = unit(RNG.normal(size=(25, DIM)))
    whole = collection.search(queries, 5)

    def same_as_whole() -> None:
        found = collection.search(queries, 5)
        # A product of matrices of another size rounds differently.
        assert [[hit["id"] for hit in hits] for hits in found] == [
            [hit["id"] for hit in hits] for hits in whole
        ]
        assert found[24][0]["score"] == pytest.approx(whole[24][0]["score"], abs=1e-6)

    monkeypatch.setattr(milvus_search, "_ANSWER_ROWS", 20)
    same_as_whole()
    monkeypatch.setattr(milvus_search, "_QUERY_BYTES", 3 * DIM * 4)
    same_as_whole()


def test_rows_are_got_by_key_in_the_order_asked_for_and_none_where_there_is_none(crowded):
    collection, run = crowded
    found = collection.get(["v3#1", "absent", "v0#7", "v3#1"], ["segment", "caption", "embedding"])
    assert [row and (row["id"], row["segment"], row["caption"]) for row in found] == [
        ("v3#1", 1, "this is v3"), None, ("v0#7", 7, "this is v0"), ("v3#1", 1, "this is v3"),
    ]  # fmt: skip
    table = run.read(["id", "embedding"])
    expected = table.filter(pc.equal(table["id"], "v0#7"))["embedding"][0].as_py()
    np.testing.assert_array_equal(found[2]["embedding"], np.array(expected, np.float32))
    (whole,) = collection.get(["v3#1"])
    assert "embedding" not in whole
    assert (whole["uri"], whole["caption"]) == ("/videos/v3.mp4", "this is v3")


@pytest.mark.parametrize(
    ("index", "params", "message"),
    [
        ("HNSW", {"nprobe": 3}, "an index HNSW has no 'nprobe'; it has ef"),
        ("HNSW", {"ef": 4}, "ef=4 is less than the 10 results"),
        ("HNSW", {"ef": "x"}, r"ef is a whole number from 1 to \d+, got 'x'"),
        ("IVF_FLAT", {"nprobe": 0}, "nprobe is a whole number from 1 to 65536, got 0"),
        ("FLAT", {"ef": 16}, "an index FLAT has no 'ef'; it has none"),
    ],
)
def test_parameters_that_the_index_does_not_have_are_refused(
    tmp_path, loaded, index, params, message
):
    collection = loaded(run_of(tmp_path / "run", unit(RNG.normal(size=(20, DIM)))), index=index)
    with pytest.raises(ConfigError, match=message):
        collection.search(np.ones((1, DIM), np.float32), 10, params=params)


# FLAT


@pytest.mark.parametrize("where", ["lite", "server"])
def test_flat_ranks_as_the_exact_ranking_does_with_twins_too(tmp_path, loaded, request, where):
    values = RNG.normal(size=(300, DIM))
    # Twins and triplets: equal vectors tie.
    values[100:150] = values[:50]
    values[150:170] = values[:20]
    run = run_of(tmp_path / "run", unit(values))
    order = [int(v[1:]) for v in Gallery.of(run).ids.to_pylist()]
    uri = None if where == "lite" else request.getfixturevalue("milvus").uri
    collection = loaded(run, uri) if uri else loaded(run)
    wanted = np.argsort(order)[np.arange(200) % 300]
    questions = asked(unit(values[:200] + 0.7 * RNG.normal(size=(200, DIM))), wanted)
    found, expected = both(collection, run, questions)
    # A server's kernel may add up the same products in another order at another place: twins are
    # then a last bit apart, and one of them comes first.
    assert (found.rank >= expected.rank).all()
    assert (found.rank + found.ties <= expected.rank + expected.ties).all()
    in_order = values[order]
    np.testing.assert_array_equal(in_order[found.top], in_order[expected.top])
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    assert (expected.ties > 0).sum() > 20
    assert np.isfinite(found.rank).all()


@pytest.mark.parametrize("segments", [1, 3])
def test_videos_look_for_those_of_their_label_and_not_for_themselves(tmp_path, loaded, segments):
    run = run_of(tmp_path / "run", unit(RNG.normal(size=(60 * segments, DIM))), segments)
    gallery = Gallery.of(run)
    code = RNG.integers(0, 8, gallery.videos)
    questions = Asked(gallery.read(), code, np.arange(gallery.videos))
    found, expected = both(loaded(run), run, questions, code)
    same(found, expected)


def test_the_drawn_corpus_has_the_same_metrics_through_flat_as_exactly(corpus, tmp_path, loaded):
    import vidembed

    encoder = vidembed.load_encoder("clip4clip-tiny", device="cpu")
    with corpus.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    clip = encoder.spec.clip.sampling
    found = [
        vidembed.read_frames(str(corpus.parent / row["uri"]), count=clip.count, sampling="uniform")[
            0
        ]
        for row in rows
    ]
    videos = encoder.encode_video(np.stack(found))
    run = write_run(
        tmp_path / "run",
        [good(r["video_id"], v) for r, v in zip(rows, videos, strict=True)],
        dim=videos.shape[1],
    )
    ids = Gallery.of(run).ids
    captions = pa.array([row["video_id"] for row in rows])
    code = pc.index_in(captions, value_set=ids).to_numpy()
    questions = asked(encoder.encode_text([row["caption"] for row in rows]), code)
    collection = loaded(run, dim=videos.shape[1])
    through, beside = both(collection, run, questions)
    table = {"gallery": len(ids), "ks": (1, 5, 10), "rule": "reference"}
    numbers = metrics.retrieval(through.rank, through.ties, **table)
    assert numbers == metrics.retrieval(beside.rank, beside.ties, **table)
    assert numbers["R@10"] > 0.5
    same(through, beside)


# Indexes that lose something


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """2,000 videos without any structure, which an index finds hard, and 60 queries."""
    values = unit(np.random.default_rng(8).normal(size=(2000, DIM)))
    run = run_of(tmp_path_factory.mktemp("wide") / "run", values)
    gallery = Gallery.of(run)
    noisy = values[:60] + 0.4 * np.random.default_rng(9).normal(size=(60, DIM))
    order = np.argsort([int(v[1:]) for v in gallery.ids.to_pylist()])
    questions = asked(unit(noisy), order[:60])
    return run, gallery, questions, exact.rank(questions, gallery, np.arange(2000), 10, HERE)


def overlap(found: Ranking, expected: Ranking, k: int) -> float:
    """ANN recall by hand: the vectors have no twins."""
    pairs = zip(found.top[:, :k].tolist(), expected.top[:, :k].tolist(), strict=True)
    return float(np.mean([len(set(a) & set(b)) / k for a, b in pairs]))


def test_a_sweep_over_nprobe_draws_recall_that_grows_and_ranks_that_are_not_there(wide, loaded):
    run, gallery, questions, expected = wide
    collection = loaded(run, index="IVF_FLAT", index_params={"nlist": 64})
    index = indexed.Index.of(collection, gallery, {})
    code = np.arange(gallery.videos)
    points = indexed.sweep(index, questions, code, expected, (1, 5, 10), "nprobe=1,8,128")
    recalls = [point.ann_recall[10] for point in points]
    assert recalls == sorted(recalls)
    assert recalls[0] < 0.7
    assert recalls[-1] == 1.0
    for point in points:
        for k in (1, 5, 10):
            assert point.ann_recall[k] == pytest.approx(overlap(point.ranking, expected, k))
    # What does not come back among the first ten has no rank, and no other.
    first = points[0].ranking
    assert np.isinf(first.rank).any()
    came = np.isfinite(first.rank)
    assert (first.rank[came] <= expected.rank[came]).all()
    assert (first.rank[came] <= 10).all()
    said = points[0].plain()
    assert said["ann_recall"]["@10"] == round(recalls[0], 6)
    assert set(said["latency_ms"]) == {"mean", "p50", "p90", "p95", "p99"}
    assert said["latency_ms"]["p50"] <= said["latency_ms"]["p99"]
    assert said["queries_per_s"] > 0


def test_a_small_ef_loses_neighbours_of_a_server_s_index_and_answers_no_deeper(
    wide, loaded, milvus
):
    run, gallery, questions, expected = wide
    collection = loaded(run, milvus.uri, index="HNSW", index_params={"M": 4, "efConstruction": 8})
    index = indexed.Index.of(collection, gallery, {"ef": 10})
    assert index.facts.indexed == index.facts.rows == 2000
    assert index.facts.params == {"M": 4, "efConstruction": 8}
    code = np.arange(gallery.videos)
    small, large = indexed.sweep(index, questions, code, expected, (1, 10), "ef=5,512")
    assert (small.depth, set(small.ann_recall)) == (5, {1})
    assert (small.ranking.top[:, 5:] == -1).all()
    at_ten = indexed.measure(index, questions, code, expected, (1, 10))
    assert at_ten.ann_recall[10] < 0.9
    assert at_ten.ann_recall[10] == pytest.approx(overlap(at_ten.ranking, expected, 10))
    assert large.ann_recall[10] > at_ten.ann_recall[10]


def test_ann_recall_does_not_mind_which_of_equal_ones_came_back():
    def ranking(top, scores):
        return Ranking(
            rank=np.ones(1), ties=np.zeros(1, np.int64),
            top=np.array([top]), scores=np.array([scores], np.float32),
        )  # fmt: skip

    exactly = ranking([0, 1, 2], [0.9, 0.5, 0.5])
    assert indexed.ann_recall(ranking([0, 7, 2], [0.9, 0.5, 0.5]), exactly, 2) == 1.0
    assert indexed.ann_recall(ranking([0, 7, 2], [0.9, 0.4, 0.4]), exactly, 2) == 0.5
    assert indexed.ann_recall(ranking([0, -1, -1], [0.9, -np.inf, -np.inf]), exactly, 2) == 0.5
    few = ranking([0, -1, -1], [0.9, -np.inf, -np.inf])
    assert indexed.ann_recall(few, few, 3) == 1.0


@pytest.mark.parametrize("words", ["ef", "ef=", "ef=a,b", "=1,2", "ef=1.5", "e f=1"])
def test_a_sweep_that_is_none_is_refused(words):
    with pytest.raises(ConfigError, match=r"--sweep: expected .* as ef=16,32,64,128"):
        indexed.parse_sweep(words)


# What does not compare


def test_a_collection_that_does_not_hold_the_run_is_refused(tmp_path, loaded):
    values = unit(RNG.normal(size=(12, DIM)))
    run = run_of(tmp_path / "run", values)
    gallery = Gallery.of(run)
    other = loaded(run, fingerprint="0" * 16)
    with pytest.raises(RunMismatchError, match=r"fingerprint 0{16}, .* has f{16}"):
        indexed.Index.of(other, gallery, {})
    with pytest.raises(RunMismatchError, match=r"compares by L2, .* by COSINE"):
        indexed.Index.of(loaded(run, metric="L2"), gallery, {})
    lacking = loaded(run)
    lacking.delete(["v3", "v4"])
    with pytest.raises(ConfigError, match=r"lacks 2 of the 12 rows .* vidembed load"):
        indexed.Index.of(lacking, gallery, {})
    more = loaded(run)
    extra = run_of(tmp_path / "more", unit(RNG.normal(size=(15, DIM))))
    more.upsert(extra.read().filter(pc.equal(extra.read()["video_id"], "v14")))
    with pytest.raises(ConfigError, match=r"has 13 rows, .* 12: rows of others"):
        indexed.Index.of(more, gallery, {})
