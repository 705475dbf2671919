"""Files of queries, as people write them and as data sets ship them, beside a run."""

from __future__ import annotations

import csv
import gzip
import json
import pickle
import time
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import ROOT, SHARED
from tests.helpers.runs import bad, good, record
from vidembed import schema
from vidembed.config import EvaluateConfig
from vidembed.config.evaluate import Layout
from vidembed.errors import ConfigError, ManifestError
from vidembed.evaluation import queries
from vidembed.evaluation.matching import REASONS
from vidembed.store.run import Run

ONE_KA = SHARED / "captions" / "MSRVTT_JSFUSION_test.csv"


def run_of(folder: Path, videos, failed=(), **columns) -> Run:
    """A run with these videos; columns: a value for each of them."""
    run = Run.create_or_resume(str(folder / "run"), record())
    kept = schema.vectors(4, pa.schema([(name, pa.array(v).type) for name, v in columns.items()]))
    rows = [good(video, [1, 0, 0, 0]) for video in videos]
    for name, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    run.commit(pa.Table.from_pylist([*rows, *map(bad, failed)], schema=kept))
    return run


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def read(run: Run, source: Path | str | None = None, **options) -> queries.Queries:
    config = EvaluateConfig.make(
        {"run": run.uri, "queries": None if source is None else str(source)} | options
    )
    return queries.read(config, run, run.read(["video_id"])["video_id"].combine_chunks())


def refusal(run: Run, source: Path | str | None = None, **options) -> str:
    with pytest.raises((ConfigError, ManifestError)) as caught:
        read(run, source, **options)
    return str(caught.value)


def texts(found: queries.Queries) -> list[tuple[str, str, str]]:
    assert found.texts is not None
    return [(r["query_id"], r["text"], r["video_id"]) for r in found.texts.to_pylist()]


def labels(table: pa.Table | None) -> dict[str, str]:
    assert table is not None
    return {row["video_id"]: row["label"] for row in table.to_pylist()}


def test_a_row_of_a_table_asks_for_its_video(tmp_path):
    run = run_of(tmp_path, ["a", "b", "c"])
    source = write(tmp_path / "q.csv", "video_id,caption\nb,a cat\na,a dog\n")
    found = read(run, source)
    assert texts(found) == [("b", "a cat", "b"), ("a", "a dog", "a")]
    assert (found.layout, found.left_out) == ("table", {})
    assert found.labels is found.gallery_labels is None


def test_what_cannot_be_asked_is_counted_by_its_reason(tmp_path):
    run = run_of(tmp_path, ["a", "b"], failed=["x"])
    source = write(
        tmp_path / "q.csv",
        'video_id,caption\na,a dog\nb,\nb,"  "\nb,a cat\nx,it failed\nnever,it never was\n,no id\n',
    )
    found = read(run, source)
    assert [text for _, text, _ in texts(found)] == ["a dog", "a cat"]
    assert found.left_out == {
        "no id": 1, "no text": 2, "failed in the run": 1, "not in the run": 1,
    }  # fmt: skip


def test_several_captions_of_a_video_are_queries_with_numbers(tmp_path):
    run = run_of(tmp_path, ["a", "b"])
    source = write(tmp_path / "q.csv", "video_id,caption\na,one\nb,only\na,two\na,one\n")
    assert texts(read(run, source)) == [
        ("a#0", "one", "a"), ("b", "only", "b"), ("a#1", "two", "a"), ("a#2", "one", "a"),
    ]  # fmt: skip


def test_captions_are_numbered_in_the_order_of_the_file(tmp_path):
    run = run_of(tmp_path, ["a", "b"])
    rows = [("ab"[k % 3 == 0], f"text {k}") for k in range(2000)]
    table = pa.table({"video_id": [v for v, _ in rows], "caption": [t for _, t in rows]})
    pq.write_table(table, tmp_path / "q.parquet")
    seen = {"a": 0, "b": 0}
    for name, text, video in texts(read(run, tmp_path / "q.parquet")):
        assert (name, (video, text)) == (f"{video}#{seen[video]}", rows[sum(seen.values())])
        seen[video] += 1


def test_a_list_of_captions_is_as_many_queries(tmp_path):
    run = run_of(tmp_path, ["a", "b", "c", "d"])
    table = pa.table(
        {"video_id": ["a", "b", "c", "d"], "caption": [["one", "two"], [], None, ["four", ""]]}
    )
    pq.write_table(table, tmp_path / "q.parquet")
    found = read(run, tmp_path / "q.parquet")
    assert texts(found) == [("a#0", "one", "a"), ("a#1", "two", "a"), ("d#0", "four", "d")]
    assert found.left_out == {"no text": 3}


