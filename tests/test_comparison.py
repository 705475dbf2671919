"""Two evaluations are compared, from the command line, on files as `evaluate` writes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidembed import cli, metrics
from vidembed.comparison import compare
from vidembed.config import CompareConfig
from vidembed.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

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
        "hit_ratio": pa.float64(),
        "average_precision": pa.float64(),
        "ndcg": pa.float64(),
        "reranked": pa.float64(),
    }
)


def texts(ranks, *, ties=None, first: int = 0, direction="text_to_video", **columns) -> list[dict]:
    """A row for each rank, of the queries q<first>, q<first + 1>, …"""
    ties = [0] * len(ranks) if ties is None else ties
    return [
        {
            "direction": direction,
            "query_id": f"q{first + i}",
            "query": f"caption {first + i}",
            "relevant": [f"v{first + i}"],
            "rank": None if np.isinf(rank) else float(rank),
            "ties": tie,
        }
        | {name: values[i] for name, values in columns.items()}
        for i, (rank, tie) in enumerate(zip(ranks, ties, strict=True))
    ]


def evaluation(folder: Path, rows: list[dict], gallery: int = 100, **facts) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    tables = {row["direction"]: {"gallery": gallery} for row in rows}
    result = {**tables, "encoder": "clip4clip", "ties": "reference", "k": [1, 5, 10]} | facts
    (folder / "evaluation.json").write_text(json.dumps(result))
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / "evaluation.parquet")
    return str(folder)


def compared(a: str, b: str, **options):
    return compare(CompareConfig.make({"a": a, "b": b, "rounds": 500, **options}))


def test_a_better_run_is_seen_to_be_better_query_by_query(tmp_path, capsys):
    rng = np.random.default_rng(0)
    before = rng.integers(2, 60, 120)
    after = np.maximum(1, before // 3)
    # One that gained most and one that lost most.
    before[[7, 9]], after[[7, 9]] = [90, 1], [1, 40]
    run_a, run_b = tmp_path / "a", tmp_path / "b"
    evaluation(run_a / "evaluation", texts(before))
    evaluation(run_b / "evaluation", texts(after))
    assert cli.main(["compare", str(run_a), str(run_b), "--k", "1,5", "--rounds", "999"]) == 0
    printed = capsys.readouterr().out
    assert "text→video: 120 queries in both" in printed
    assert f"written to {run_b / 'evaluation'}" in printed
    lines = printed.splitlines()
    assert any(line.split() == ["caption", "7", "90", "→", "1"] for line in lines)
    assert any(line.split() == ["caption", "9", "1", "→", "40"] for line in lines)

    written = json.loads((run_b / "evaluation" / "comparison.json").read_text())
    found = written["text_to_video"]
    assert list(found["metrics"]) == ["R@1", "R@5", "MdR", "MnR", "MRR"]
    r5 = found["metrics"]["R@5"]
    assert r5["a"] == pytest.approx((before <= 5).mean())
    assert r5["b"] == pytest.approx((after <= 5).mean())
    assert r5["difference"] == pytest.approx((after <= 5).mean() - (before <= 5).mean())
    assert r5["ci95"][0] < r5["difference"] < r5["ci95"][1]
    assert r5["p"] == 1 / 1000
    assert found["metrics"]["MnR"]["difference"] == pytest.approx(after.mean() - before.mean())
    assert found["metrics"]["MdR"] == {
        "a": np.median(before), "b": np.median(after),
        "difference": np.median(after) - np.median(before), "ci95": None, "p": None,
    }  # fmt: skip
    assert found["wins_b"] == (after < before).sum()
    assert (found["wins_a"], found["level"]) == (1, 120 - found["wins_b"] - 1)
    assert found["gained"][0] == {
        "query_id": "q7", "query": "caption 7", "rank_a": 90.0, "rank_b": 1.0
    }  # fmt: skip
    assert [row["query_id"] for row in found["lost"]] == ["q9"]
    assert written["a"]["encoder"] == "clip4clip"

    rows = pq.read_table(run_b / "evaluation" / "comparison.parquet")
    assert rows["rank_a"].to_pylist() == before.tolist()
    assert rows["rank_b"].to_pylist() == after.tolist()
    expected = np.select([after < before, after > before], ["b", "a"], "tie")
    assert rows["winner"].to_pylist() == expected.tolist()


def test_an_evaluation_beside_itself_differs_in_nothing(tmp_path):
    rng = np.random.default_rng(1)
    rows = texts(rng.integers(1, 60, 50), ties=rng.integers(0, 3, 50).tolist())
    a = evaluation(tmp_path / "a", rows)
    found = compared(a, a, out=str(tmp_path / "c"))["text_to_video"]
    for one in found["metrics"].values():
        assert one["difference"] == 0
        assert one["p"] in (1, None)
    assert (found["wins_a"], found["wins_b"], found["level"]) == (0, 0, 50)
    assert (found["gained"], found["lost"]) == ([], [])
    assert (tmp_path / "c" / "comparison.parquet").exists()
    assert not (tmp_path / "a" / "comparison.json").exists()


def test_queries_in_only_one_of_the_two_are_counted_and_not_compared(tmp_path, capsys):
    a = evaluation(tmp_path / "a", texts([1, 2, 3, 4, 5]))
    b = evaluation(tmp_path / "b", texts([1, 1, 1], first=3))
    assert cli.main(["compare", a, b, "--rounds", "100"]) == 0
    printed = capsys.readouterr().out
    assert "2 queries in both; 3 only in A, 1 only in B, not compared" in printed
    found = json.loads((tmp_path / "b" / "comparison.json").read_text())["text_to_video"]
    assert (found["queries"], found["only_a"], found["only_b"]) == (2, 3, 1)
    assert found["metrics"]["MnR"]["a"] == 4.5


def test_what_looks_like_markup_in_a_caption_is_shown_as_it_is(tmp_path, capsys):
    rows = [texts([rank])[0] | {"query": "a [red] dog [/b] \x1b[31m"} for rank in (1, 5)]
    a, b = evaluation(tmp_path / "a", rows[:1]), evaluation(tmp_path / "b", rows[1:])
    assert cli.main(["compare", a, b, "--rounds", "100"]) == 0
    printed = capsys.readouterr().out
    assert "a [red] dog [/b]" in printed
    assert "\x1b" not in printed


def test_queries_are_paired_by_id_and_not_by_row(tmp_path):
    rows = texts([1, 20, 3, 40])
    a, b = evaluation(tmp_path / "a", rows), evaluation(tmp_path / "b", rows[::-1])
    assert compared(a, b)["text_to_video"]["level"] == 4


def test_json_is_what_is_written(tmp_path, capsys):
    a, b = (evaluation(tmp_path / n, texts([1, 2, r])) for n, r in (("a", 3), ("b", 4)))
    assert cli.main(["compare", a, b, "--json", "--rounds", "100"]) == 0
    written = json.loads((tmp_path / "b" / "comparison.json").read_text())
    assert json.loads(capsys.readouterr().out) == written


def test_each_direction_is_compared_by_itself(tmp_path):
    a = evaluation(tmp_path / "a", texts([1, 2]) + texts([5], direction="video_to_text"))
    b = evaluation(tmp_path / "b", texts([1, 1]) + texts([9], direction="video_to_text"))
    found = compared(a, b)
    assert found.directions == ["text_to_video", "video_to_text"]
    assert (found["text_to_video"]["wins_b"], found["video_to_text"]["wins_a"]) == (1, 1)


def videos(hits: list[list[int]], answers: int) -> list[dict]:
    """Video queries: of each the first places, 1 where there is an answer."""
    array = np.array(hits, bool)
    k = array.shape[1]
    found = metrics.Labelled(
        hits=array, relevant=np.full(len(hits), answers), rank=array.argmax(axis=1) + 1.0,
        ties=np.zeros(len(hits), np.int64), gallery=50,
    )  # fmt: skip
    rows = texts(
        found.rank,
        direction="video_to_video",
        top=[[f"hit{i}" if hit else f"other{i}" for i, hit in enumerate(row)] for row in array],
        hit_ratio=metrics.hit_ratio(found, k),
        average_precision=metrics.average_precision(found, k),
        ndcg=metrics.ndcg(found, k),
    )
    return [row | {"relevant": [f"hit{i}" for i in range(k)]} for row in rows]


def test_video_queries_are_won_by_average_precision(tmp_path, capsys):
    before = videos([[1, 0, 0, 1], [0, 1, 1, 0], [1, 1, 1, 1]], 4)
    after = videos([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]], 4)
    table = {"gallery": 50, "mHR@2": 0.1, "mHR@4": 0.1}
    a = evaluation(tmp_path / "a", before, video_to_video=table)
    b = evaluation(tmp_path / "b", after, video_to_video=table)
    assert cli.main(["compare", a, b, "--k", "1,2", "--rounds", "100"]) == 0
    assert "average precision" in capsys.readouterr().out
    found = json.loads((tmp_path / "b" / "comparison.json").read_text())["video_to_video"]
    assert list(found["metrics"]) == ["mAP@4", "mHR@4", "nDCG@4", "R@1", "R@2", "MRR"]
    assert found["metrics"]["mHR@4"]["difference"] == 0
    success = found["metrics"]["R@2"]
    assert (success["a"], success["b"], success["p"]) == (1, pytest.approx(2 / 3), 1)
    assert success["ci95"] == pytest.approx([-1, 0])
    assert (found["wins_a"], found["wins_b"], found["level"]) == (1, 1, 1)
    assert found["gained"][0]["query_id"] == "q0"
    rows = pq.read_table(tmp_path / "b" / "comparison.parquet")
    assert rows["average_precision_b"].to_pylist() == [r["average_precision"] for r in after]


def test_average_precisions_at_other_k_are_not_compared(tmp_path):
    rows = videos([[1, 0], [0, 1]], 2)
    a = evaluation(tmp_path / "a", rows, video_to_video={"gallery": 50, "mHR@2": 1})
    b = evaluation(tmp_path / "b", rows, video_to_video={"gallery": 50, "mHR@9": 1})
    found = compared(a, b, k=(1,))
    assert list(found["video_to_video"]["metrics"]) == ["R@1", "MRR"]
    assert any("A has mHR@2, mAP@2, nDCG@2 and B has" in note for note in found.result["notes"])


def test_what_was_ranked_again_is_a_direction_of_its_own(tmp_path):
    a = evaluation(tmp_path / "a", texts([3, 3], reranked=[2.0, 3.0]))
    b = evaluation(tmp_path / "b", texts([3, 3], reranked=[1.0, 1.0]))
    found = compared(a, b)
    assert found.directions == ["text_to_video", "text_to_video_reranked"]
    assert found["text_to_video"]["level"] == 2
    assert found["text_to_video_reranked"]["metrics"]["MnR"]["difference"] == -1.5


def test_an_answer_that_an_index_lost_is_worse_than_any_rank(tmp_path, capsys):
    a = evaluation(tmp_path / "a", texts([np.inf, 99, np.inf, 1]))
    b = evaluation(tmp_path / "b", texts([99, np.inf, np.inf, 1]))
    assert cli.main(["compare", a, b, "--rounds", "100"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["caption", "0", "–", "→", "99"] in lines
    found = json.loads((tmp_path / "b" / "comparison.json").read_text())["text_to_video"]
    assert (found["wins_a"], found["wins_b"], found["level"]) == (1, 1, 2)
    assert found["metrics"]["MnR"] == dict.fromkeys(("a", "b", "difference", "ci95", "p"))
    rows = pq.read_table(tmp_path / "b" / "comparison.parquet")
    assert rows["rank_a"].to_pylist() == [None, 99, None, 1]
    assert rows["winner"].to_pylist() == ["b", "a", "tie", "tie"]


def test_where_only_one_lost_an_answer_the_other_s_mean_rank_is_told(tmp_path):
    a = evaluation(tmp_path / "a", texts([1, 3]))
    b = evaluation(tmp_path / "b", texts([1, np.inf]))
    mean = compared(a, b)["text_to_video"]["metrics"]["MnR"]
    assert (mean["a"], mean["b"], mean["difference"]) == (2.0, None, None)


def test_numbers_are_those_of_the_evaluation_with_ties_and_several_captions(tmp_path):
    ranks, ties = np.array([1.0, 2, 4, 8]), np.array([0, 3, 0, 1])
    rows = texts(ranks, ties=ties.tolist())
    rows[1]["relevant"] = ["v0"]
    for rule in metrics.RULES:
        a = evaluation(tmp_path / rule, rows, ties=rule)
        found = compared(a, a)
        assert found.result["ties"] == rule
        expected = metrics.retrieval(
            ranks, ties, gallery=100, ks=(1, 5, 10), rule=rule, several=True
        )
        table = found["text_to_video"]["metrics"]
        assert {name: one["b"] for name, one in table.items()} == pytest.approx(
            {name: expected[name] for name in table}
        )


def test_other_rules_for_ties_and_other_galleries_are_told(tmp_path, capsys):
    a = evaluation(tmp_path / "a", texts([1, 2]), ties="middle")
    b = evaluation(tmp_path / "b", texts([1, 2]), gallery=900)
    assert cli.main(["compare", a, b, "--rounds", "100"]) == 0
    printed = capsys.readouterr().out
    assert "note: ties count by the reference rule, in both" in printed
    assert "note: text→video: A looked among 100 candidates and B among 900" in printed


@pytest.mark.s3
def test_evaluations_on_s3_are_read_and_the_comparison_is_put_there(s3, tmp_path):
    evaluation(tmp_path / "a" / "evaluation", texts([1, 5]))
    evaluation(tmp_path / "b" / "evaluation", texts([1, 1]))
    a, b = (s3.upload(tmp_path / name, f"compared/{name}") for name in "ab")
    found = compared(a, f"{b}/evaluation")
    assert found.out == f"{b}/evaluation"
    again = compared(a, f"{b}/evaluation/evaluation.json", out=str(tmp_path / "here"))
    assert again["text_to_video"] == found["text_to_video"]
    assert found["text_to_video"]["wins_b"] == 1


def refused(capsys, *words: str) -> str:
    assert cli.main(["compare", *words]) == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told
    return told


def test_queries_of_another_set_are_refused_with_one_of_each(tmp_path, capsys):
    a = evaluation(tmp_path / "a", texts([1, 2]))
    b = evaluation(tmp_path / "b", texts([1, 2], first=50))
    told = refused(capsys, a, b)
    assert "share no query: the first of text→video is 'q0' in A and 'q50' in B" in told
    assert not (tmp_path / "b" / "comparison.json").exists()


def test_the_same_id_for_another_text_is_refused(tmp_path, capsys):
    rows = texts([1, 2])
    a = evaluation(tmp_path / "a", rows)
    b = evaluation(tmp_path / "b", [rows[0], rows[1] | {"query": "a cat"}])
    assert "the query q1 is 'caption 1' in A and 'a cat' in B" in refused(capsys, a, b)


def test_other_directions_are_refused(tmp_path, capsys):
    a = evaluation(tmp_path / "a", texts([1]))
    b = evaluation(tmp_path / "b", texts([1], direction="video_to_text"))
    told = refused(capsys, a, b)
    assert "has text→video, " in told
    assert told.rstrip().endswith("has video→text")


def test_a_query_that_stands_twice_is_refused(tmp_path, capsys):
    a = evaluation(tmp_path / "a", texts([1, 2]) + texts([3]))
    assert "text_to_video has the query q0 more than once" in refused(capsys, a, a)


def test_a_place_without_an_evaluation_is_refused_with_the_remedy(tmp_path, capsys):
    b = evaluation(tmp_path / "b", texts([1]))
    told = refused(capsys, str(tmp_path / "nothing"), b)
    assert f"no evaluation.parquet in {tmp_path}/nothing or {tmp_path}/nothing/evaluation" in told
    assert "vidembed evaluate" in told


def broken(folder: Path, kind: str) -> str:
    evaluation(folder, texts([1]))
    if kind == "older":
        pq.write_table(pa.table({"query": ["a"], "rank": [1.0]}), folder / "evaluation.parquet")
    elif kind == "no json":
        (folder / "evaluation.json").unlink()
    elif kind == "bad json":
        (folder / "evaluation.json").write_text("{")
    elif kind == "list":
        (folder / "evaluation.json").write_text("[]")
    elif kind == "words":
        table = pq.read_table(folder / "evaluation.parquet")
        column = pa.array(["first"])
        pq.write_table(table.set_column(4, "rank", column), folder / "evaluation.parquet")
    else:
        (folder / "evaluation.parquet").write_bytes(b"PAR1 no more")
    return str(folder)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("older", "has no column direction, query_id, ties: it is of an older vidembed"),
        ("no json", "but no evaluation.json: evaluate again"),
        ("bad json", "evaluation.json: not valid JSON"),
        ("list", "evaluation.json: expected an object"),
        ("words", "column rank: "),
        ("cut", "evaluation.parquet cannot be read"),
    ],
)
def test_a_damaged_evaluation_is_refused_and_named(tmp_path, capsys, kind, words):
    b = evaluation(tmp_path / "b", texts([1]))
    assert words in refused(capsys, broken(tmp_path / "a", kind), b)


def test_options_without_a_meaning_are_refused(tmp_path):
    for options in ({"k": (0,)}, {"k": ()}, {"rounds": 5}, {"seed": -1}):
        with pytest.raises(ConfigError, match=f"--{next(iter(options))}"):
            CompareConfig.make({"a": "a", "b": "b"} | options)
