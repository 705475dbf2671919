"""Retrieval metrics of a small run whose answers are known."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import vidembed
from tests.helpers import checkpoints as make
from tests.helpers.runs import bad, good, record, vectors, write_run
from vidembed import cli, metrics
from vidembed.encode import registry
from vidembed.errors import ConfigError, RunError, RunMismatchError
from vidembed.evaluation import postprocessed
from vidembed.evaluation.gallery import Gallery
from vidembed.store.run import Run

# The pictures of the page have tests of their own.
evaluate = functools.partial(vidembed.evaluate, examples=0)

CAPTIONS = ["a dog runs", "a cat sleeps", "two people cook", "rain on a window", "a red car"]
VIDEOS = ["a", "b", "c", "d", "e"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return str(make.write_reference(folder / "pytorch_model.bin.0", make.reference_state()))


@pytest.fixture(scope="module")
def spec(weights):
    return registry.describe("clip4clip", weights)


@pytest.fixture(scope="module")
def encoder(spec):
    return registry.load(spec, "cpu", "float32")


@pytest.fixture(scope="module")
def texts(encoder):
    return encoder.encode_text(CAPTIONS)


def run_of(folder: Path, spec, vectors) -> str:
    """A run whose videos have these vectors, and one that failed."""
    rows = [good(video, vector) for video, vector in zip(VIDEOS, vectors, strict=True)]
    return write_run(folder, [*rows, bad("x")], spec).uri


def queries(path: Path, **columns) -> str:
    table = pa.table({"video_id": VIDEOS, "caption": CAPTIONS} | columns)
    pyarrow.csv.write_csv(table, path)
    return str(path)


def rows_of(found, direction: str) -> list[dict]:
    rows = pq.read_table(Path(found.out) / "evaluation.parquet").to_pylist()
    return [row for row in rows if row["direction"] == direction]


def rank(scores: np.ndarray, own: int) -> float:
    return 1 + float((scores > scores[own]).sum()) + float((scores == scores[own]).sum() - 1) / 2


def test_videos_that_lie_where_their_captions_lie_are_all_found_first(tmp_path, spec, texts):
    run = run_of(tmp_path / "run", spec, texts)
    found = evaluate(run, queries(tmp_path / "q.csv"))
    table = found["text_to_video"]
    assert (table["R@1"], table["MdR"], table["MnR"], table["MRR"]) == (1, 1, 1, 1)
    assert (table["queries"], table["gallery"]) == (5, 5)
    assert table["ci95"]["R@1"] == [1, 1]
    assert found["video_to_text"]["R@1"] == 1
    assert found.result["fingerprint"] == spec.fingerprint
    assert found.result["encoder"] == "clip4clip"
    assert found.result["backend"] == "exact"


def test_ranks_are_those_of_a_count_by_hand(tmp_path, spec, texts):
    # Two videos lie at each other's captions, one between two captions, one opposite to its own.
    middle = 0.6 * texts[2] + 0.4 * texts[3]
    vectors = np.stack([texts[1], texts[0], middle, texts[3], -texts[4]])
    run = run_of(tmp_path / "run", spec, vectors)
    found = evaluate(run, queries(tmp_path / "q.csv"))
    forward = [rank(texts[k] @ vectors.T, k) for k in range(5)]
    backward = [rank(vectors[k] @ texts.T, k) for k in range(5)]
    for direction, ranks in (("text_to_video", forward), ("video_to_text", backward)):
        table = found[direction]
        assert table["MnR"] == pytest.approx(np.mean(ranks))
        assert table["MdR"] == np.median(ranks)
        assert table["R@1"] == pytest.approx(np.mean([r <= 1 for r in ranks]))
        assert table["R@5"] == pytest.approx(np.mean([r <= 5 for r in ranks]))
        assert table["MRR"] == pytest.approx(np.mean([1 / r for r in ranks]))
    rows = rows_of(found, "text_to_video")
    assert [row["rank"] + row["ties"] / 2 for row in rows] == forward
    assert rows[0]["query"] == CAPTIONS[0]
    assert rows[0]["query_id"] == "a"
    assert rows[0]["relevant"] == ["a"]
    assert rows[0]["top"][0] == "b"
    assert rows[0]["scores"] == sorted(rows[0]["scores"], reverse=True)
    rows = rows_of(found, "video_to_text")
    assert [row["rank"] + row["ties"] / 2 for row in rows] == backward
    assert (rows[0]["query"], rows[0]["relevant"], rows[0]["top"][0]) == ("a", ["a"], "b")


def test_a_run_of_one_same_vector_is_not_found_perfect(tmp_path, spec):
    same = np.eye(spec.dim, dtype=np.float32)[0]
    run = run_of(tmp_path / "run", spec, [same] * 5)
    q = queries(tmp_path / "q.csv")
    table = evaluate(run, q, ties="middle")["text_to_video"]
    assert (table["R@1"], table["MnR"]) == (0, 3)
    # Each place that the answer may have is an entry.
    found = evaluate(run, q)
    assert (found["text_to_video"]["R@1"], found["text_to_video"]["MnR"]) == (0.2, 3)
    assert [(r["rank"], r["ties"]) for r in rows_of(found, "text_to_video")] == [(1, 4)] * 5


def test_results_are_written_beside_the_run_or_where_they_are_wanted(tmp_path, spec, texts):
    run = run_of(tmp_path / "run", spec, texts)
    q = queries(tmp_path / "q.csv")
    found = evaluate(run, q)
    assert found.out == str(tmp_path / "run" / "evaluation")
    written = json.loads((tmp_path / "run" / "evaluation" / "evaluation.json").read_text())
    assert written == found.result
    evaluate(run, q, out=str(tmp_path / "elsewhere"))
    assert (tmp_path / "elsewhere" / "evaluation.parquet").exists()


def test_several_captions_of_a_video_count_by_the_nearest(tmp_path, spec, encoder, texts):
    run = run_of(tmp_path / "run", spec, texts)
    table = pa.table(
        {
            "video_id": [*VIDEOS, "a"],
            "caption": [*CAPTIONS, "something else entirely"],
        }
    )
    pq.write_table(table, tmp_path / "q.parquet")
    found = evaluate(run, str(tmp_path / "q.parquet"))
    assert found["text_to_video"]["queries"] == 6
    assert found["video_to_text"]["R@1"] == 1
    assert found["video_to_text"]["queries"] == 5


def test_queries_whose_videos_are_not_in_the_run_are_left_out_and_counted(tmp_path, spec, texts):
    run = run_of(tmp_path / "run", spec, texts)
    table = pa.table(
        {"video_id": ["a", "x", "never", "b"], "caption": [*CAPTIONS[:1], "no", "no", None]}
    )
    pq.write_table(table, tmp_path / "q.parquet")
    found = evaluate(run, str(tmp_path / "q.parquet"))
    assert found["text_to_video"]["queries"] == 1
    left_out = {"failed in the run": 1, "not in the run": 1, "no text": 1}
    assert found.result["left_out"] == left_out


def test_columns_of_texts_and_ids_are_found_or_named(tmp_path, spec, texts):
    run = run_of(tmp_path / "run", spec, texts)
    for name in ("sentence", "text"):
        table = pa.table({"key": VIDEOS, name: CAPTIONS})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    by_name = {"id_column": "key"}
    assert evaluate(run, str(tmp_path / "sentence.parquet"), **by_name)
    with pytest.raises(
        ConfigError, match=r"no column caption or sentence of texts.* it has key, text"
    ):
        evaluate(run, str(tmp_path / "text.parquet"), **by_name)
    assert evaluate(run, str(tmp_path / "text.parquet"), text_column="text", **by_name)
    with pytest.raises(ConfigError, match=r"no column video_id or id.*; it has key, text"):
        evaluate(run, str(tmp_path / "text.parquet"), text_column="text")


def test_queries_of_another_corpus_are_refused_with_an_id_of_each(tmp_path, spec, texts):
    run = run_of(tmp_path / "run", spec, texts)
    other = queries(tmp_path / "q.csv", video_id=[f"v{k}.mp4" for k in range(5)])
    with pytest.raises(ConfigError, match=r"its first is 'v0\.mp4', the run's first is 'a'"):
        evaluate(run, other)


def test_a_run_in_segments_is_found_by_the_best_segment_of_each_video(tmp_path, spec, texts):
    # Each video's caption lies at its second segment, and the segments in two parts.
    others = np.roll(texts, 1, axis=0)
    run = write_run(
        tmp_path / "run",
        [good(v, 0.1 * x, 0, 2) for v, x in zip(VIDEOS, others, strict=True)],
        spec,
    )
    run.commit(vectors([good(v, x, 1, 2) for v, x in zip(VIDEOS, texts, strict=True)], spec.dim))
    assert len(run.parts()) == 2
    found = evaluate(run.uri, queries(tmp_path / "q.csv"))
    for direction in ("text_to_video", "video_to_text"):
        assert found[direction]["R@1"] == 1
        assert (found[direction]["queries"], found[direction]["gallery"]) == (5, 5)
    assert found.result["segments"] == 10
    assert rows_of(found, "text_to_video")[0]["top"][0] == "a"


def test_a_run_without_embeddings_is_refused(tmp_path, spec):
    run = write_run(tmp_path / "run", [bad("a")], spec)
    with pytest.raises(ConfigError, match="has no embeddings to evaluate"):
        evaluate(run.uri, queries(tmp_path / "q.csv"))


def test_weights_that_are_not_the_run_s_are_refused(tmp_path, spec, texts):
    run = run_of(tmp_path / "run", spec, texts)
    other = make.write_reference(tmp_path / "other.bin", make.reference_state(seed=3))
    with pytest.raises(RunMismatchError, match="was embedded with other weights"):
        evaluate(run, queries(tmp_path / "q.csv"), weights=str(other))


def test_weights_that_moved_are_named_again(tmp_path, spec, weights, texts):
    import shutil

    run = run_of(tmp_path / "run", spec, texts)
    moved = shutil.copy(weights, tmp_path / "moved.bin")
    found = evaluate(run, queries(tmp_path / "q.csv"), weights=str(moved))
    assert found["text_to_video"]["R@1"] == 1


def test_the_run_s_own_columns_are_asked_where_no_queries_are_named(tmp_path, spec, encoder):
    # Each row's caption is "this is VIDEO".
    own = encoder.encode_text([f"this is {video}" for video in VIDEOS])
    found = evaluate(run_of(tmp_path / "run", spec, own))
    assert found["text_to_video"]["R@1"] == found["video_to_text"]["R@1"] == 1
    assert found.result["layout"] == "run"


def test_only_the_directions_that_are_wanted_are_measured(tmp_path, spec, texts):
    run, q = run_of(tmp_path / "run", spec, texts), queries(tmp_path / "q.csv")
    found = evaluate(run, q, directions=["video_to_text"])
    assert "text_to_video" not in found.result
    assert found["video_to_text"]["queries"] == 5
    assert rows_of(found, "text_to_video") == []


def test_metrics_are_broken_down_by_columns_of_queries_and_of_the_run(tmp_path, spec, texts):
    vectors = np.stack([texts[1], texts[0], texts[2], texts[3], texts[4]])
    q = queries(tmp_path / "q.csv", kind=["pet", "pet", "people", "other", None])
    found = evaluate(run_of(tmp_path / "run", spec, vectors), q, by="kind,width")
    for direction in ("text_to_video", "video_to_text"):
        by = found[direction]["by"]
        assert {v: (t["R@1"], t["queries"]) for v, t in by["kind"].items()} == {
            "pet": (0, 2),
            "people": (1, 1),
            "other": (1, 1),
            "none": (1, 1),
        }
        assert next(iter(by["kind"])) == "pet"
        assert by["width"]["160"]["R@1"] == found[direction]["R@1"] == 0.6
        kinds = [row["kind"] for row in rows_of(found, direction)]
        assert kinds == ["pet", "pet", "people", "other", None]
    with pytest.raises(ConfigError, match=r"--by colour: neither the queries nor .* such a column"):
        evaluate(str(tmp_path / "run"), q, by="colour")


LABELS = ["dance", "dance", "dance", "cook", "cook"]


def labelled_run(folder: Path, values, **changes) -> Run:
    """Five videos with these vectors, of an encoder without a text tower."""
    identity = record()["identity"] | {"encoder": "x3d_m"}
    made = record(dim=values.shape[1], metric="L2", identity=identity, **changes)
    run = Run.create_or_resume(str(folder), made)
    names = [*VIDEOS, *(f"more{k}" for k in range(len(values) - 5))]
    rows = [good(video, value) for video, value in zip(names, values, strict=True)]
    run.commit(vectors(rows, values.shape[1]))
    return run


def labels(path: Path, ids=VIDEOS, of=LABELS) -> str:
    pyarrow.csv.write_csv(pa.table({"video_id": ids, "label": of}), path)
    return str(path)


def test_videos_find_those_of_their_label_without_a_text_tower(tmp_path):
    # On a line: a dance 0, a dance 1, a cook 3, a dance 3.5, a cook 10; and one without a label.
    at = np.array([0, 1, 3.5, 3, 10, 0.5], np.float32)[:, None]
    run = labelled_run(tmp_path / "run", np.concatenate([at, at * 0], axis=1))
    found = evaluate(run.uri, labels(tmp_path / "q.csv"), k="1,2,4")
    table = found["video_to_video"]
    assert set(found.result) & {"text_to_video", "video_to_text"} == set()
    # Nearest first, itself left out: a: b d c e; b: a d c e; c: d b a e; d: c b a e; e: c d b a.
    hits = np.array([[1, 0, 1, 0], [1, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1], [0, 1, 0, 0]])
    ratio = hits[:, :2].sum(axis=1) / [2, 2, 2, 1, 1]
    assert table["mHR@2"] == pytest.approx(ratio.mean())
    precision = np.stack([hits[:, 0], hits[:, :2].sum(axis=1) / 2], axis=1)
    assert table["mAP@2"] == pytest.approx(precision.mean())
    assert table["R@1"] == pytest.approx(2 / 5)
    assert table["MRR"] == pytest.approx(np.mean([1, 1, 1 / 2, 1 / 4, 1 / 2]))
    assert (table["queries"], table["gallery"]) == (5, 4)
    rows = {row["query"]: row for row in rows_of(found, "video_to_video")}
    assert rows["a"]["top"] == ["b", "d", "c", "e"]
    assert rows["c"]["relevant"] == ["b", "a"]
    assert rows["a"]["scores"][0] == pytest.approx(-1)
    assert rows["c"]["label"] == "dance"
    assert rows["d"]["rank"] == 4
    assert rows["c"]["hit_ratio"] == 1


def test_videos_of_another_run_search_in_this_one(tmp_path):
    values = np.array([[0, 0], [1, 0], [2, 0], [5, 0], [6, 0]], np.float32)
    run = labelled_run(tmp_path / "run", values)
    other = Run.create_or_resume(str(tmp_path / "other"), run.record)
    rows = [good("q1", [0.4, 0]), good("q2", [5.2, 0]), good("a", [5.1, 0])]
    other.commit(vectors(rows, 2))
    q = labels(tmp_path / "q.csv", [*VIDEOS, "q1", "q2"], [*LABELS, "dance", "dance"])
    found = evaluate(run.uri, q, query_run=other.uri, k="1,3")
    rows = {row["query"]: row for row in rows_of(found, "video_to_video")}
    assert set(rows) == {"a", "q1", "q2"}
    assert rows["q1"]["top"] == ["a", "b", "c", "d", "e"]
    assert (rows["q1"]["rank"], rows["q2"]["rank"]) == (1, 3)
    # It is the same video as the one that it would find.
    assert rows["a"]["top"] == ["d", "e", "c", "b"]
    unlike = Run.create_or_resume(str(tmp_path / "unlike"), record(dim=2, fingerprint="e" * 16))
    unlike.commit(vectors(rows_of_two(), 2))
    with pytest.raises(RunMismatchError, match="they do not compare"):
        evaluate(run.uri, q, query_run=unlike.uri)


def rows_of_two() -> list[dict]:
    return [good("q1", [0.4, 0]), good("q2", [5.2, 0])]


def test_captions_for_an_encoder_without_a_text_tower_are_refused(tmp_path):
    run = labelled_run(tmp_path / "run", np.eye(5, dtype=np.float32))
    with pytest.raises(ConfigError, match="x3d_m has no text tower"):
        evaluate(run.uri, queries(tmp_path / "q.csv"))
    both = queries(tmp_path / "both.csv", label=LABELS)
    found = evaluate(run.uri, both)
    assert found["video_to_video"]["queries"] == 5
    assert found.result["left_out"] == {"no text tower": 5}
    with pytest.raises(ConfigError, match="x3d_m has no text tower"):
        evaluate(run.uri, both, directions="text_to_video")


def test_post_processings_are_those_of_the_whole_matrix(tmp_path, spec, texts, monkeypatch):
    draw = np.random.default_rng(0)
    values = 0.3 * texts + draw.normal(size=texts.shape).astype(np.float32) * 0.05
    # A hub: near to every text.
    values[2] = texts.mean(axis=0) * 1.2
    values[4] = values[3]
    run = run_of(tmp_path / "run", spec, values)
    names = Gallery.of(Run.open(run)).ids.to_pylist()
    there = np.stack([values[VIDEOS.index(name)] for name in names])
    wanted = np.array([names.index(video) for video in VIDEOS])
    bank = ["a bird", "two dogs", "snow falls"]
    pq.write_table(pa.table({"caption": bank}), tmp_path / "bank.parquet")
    monkeypatch.setattr(postprocessed, "_BYTES", 1 << 18)
    options = {"also": "dual-softmax,qb-norm", "query_bank": str(tmp_path / "bank.parquet")}
    found = evaluate(run, queries(tmp_path / "q.csv"), block_megabytes=1, **options)
    scores = (texts.astype(np.float64) @ there.T.astype(np.float64)).astype(np.float32)
    of_bank = registry.load(spec, "cpu", "float32").encode_text(bank)
    of_bank = (of_bank.astype(np.float64) @ there.T.astype(np.float64)).astype(np.float32)
    known = metrics.QueryBank(queries=3, gallery=5)
    known.add(metrics.bank_block(of_bank))
    better = metrics.qb_norm(scores, known.offset, known.applies(scores.argmax(axis=1)))
    for name, matrix in (("dual_softmax", metrics.dual_softmax(scores)), ("qb_norm", better)):
        rank, ties = metrics.ranked(matrix, wanted)
        expected = metrics.retrieval(rank, ties, gallery=5, ks=(1, 5, 10, 50))
        table = found["text_to_video"][name]
        assert {k: table[k] for k in expected} == pytest.approx(expected)
        assert table["MnR"] != found["text_to_video"]["MnR"]


def test_post_processings_of_distances_are_refused(tmp_path, spec, texts):
    rows = [good(video, vector) for video, vector in zip(VIDEOS, texts, strict=True)]
    run = Run.create_or_resume(str(tmp_path / "run"), record(spec, metric="L2"))
    run.commit(vectors(rows, spec.dim))
    with pytest.raises(ConfigError, match="the run's metric is L2"):
        evaluate(run.uri, queries(tmp_path / "q.csv"), also="dual-softmax")


def test_the_command_shows_what_was_found_and_where_it_is(tmp_path, spec, texts, capsys):
    run = run_of(tmp_path / "run", spec, texts)
    q = queries(tmp_path / "q.csv", label=LABELS, kind=["x", "x", "y", "y", None])
    line = ["evaluate", run, "--queries", q, "--by", "kind", "--also", "dual-softmax"]
    assert cli.main([*line, "--k", "1,3"]) == 0
    printed = capsys.readouterr().out
    for words in ("text→video", "text→video, dual softmax", "video→text", "video→video, k = 3",
                  "text→video by kind", "evaluation.json"):  # fmt: skip
        assert words in printed
    assert (tmp_path / "run" / "evaluation" / "evaluation.html").stat().st_size > 1000
    assert cli.main(["evaluate", run, "--queries", q, "--rerank", "x", "--directions", "all"]) == 2
    assert "expected some of text_to_video" in capsys.readouterr().err


def test_what_was_there_stays_whole_when_an_evaluation_fails(tmp_path, spec, texts):
    run, q = run_of(tmp_path / "run", spec, texts), queries(tmp_path / "q.csv")
    evaluate(run, q)
    there = tmp_path / "run" / "evaluation"
    before = {path.name: path.read_bytes() for path in there.iterdir()}
    part = Path(Run.open(run).parts()[0])
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(RunError, match=f"{part.name} is damaged"):
        evaluate(run, q)
    assert {path.name: path.read_bytes() for path in there.iterdir()} == before


# Through Milvus


@pytest.mark.milvus
def test_milvus_s_flat_index_gives_the_exact_numbers_and_both_are_there(
    tmp_path, spec, texts, capsys
):
    draw = np.random.default_rng(0)
    values = texts + draw.normal(size=texts.shape).astype(np.float32) * 0.2
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    run, uri = run_of(tmp_path / "run", spec, values), str(tmp_path / "lite.db")
    q = queries(tmp_path / "q.csv", label=LABELS)
    exact = evaluate(run, q, out=str(tmp_path / "exact"))
    vidembed.load(run, uri, index="FLAT")
    line = ["evaluate", run, "--queries", q, "--backend", "milvus", "--milvus", uri]
    assert cli.main([*line, "--examples", "0"]) == 0
    printed = capsys.readouterr().out
    for words in ("text→video, Milvus", "text→video, exact", "FLAT, 5 rows", "ANN recall@1"):
        assert words in printed
    found = json.loads((tmp_path / "run" / "evaluation" / "evaluation.json").read_text())
    for direction in ("text_to_video", "video_to_video"):
        assert found[direction] == found["exact"][direction] == exact[direction]
    assert found["video_to_text"] == exact["video_to_text"]
    assert found["exact"].keys() == {"text_to_video", "video_to_video"}
    assert (found["backend"], found["milvus"]["rows"]) == ("milvus", 5)
    assert set(found["milvus"]["ann_recall"].values()) == {1.0}
    assert found["milvus"]["latency_ms"]["p50"] > 0
    one, other = (
        pq.read_table(Path(folder) / "evaluation.parquet").drop(["scores"])
        for folder in (exact.out, tmp_path / "run" / "evaluation")
    )
    assert one.equals(other)


def test_what_an_index_cannot_be_asked_is_refused_before_anything_is_ranked(tmp_path, spec, texts):
    run, uri = run_of(tmp_path / "run", spec, texts), str(tmp_path / "no.db")
    q = queries(tmp_path / "q.csv", label=["x", "x", "y", "y", None])
    through = {"backend": "milvus", "milvus": uri}
    with pytest.raises(ConfigError, match=r"1 videos of .* have no label"):
        evaluate(run, q, **through)
    with pytest.raises(ConfigError, match="searches for videos"):
        evaluate(run, q, directions="video_to_text", **through)
    with pytest.raises(ConfigError, match="--sweep: expected a search parameter"):
        evaluate(run, q, directions="text_to_video", sweep="ef", **through)
    with pytest.raises(ConfigError, match="not with --milvus"):
        evaluate(run, q, rerank="weights", **through)
    assert not Path(uri).exists()