def test_a_text_keeps_its_name_whatever_the_run_holds(tmp_path):
    source = write(tmp_path / "q.csv", "video_id,caption\na,one\nb,\na,two\nb,three\n")
    whole = read(run_of(tmp_path / "1", ["a", "b"]), source)
    part = read(run_of(tmp_path / "2", ["b"]), source)
    assert set(texts(part)) == {t for t in texts(whole) if t[2] == "b"} == {("b#1", "three", "b")}


def test_ids_that_are_not_the_runs_are_taken_by_file_name(tmp_path):
    run = run_of(tmp_path, ["videos/video7.mp4", "videos/a.b.MKV"], failed=["videos/video9.mp4"])
    source = write(tmp_path / "q.csv", "video_id,caption\nvideo7,seven\na.b,dots\nvideo9,nine\n")
    found = read(run, source)
    assert texts(found) == [
        ("video7", "seven", "videos/video7.mp4"), ("a.b", "dots", "videos/a.b.MKV"),
    ]  # fmt: skip
    assert found.left_out == {"failed in the run": 1}


def test_one_exact_id_is_enough_for_ids_to_count_as_they_are(tmp_path):
    run = run_of(tmp_path, ["a", "videos/b.mp4"])
    source = write(tmp_path / "q.csv", "video_id,caption\na,one\nb,two\n")
    found = read(run, source)
    assert [video for _, _, video in texts(found)] == ["a"]
    assert found.left_out == {"not in the run": 1}


def test_a_file_name_that_two_videos_have_is_refused(tmp_path):
    run = run_of(tmp_path, ["x/a.mp4", "y/a.mp4", "z/b.mp4"])
    told = refusal(run, write(tmp_path / "q.csv", "video_id,caption\na,one\nb,two\n"))
    assert "'a' may be 'x/a.mp4' or 'y/a.mp4'" in told
    # Nobody asks for those that are alike.
    alone = write(tmp_path / "alone.csv", "video_id,caption\nb,two\n")
    assert texts(read(run, alone)) == [("b", "two", "z/b.mp4")]


def test_two_ids_that_would_be_one_video_are_refused(tmp_path):
    run = run_of(tmp_path, ["a.mp4", "b.mp4"])
    source = write(tmp_path / "q.csv", "video_id,caption\ntrain/a.avi,one\ntest/a.avi,two\n")
    assert "'test/a.avi' and 'train/a.avi' would be one video" in refusal(run, source)


def test_ids_none_of_which_is_there_are_refused_with_the_first_of_each(tmp_path):
    run = run_of(tmp_path, ["a", "b"])
    told = refusal(run, write(tmp_path / "q.csv", "video_id,caption\nx,one\n"))
    assert "q.csv: none of its 1 ids" in told
    assert "'x'" in told
    assert "'a'" in told


def test_ids_and_labels_that_are_numbers_are_text(tmp_path):
    run = run_of(tmp_path, ["007", "7"])
    source = write(tmp_path / "q.csv", "video_id,caption,label\n007,12,1.50\n7,1e3,1.50\n")
    found = read(run, source)
    assert texts(found) == [("007", "12", "007"), ("7", "1e3", "7")]
    assert labels(found.labels) == {"007": "1.50", "7": "1.50"}
    pq.write_table(pa.table({"id": [7], "caption": ["a dog"]}), tmp_path / "q.parquet")
    assert texts(read(run, tmp_path / "q.parquet")) == [("7", "a dog", "7")]


def test_ids_that_are_fractions_are_refused(tmp_path):
    run = run_of(tmp_path, ["7"])
    pq.write_table(pa.table({"video_id": [7.0], "caption": ["a dog"]}), tmp_path / "q.parquet")
    assert "column video_id holds double" in refusal(run, tmp_path / "q.parquet")


def test_a_byte_order_mark_and_quoted_lines_are_read(tmp_path):
    run = run_of(tmp_path, ["a"])
    source = tmp_path / "q.csv"
    source.write_bytes('﻿video_id,caption\r\na,"a dög, ""two""\nlines"\r\n'.encode())
    assert texts(read(run, source)) == [("a", 'a dög, "two"\nlines', "a")]


def test_another_encoding_is_refused_with_the_file(tmp_path):
    run = run_of(tmp_path, ["a"])
    source = tmp_path / "q.csv"
    source.write_bytes("video_id,caption\na,ein Käse\n".encode("latin-1"))
    assert "q.csv" in refusal(run, source)
    assert "UTF8" in refusal(run, source)


