"""Retrieval metrics of a small run whose answers are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import vidembed
from tests.helpers import checkpoints as make
from tests.helpers.runs import bad, good, write_run
from vidembed.encode import registry
from vidembed.errors import ConfigError, RunMismatchError

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


def rank(scores: np.ndarray, own: int) -> float:
    return 1 + float((scores > scores[own]).sum()) + float((scores == scores[own]).sum() - 1) / 2


def test_videos_that_lie_where_their_captions_lie_are_all_found_first(tmp_path, spec, texts):
    run = run_of(tmp_path / "run", spec, texts)
    found = vidembed.evaluate(run, queries(tmp_path / "q.csv"))
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
    found = vidembed.evaluate(run, queries(tmp_path / "q.csv"))
    forward = [rank(texts[k] @ vectors.T, k) for k in range(5)]
    backward = [rank(vectors[k] @ texts.T, k) for k in range(5)]
    for direction, ranks in (("text_to_video", forward), ("video_to_text", backward)):
        table = found[direction]
        assert table["MnR"] == pytest.approx(np.mean(ranks))
        assert table["MdR"] == np.median(ranks)
        assert table["R@1"] == pytest.approx(np.mean([r <= 1 for r in ranks]))
        assert table["R@5"] == pytest.approx(np.mean([r <= 5 for r in ranks]))
        assert table["MRR"] == pytest.approx(np.mean([1 / r for r in ranks]))
    rows = pq.read_table(Path(found.out) / "evaluation.parquet").to_pylist()
    assert [row["rank"] for row in rows] == forward
    assert rows[0]["query"] == CAPTIONS[0]
    assert rows[0]["relevant"] == ["a"]
    assert rows[0]["top"][0] == "b"
    assert rows[0]["scores"] == sorted(rows[0]["scores"], reverse=True)


def test_a_run_of_one_same_vector_is_not_found_perfect(tmp_path, spec):
    same = np.eye(spec.dim, dtype=np.float32)[0]
    run = run_of(tmp_path / "run", spec, [same] * 5)
    table = vidembed.evaluate(run, queries(tmp_path / "q.csv"))["text_to_video"]
    assert (table["R@1"], table["MnR"]) == (0, 3)


def test_results_are_written_beside_the_run_or_where_they_are_wanted(tmp_path, spec, texts):
    run = run_of(tmp_path / "run", spec, texts)
    q = queries(tmp_path / "q.csv")
    found = vidembed.evaluate(run, q)
    assert found.out == str(tmp_path / "run" / "evaluation")
    written = json.loads((tmp_path / "run" / "evaluation" / "evaluation.json").read_text())
    assert written == found.result
    vidembed.evaluate(run, q, out=str(tmp_path / "elsewhere"))
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
    found = vidembed.evaluate(run, str(tmp_path / "q.parquet"))
    assert found["text_to_video"]["queries"] == 6
    assert found["video_to_text"]["R@1"] == 1
    assert found["video_to_text"]["queries"] == 5


def test_queries_whose_videos_are_not_in_the_run_are_left_out_and_counted(tmp_path, spec, texts):
    run = run_of(tmp_path / "run", spec, texts)
    table = pa.table(
        {"video_id": ["a", "x", "never", "b"], "caption": [*CAPTIONS[:1], "no", "no", None]}
    )
    pq.write_table(table, tmp_path / "q.parquet")
    found = vidembed.evaluate(run, str(tmp_path / "q.parquet"))
    assert found["text_to_video"]["queries"] == 1
    assert found.result["left_out"] == 3


def test_columns_of_texts_and_ids_are_found_or_named(tmp_path, spec, texts):
    run = run_of(tmp_path / "run", spec, texts)
    for name in ("sentence", "text"):
        table = pa.table({"key": VIDEOS, name: CAPTIONS})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    by_name = {"id_column": "key"}
    assert vidembed.evaluate(run, str(tmp_path / "sentence.parquet"), **by_name)
    with pytest.raises(ConfigError, match="no column caption or sentence; it has key, text"):
        vidembed.evaluate(run, str(tmp_path / "text.parquet"), **by_name)
    assert vidembed.evaluate(run, str(tmp_path / "text.parquet"), text_column="text", **by_name)
    with pytest.raises(ConfigError, match="no column video_id or id; it has key, text"):
        vidembed.evaluate(run, str(tmp_path / "text.parquet"), text_column="text")


def test_queries_of_another_corpus_are_refused_with_an_id_of_each(tmp_path, spec, texts):
    run = run_of(tmp_path / "run", spec, texts)
    other = queries(tmp_path / "q.csv", video_id=[f"v{k}.mp4" for k in range(5)])
    with pytest.raises(ConfigError, match=r"its first is 'v0\.mp4', the run's first is 'a'"):
        vidembed.evaluate(run, other)


def test_a_run_in_segments_is_refused(tmp_path, spec, texts):
    rows = [good("a", texts[0], k, 2) for k in range(2)]
    run = write_run(tmp_path / "run", rows, spec)
    with pytest.raises(ConfigError, match="is cut into segments"):
        vidembed.evaluate(run.uri, queries(tmp_path / "q.csv"))


def test_a_run_without_embeddings_is_refused(tmp_path, spec):
    run = write_run(tmp_path / "run", [bad("a")], spec)
    with pytest.raises(ConfigError, match="has no embeddings to evaluate"):
        vidembed.evaluate(run.uri, queries(tmp_path / "q.csv"))


def test_weights_that_are_not_the_run_s_are_refused(tmp_path, spec, texts):
    run = run_of(tmp_path / "run", spec, texts)
    other = make.write_reference(tmp_path / "other.bin", make.reference_state(seed=3))
    with pytest.raises(RunMismatchError, match="was embedded with other weights"):
        vidembed.evaluate(run, queries(tmp_path / "q.csv"), weights=str(other))


def test_weights_that_moved_are_named_again(tmp_path, spec, weights, texts):
    import shutil

    run = run_of(tmp_path / "run", spec, texts)
    moved = shutil.copy(weights, tmp_path / "moved.bin")
    found = vidembed.evaluate(run, queries(tmp_path / "q.csv"), weights=str(moved))
    assert found["text_to_video"]["R@1"] == 1