def test_columns_of_ones_own_are_named(tmp_path):
    run = run_of(tmp_path, ["a", "b"])
    source = write(tmp_path / "q.csv", "clip,says\na,a dog\nb,a cat\n")
    assert "no column video_id or id" in refusal(run, source)
    told = refusal(run, source, id_column="clip")
    assert "caption or sentence" in told
    assert "--text-column" in told
    found = read(run, source, id_column="clip", text_column="says")
    assert texts(found) == [("a", "a dog", "a"), ("b", "a cat", "b")]
    assert "no column nope" in refusal(run, source, id_column="clip", text_column="nope")
    assert "no column nope" in refusal(run, source, id_column="nope")


def test_a_column_of_query_ids_names_the_texts(tmp_path):
    run = run_of(tmp_path, ["a"])
    source = write(tmp_path / "q.csv", "query_id,video_id,caption\nx,a,one\ny,a,two\n,a,three\n")
    assert [name for name, _, _ in texts(read(run, source))] == ["x", "y", "a"]


def test_a_part_of_a_table_is_chosen_by_its_column_split(tmp_path):
    run = run_of(tmp_path, ["a", "b"])
    source = write(tmp_path / "q.csv", "video_id,caption,split\na,one,train\nb,two,test\nz,x,val\n")
    found = read(run, source, split="test")
    assert texts(found) == [("b", "two", "b")]
    assert found.left_out == {}
    assert "no part 'dev'" in refusal(run, source, split="dev")
    assert "test, train, val" in refusal(run, source, split="dev")
    plain = write(tmp_path / "plain.csv", "video_id,caption\na,one\n")
    assert "no column split" in refusal(run, plain, split="test")


def test_without_a_file_the_runs_own_columns_ask(tmp_path):
    run = run_of(tmp_path, ["a", "b", "c"], caption=["one", "", None], label=["x", "x", "y"])
    found = read(run)
    assert texts(found) == [("a", "one", "a")]
    assert labels(found.labels) == {"a": "x", "b": "x"}
    assert labels(found.gallery_labels) == {"a": "x", "b": "x", "c": "y"}
    assert found.left_out == {"no text": 2, "label alone": 1}
    assert found.layout == "run"
    assert "--split" in refusal(run, split="test")
    assert "--layout" in refusal(run, layout="table")


def test_a_run_without_captions_says_what_it_has(tmp_path):
    run = run_of(tmp_path, ["a"], title=["one"])
    told = refusal(run)
    assert "nothing to ask" in told
    assert "title" in told
    assert "--queries" in told
    assert texts(read(run, text_column="title")) == [("a", "one", "a")]


def test_videos_of_one_label_ask_for_each_other(tmp_path):
    run = run_of(tmp_path, ["a", "b", "c", "d", "e"])
    source = write(tmp_path / "q.csv", "video_id,label\na,x\nb,x\nc,y\nd,\nz,x\n")
    found = read(run, source)
    assert found.texts is None
    assert labels(found.labels) == {"a": "x", "b": "x"}
    assert labels(found.gallery_labels) == {"a": "x", "b": "x", "c": "y"}
    assert found.left_out == {"not in the run": 1, "no label": 1, "label alone": 1}


def test_labels_of_a_split_ask_among_all(tmp_path):
    run = run_of(tmp_path, ["a", "b", "c"])
    source = write(tmp_path / "q.csv", "video_id,label,split\na,x,train\nb,x,train\nc,x,test\n")
    found = read(run, source, split="test")
    assert labels(found.labels) == {"c": "x"}
    assert labels(found.gallery_labels) == {"a": "x", "b": "x", "c": "x"}


def test_a_video_with_two_labels_is_refused(tmp_path):
    run = run_of(tmp_path, ["a", "b"])
    source = write(tmp_path / "q.csv", "video_id,caption,label\na,1,x\nb,2,x\na,3,y\n")
    told = refusal(run, source)
    assert "rows 1 and 3" in told
    assert "(x, y)" in told
    assert len(texts(read(run, source, directions="text_to_video"))) == 3


def test_labels_that_are_all_alone_are_refused(tmp_path):
    run = run_of(tmp_path, ["a", "b"])
    source = write(tmp_path / "q.csv", "video_id,label\na,x\nb,y\n")
    assert "no two videos have one label" in refusal(run, source)


def test_labels_of_the_run_serve_a_file_of_captions_that_asks_for_them(tmp_path):
    run = run_of(tmp_path, ["a", "b"], label=["x", "x"])
    source = write(tmp_path / "q.csv", "video_id,caption\na,one\n")
    assert read(run, source).labels is None
    found = read(run, source, directions="video_to_video")
    assert found.texts is None
    assert labels(found.labels) == {"a": "x", "b": "x"}
    told = refusal(run, source, directions="video_to_video", label_column="kind")
    assert "no column kind" in told


def test_texts_that_nobody_asks_for_are_not_read(tmp_path):
    run = run_of(tmp_path, ["a", "b"])
    source = write(tmp_path / "q.csv", "video_id,caption,label\na,,x\nb,,x\n")
    found = read(run, source, directions="video_to_video")
    assert (found.texts, found.left_out) == (None, {})
    told = refusal(run, source, directions="text_to_video")
    assert "no text for any video" in told


def test_rows_are_broken_down_by_columns_of_the_file_else_of_the_run(tmp_path):
    run = run_of(tmp_path, ["a", "b"], place=["sea", "hill"], label=["x", "x"])
    source = write(tmp_path / "q.csv", "video_id,caption,kind\nb,two,k2\na,one,k1\nb,more,k3\n")
    found = read(run, source, by="kind,place", label_column="label")
    assert found.texts.select(["kind", "place"]).to_pylist() == [
        {"kind": "k2", "place": "hill"}, {"kind": "k1", "place": "sea"},
        {"kind": "k3", "place": "hill"},
    ]  # fmt: skip
    assert found.labels.select(["video_id", "kind", "place"]).to_pylist() == [
        {"video_id": "a", "kind": "k1", "place": "sea"},
        {"video_id": "b", "kind": "k2", "place": "hill"},
    ]
    told = refusal(run, source, by="nope")
    assert "--by nope" in told
    assert "place" in told


def test_videos_of_another_run_ask_with_their_own_labels_or_those_of_the_file(tmp_path):
    run = run_of(tmp_path / "g", ["a", "b", "c"])
    source = write(tmp_path / "q.csv", "video_id,label\na,x\nb,x\nc,y\nq,y\nr,z\n")
    other = run_of(tmp_path / "o", ["q", "r", "s"])
    found = read(run, source, query_run=other.uri)
    assert labels(found.labels) == {"q": "y"}
    assert labels(found.gallery_labels) == {"a": "x", "b": "x", "c": "y"}
    assert found.left_out == {"not in the run": 2, "no label": 1, "label alone": 1}
    own = run_of(tmp_path / "own", ["q", "r"], label=["x", "x"], place=["sea", "hill"])
    found = read(run, source, query_run=own.uri, by="place")
    assert labels(found.labels) == {"q": "x", "r": "x"}
    assert found.labels["place"].to_pylist() == ["sea", "hill"]
    bare = run_of(tmp_path / "bare", ["m"])
    assert "none of its videos has a label" in refusal(run, source, query_run=bare.uri)


def test_a_query_run_that_is_the_run_asks_as_without(tmp_path):
    run = run_of(tmp_path, ["a", "b", "c"], label=["x", "x", "y"])
    found = read(run, query_run=run.uri)
    assert labels(found.labels) == {"a": "x", "b": "x"}


# MSR-VTT's 1k-A test split.


@pytest.mark.skipif(not ONE_KA.exists(), reason="the shared captions are not here")
def test_the_real_1ka_file_asks_a_thousand_texts(tmp_path):
    with ONE_KA.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    run = run_of(tmp_path, [f"{row['video_id']}.mp4" for row in rows])
    found = read(run, ONE_KA)
    assert (found.layout, found.left_out) == ("msrvtt-1ka", {})
    assert texts(found) == [(row["key"], row["sentence"], f"{row['video_id']}.mp4") for row in rows]


def test_the_1ka_layout_may_be_named(tmp_path):
    run = run_of(tmp_path, ["video1"])
    source = write(tmp_path / "q.csv", "key,video_id,sentence\nret0,video1,a dog\n")
    assert read(run, source).layout == "table"
    found = read(run, source, layout="msrvtt-1ka")
    assert texts(found) == [("ret0", "a dog", "video1")]
    wrong = write(tmp_path / "w.csv", "video_id,caption\nvideo1,a dog\n")
    assert "no column key, sentence" in refusal(run, wrong, layout="msrvtt-1ka")


# Towhee's reverse video search.

REVERSE = """id,path,label
0,./train/country_line_dancing/bTbC3w_NIvM.mp4,country_line_dancing
1,./train/country_line_dancing/n2dWtEmNn5c.mp4,country_line_dancing
2,./train/eating_cake/zta-Iv-xK7I.mp4,eating_cake
"""


@pytest.mark.parametrize(
    "ids",
    [
        ["0", "1", "2"],
        ["country_line_dancing/bTbC3w_NIvM.mp4", "country_line_dancing/n2dWtEmNn5c.mp4",
         "eating_cake/zta-Iv-xK7I.mp4"],
    ],
)  # fmt: skip
def test_the_reverse_search_file_labels_a_run_made_of_it_or_of_its_folder(tmp_path, ids):
    run = run_of(tmp_path, ids)
    found = read(run, write(tmp_path / "reverse_video_search.csv", REVERSE))
    assert found.layout == "reverse-search"
    assert labels(found.labels) == dict.fromkeys(ids[:2], "country_line_dancing")
    assert found.left_out == {"label alone": 1}


def test_videos_to_search_with_are_labelled_by_their_folder_as_in_the_tutorial(tmp_path):
    run = run_of(tmp_path / "train", ["0", "1", "2"])
    asking = run_of(tmp_path / "test", ["eating_cake/q.mp4", "tango/r.mp4", "loose.mp4"])
    source = write(tmp_path / "reverse_video_search.csv", REVERSE)
    found = read(run, source, query_run=asking.uri)
    assert labels(found.labels) == {"eating_cake/q.mp4": "eating_cake"}
    assert found.left_out == {"no label": 1, "label alone": 1}


# The page that says all this.


def test_every_layout_and_every_reason_is_on_the_page():
    page = (ROOT / "docs" / "queries.md").read_text(encoding="utf-8")
    layouts = get_args(Layout)
    missing = [name for name in layouts if name != "auto" and f"\n## `{name}`\n" not in page]
    reasons = [*REASONS.values(), "no text", "no label", "label alone"]
    missing += [reason for reason in reasons if f"| `{reason}` |" not in page]
    assert not missing


# Size.


def test_a_million_videos_are_matched_within_seconds(tmp_path):
    run = run_of(tmp_path, ["a"])
    n = 1_000_000
    numbers = pa.array(np.arange(n)).cast("string")
    gallery = pa.compute.binary_join_element_wise("videos/", numbers, ".mp4", "")
    asked = pa.table({"video_id": numbers, "caption": numbers})
    pq.write_table(asked, tmp_path / "q.parquet")
    config = EvaluateConfig.make({"run": run.uri, "queries": str(tmp_path / "q.parquet")})
    start = time.process_time()
    found = queries.read(config, run, gallery)
    assert time.process_time() - start < 20
    assert len(found.texts) == n
    assert found.texts["video_id"][n - 1].as_py() == f"videos/{n - 1}.mp4"


# MSR-VTT's annotations.

MSRVTT = {
    "info": {"year": "2017"},
    "videos": [
        {"video_id": f"video{n}", "id": n, "category": c, "split": s, "start time": 1.5,
         "end time": 9.0, "url": "https://www.youtube.com/watch?v=9lZi22qLlEo"}
        for n, c, s in ((0, 9, "train"), (1, 16, "validate"), (2, 9, "test"))
    ],
    "sentences": [
        {"caption": "a car is shown", "video_id": "video0", "sen_id": 0},
        {"caption": "in a kitchen a woman adds ingredients", "video_id": "video2", "sen_id": 20},
        {"caption": "a woman cooks", "video_id": "video2", "sen_id": 21},
        {"caption": "a man sings", "video_id": "video1", "sen_id": 40},
    ],
}  # fmt: skip


def as_json(path: Path, document: object) -> Path:
    return write(path, json.dumps(document))


def test_msrvtt_asks_each_sentence_of_the_split(tmp_path):
    run = run_of(tmp_path, [f"TestVideo/video{n}.mp4" for n in range(3)])
    source = as_json(tmp_path / "MSRVTT_data.json", MSRVTT)
    found = read(run, source, by="category")
    assert found.layout == "msrvtt"
    assert [name for name, _, _ in texts(found)] == ["0", "20", "21", "40"]
    assert found.texts["category"].to_pylist() == ["9", "9", "9", "16"]
    test = read(run, source, split="test")
    assert texts(test) == [
        ("20", "in a kitchen a woman adds ingredients", "TestVideo/video2.mp4"),
        ("21", "a woman cooks", "TestVideo/video2.mp4"),
    ]
    assert "test, train, validate" in refusal(run, source, split="val")


def test_a_category_may_be_the_label(tmp_path):
    run = run_of(tmp_path, ["video0", "video1", "video2"])
    source = as_json(tmp_path / "MSRVTT_data.json", MSRVTT)
    found = read(run, source, label_column="category")
    assert labels(found.labels) == {"video0": "9", "video2": "9"}


# MSVD.

CAPTIONS = {
    "-4wsuPCjDBc_5_15": [["a", "squirrel", "eats", "a", "peanut"], ["it", "eats"]],
    "04Gt01vatkk_248_265": ["a man cooks"],
}


def test_msvd_joins_the_words_of_its_pickle(tmp_path):
    run = run_of(tmp_path, [f"{video}.avi" for video in CAPTIONS])
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "raw-captions.pkl").write_bytes(pickle.dumps(CAPTIONS, protocol))
        found = read(run, tmp_path / "raw-captions.pkl")
        assert texts(found) == [
            ("-4wsuPCjDBc_5_15#0", "a squirrel eats a peanut", "-4wsuPCjDBc_5_15.avi"),
            ("-4wsuPCjDBc_5_15#1", "it eats", "-4wsuPCjDBc_5_15.avi"),
            ("04Gt01vatkk_248_265", "a man cooks", "04Gt01vatkk_248_265.avi"),
        ]
        assert found.layout == "msvd"


def test_msvd_finds_its_split_in_the_list_beside(tmp_path):
    run = run_of(tmp_path, list(CAPTIONS))
    (tmp_path / "raw-captions.pkl").write_bytes(pickle.dumps(CAPTIONS))
    write(tmp_path / "test_list.txt", "04Gt01vatkk_248_265\nnever\n\n")
    found = read(run, tmp_path / "raw-captions.pkl", split="test")
    assert [text for _, text, _ in texts(found)] == ["a man cooks"]
    assert "val_list.txt" in refusal(run, tmp_path / "raw-captions.pkl", split="val")


LINES = """# of the corpus

-4wsuPCjDBc_5_15 a squirrel eats
-4wsuPCjDBc_5_15 it eats a peanut
04Gt01vatkk_248_265 a man cooks
"""


@pytest.mark.parametrize(
    ("lines", "mapping"),
    [
        ("vid1\ta squirrel eats\nvid1\tit eats a peanut\nvid2\ta man cooks\n",
         "-4wsuPCjDBc_5_15 vid1\n04Gt01vatkk_248_265 vid2\n"),
        (LINES, None),
    ],
)  # fmt: skip
def test_msvd_in_lines_of_text_is_read_with_its_mapping(tmp_path, lines, mapping):
    run = run_of(tmp_path, [f"YouTubeClips/{video}.avi" for video in CAPTIONS])
    source = write(tmp_path / "sents_test_lc_nopunc.txt", lines)
    if mapping:
        write(tmp_path / "youtube_mapping.txt", mapping)
    found = read(run, source)
    assert [(text, video) for _, text, video in texts(found)] == [
        ("a squirrel eats", "YouTubeClips/-4wsuPCjDBc_5_15.avi"),
        ("it eats a peanut", "YouTubeClips/-4wsuPCjDBc_5_15.avi"),
        ("a man cooks", "YouTubeClips/04Gt01vatkk_248_265.avi"),
    ]


class _Runs:
    """Unpickled as usual, it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.write_text, (self.target, "ran")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(tmp_path, protocol):
    run = run_of(tmp_path, ["a"])
    source, written = tmp_path / "raw-captions.pkl", tmp_path / "ran"
    source.write_bytes(pickle.dumps({"a": [_Runs(written)]}, protocol))
    told = refusal(run, source)
    assert "raw-captions.pkl" in told
    assert "not opened" in told
    assert not written.exists()
    # The file is what it is taken for.
    pickle.loads(source.read_bytes())
    assert written.read_text() == "ran"


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        pickle.dumps(Path("a")),
        pickle.dumps({"a": {1, 2}}),
        pickle.dumps({"a": [b"bytes"]}),
        pickle.dumps(["a"]),
        pickle.dumps({"a": [["a", 1]]}),
        pickle.dumps({"a": 1}),
        pickle.dumps({1: ["a"]}),
        pickle.dumps(CAPTIONS)[:-20],
        b"\x80\x04}r\xff\xff\xff\x7f.",
        b"no pickle at all",
        b"",
    ],
)
def test_a_pickle_of_anything_else_is_refused(tmp_path, data):
    run = run_of(tmp_path, ["a"])
    (tmp_path / "raw-captions.pkl").write_bytes(data)
    assert "raw-captions.pkl" in refusal(run, tmp_path / "raw-captions.pkl")


# DiDeMo.


def test_didemo_makes_one_paragraph_of_a_videos_descriptions(tmp_path):
    run = run_of(tmp_path, ["10015567@N08_3655084291_a8b58478b4.mp4", "b.avi"])
    source = as_json(
        tmp_path / "test_data.json",
        [
            {"annotation_id": n, "description": text, "video": video, "times": [[0, 1]],
             "num_segments": 6, "reference_description": text}
            for n, (video, text) in enumerate([
                ("10015567@N08_3655084291_a8b58478b4.mov", "a dog runs"),
                ("b.avi", "rain"),
                ("10015567@N08_3655084291_a8b58478b4.mov", "it sits down"),
            ])
        ],
    )  # fmt: skip
    found = read(run, source)
    # One id is the run's to the letter, so the others count as they are, too.
    assert texts(found) == [("b.avi", "rain", "b.avi")]
    run = run_of(tmp_path / "mp4", ["10015567@N08_3655084291_a8b58478b4.mp4", "b.mp4"])
    found = read(run, source)
    assert found.layout == "didemo"
    assert [(text, video) for _, text, video in texts(found)] == [
        ("a dog runs it sits down", "10015567@N08_3655084291_a8b58478b4.mp4"),
        ("rain", "b.mp4"),
    ]
    write(tmp_path / "test_list.txt", "b.avi\n")
    assert [text for _, text, _ in texts(read(run, source, split="test"))] == ["rain"]


# YouCook2.

YOUCOOK = {
    "database": {
        "GLd3aX16zBg": {
            "duration": 241.62, "subset": "training", "recipe_type": "113",
            "video_url": "https://www.youtube.com/watch?v=GLd3aX16zBg",
            "annotations": [
                {"segment": [90, 102], "id": 0, "sentence": "spread margarine on bread"},
                {"segment": [114, 127], "id": 1, "sentence": "place a slice of cheese"},
            ],
        },
        "xHr8X2Wpmno": {
            "duration": 200.0, "subset": "validation", "recipe_type": "226",
            "annotations": [{"segment": [47, 60], "id": 0, "sentence": "pick the ends off"}],
        },
    }
}  # fmt: skip
YOUCOOK_CSV = """end,start,task,text,video_id
60,47,226,pick the ends off the verdalago,xHr8X2Wpmno
102,90,113, spread margarine on bread,GLd3aX16zBg
60,47,226,the same again,xHr8X2Wpmno
"""


def test_youcook2_asks_for_segments_by_one_spelling_in_both_its_files(tmp_path):
    run = run_of(tmp_path, ["xHr8X2Wpmno_47_60", "GLd3aX16zBg_90_102", "GLd3aX16zBg_114_127"])
    found = read(run, as_json(tmp_path / "youcookii_annotations_trainval.json", YOUCOOK))
    assert found.layout == "youcook2"
    assert texts(found) == [
        (video, text, video)
        for video, text in [
            ("GLd3aX16zBg_90_102", "spread margarine on bread"),
            ("GLd3aX16zBg_114_127", "place a slice of cheese"),
            ("xHr8X2Wpmno_47_60", "pick the ends off"),
        ]
    ]
    source = write(tmp_path / "validation_youcook.csv", YOUCOOK_CSV)
    found = read(run, source, by="task")
    assert found.layout == "youcook2"
    assert texts(found) == [
        ("xHr8X2Wpmno_47_60#0", "pick the ends off the verdalago", "xHr8X2Wpmno_47_60"),
        ("GLd3aX16zBg_90_102", " spread margarine on bread", "GLd3aX16zBg_90_102"),
        ("xHr8X2Wpmno_47_60#1", "the same again", "xHr8X2Wpmno_47_60"),
    ]
    assert found.texts["task"].to_pylist() == ["226", "113", "226"]


def test_youcook2_is_chosen_by_subset(tmp_path):
    run = run_of(tmp_path, ["cut/xHr8X2Wpmno_47_60.mp4", "cut/GLd3aX16zBg_90_102.mp4"])
    source = as_json(tmp_path / "annotations.json", YOUCOOK)
    assert [video for _, _, video in texts(read(run, source, split="validation"))] == [
        "cut/xHr8X2Wpmno_47_60.mp4"
    ]
    assert "training, validation" in refusal(run, source, split="test")


# MUGEN.


def mugen(path: Path) -> Path:
    name = "model_reward_1.0_seed_402_level_{}_video_frames_0175_to_0270"

    def record(level: str, *annotations: tuple[str, str]) -> dict:
        video = name.format(level)
        return {
            "video": {"id": video, "video_file": f"seed_402/videos/{video}.mp4", "num_frames": 96,
                      "json_file": f"seed_402/video_metadata/{video}.json"},
            "annotations": [{"type": kind, "text": text, "actions": []}
                            for kind, text in annotations],
        }  # fmt: skip

    data = [
        record("a", ("auto", "Mugen walks"), ("manual", "it walks left"), ("manual", "it goes")),
        record("b", ("auto", "Mugen jumps")),
        record("c", ("auto", "Mugen dies"), ("manual", "it is slain")),
    ]
    return as_json(path, {"metadata": {"version": "v2", "type": "3.2s", "split": "test"},
                          "data": data})  # fmt: skip


def test_mugen_asks_the_first_manual_text_of_each_video_as_its_authors_do(tmp_path):
    name = "model_reward_1.0_seed_402_level_{}_video_frames_0175_to_0270"
    run = run_of(tmp_path, [f"seed_402/videos/{name.format(level)}.mp4" for level in "abc"])
    source = mugen(tmp_path / "test.json")
    found = read(run, source)
    assert found.layout == "mugen"
    assert [text for _, text, _ in texts(found)] == ["it walks left", "it is slain"]
    assert found.left_out == {"no text": 1}
    manual = read(run, source, split="manual")
    assert [text for _, text, _ in texts(manual)] == ["it walks left", "it goes", "it is slain"]
    auto = read(run, source, split="auto")
    assert [text for _, text, _ in texts(auto)] == ["Mugen walks", "Mugen jumps", "Mugen dies"]
    by_name = run_of(tmp_path / "named", [name.format(level) for level in "ac"])
    assert len(texts(read(by_name, source))) == 2


# JSON of one's own, and files that are not what they are taken for.


def test_a_json_list_of_rows_is_a_table(tmp_path):
    run = run_of(tmp_path, ["a", "b"])
    source = as_json(
        tmp_path / "q.json",
        [{"video_id": "a", "caption": ["one", "two"]}, {"video_id": "b", "caption": ["three"]}],
    )
    found = read(run, source)
    assert found.layout == "table"
    assert [name for name, _, _ in texts(found)] == ["a#0", "a#1", "b"]


@pytest.mark.parametrize(
    ("name", "content", "options", "told"),
    [
        ("q.json", "{", {}, "not valid JSON"),
        ("q.json", '{"a": 1}', {}, "its JSON is none of"),
        ("q.json", '"words"', {}, "its JSON is none of"),
        ("q.json", '[{"video_id": "a"}, 3]', {}, "its JSON is none of"),
        ("q.json", "[" * 100_000, {}, "not valid JSON"),
        ("q.json", '{"videos": 3, "sentences": []}', {}, "videos is not a list"),
        ("q.json", '{"videos": [], "sentences": [{"caption": "x"}]}', {}, "sentences[0]"),
        ("q.json", '{"videos": [{}], "sentences": []}', {}, "videos[0]"),
        ("q.json", '{"database": {"a": {"annotations": [{"segment": [1]}]}}}', {}, "of a"),
        ("q.json", '{"database": {"a": 3}}', {}, "annotations is not a list"),
        ("q.json", '{"metadata": {}, "data": [{"video": {}}]}', {}, "data[0].video"),
        ("q.json", "{}", {"layout": "didemo"}, "not laid out as didemo"),
        ("q.json", "[]", {"layout": "msrvtt"}, "not laid out as msrvtt"),
        ("q.json", "{}", {"layout": "msvd"}, "not laid out as msvd"),
        ("q.csv", "video_id,caption\na,b\n", {"layout": "mugen"}, "not laid out as mugen"),
        ("q.csv", "video_id,caption\na,b\n", {"layout": "youcook2"}, "no column start, end, text"),
        ("q.csv", "end,start,task,text,video_id\nx,1,2,t,a\n", {}, "row 1 has 'x'"),
        ("q.csv", "", {}, "no rows"),
        ("q.txt", "onlyanid\n", {}, "line 1"),
        ("q.txt", "", {}, "no captions"),
        ("q.doc", "a", {}, "q.doc"),
    ],
)
def test_a_file_that_is_not_what_it_is_taken_for_is_refused_by_name(
    tmp_path, name, content, options, told
):
    run = run_of(tmp_path, ["a"])
    message = refusal(run, write(tmp_path / name, content), **options)
    assert name in message
    assert told in message


def test_a_file_that_is_not_there_is_refused(tmp_path):
    run = run_of(tmp_path, ["a"])
    for name in ("q.csv", "q.json", "q.pkl", "q.txt", "q"):
        assert str(tmp_path / name) in refusal(run, tmp_path / name)


def test_other_encodings_of_json_are_refused_with_the_remedy(tmp_path):
    run = run_of(tmp_path, ["a"])
    source = tmp_path / "q.json"
    source.write_bytes(json.dumps([{"video_id": "a", "caption": "b"}]).encode("utf-16"))
    assert "not UTF-8" in refusal(run, source)
    source.write_bytes('﻿[{"video_id": "a", "caption": "dög"}]'.encode())
    assert texts(read(run, source)) == [("a", "dög", "a")]


def test_gzipped_files_are_read(tmp_path):
    run = run_of(tmp_path, ["video0", "video1", "video2"])
    source = tmp_path / "MSRVTT_data.json.gz"
    source.write_bytes(gzip.compress(json.dumps(MSRVTT).encode()))
    assert len(texts(read(run, source))) == 4
    source.write_bytes(b"no gzip")
    assert "MSRVTT_data.json.gz" in refusal(run, source)
