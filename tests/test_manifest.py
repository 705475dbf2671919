"""The manifest: found and read in every format, and wrong rows named exactly."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import SHARED
from vidembed.config import EmbedConfig
from vidembed.errors import ConfigError, ManifestError
from vidembed.manifest import Columns, Manifest, open_manifest, read_table

ONE_KA = SHARED / "captions" / "MSRVTT_JSFUSION_test.csv"
ROWS = [
    {"video_id": "a", "uri": "clips/a.mp4", "caption": "a dog", "year": 2019},
    {"video_id": "b", "uri": "clips/b.mp4", "caption": "a cat", "year": 2020},
]


def write(path: Path, rows: list[dict]) -> Path:
    """Rows as a manifest in the format that the path's suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    if name.endswith((".jsonl", ".ndjson")):
        text = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        names = list(rows[0])
        lines = [names, *([str(row[n]) for n in names] for row in rows)]
        text = "".join(",".join(line) + "\n" for line in lines)
    return write_text(path, text)


def write_text(path: Path, text: str) -> Path:
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def table(manifest: Manifest) -> pa.Table:
    return pa.concat_tables(list(manifest.tables()))


def rows_of(source: Path, columns: Columns | None = None) -> list[dict]:
    return table(open_manifest(str(source), columns)).to_pylist()


def refusal(source: Path | str, columns: Columns | None = None) -> str:
    with pytest.raises(ManifestError) as caught:
        open_manifest(str(source), columns)
    return str(caught.value)


FORMATS = ["m.csv", "m.csv.gz", "m.jsonl", "m.jsonl.gz", "m.ndjson", "m.parquet", "M.CSV"]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_rows(name, tmp_path):
    manifest = open_manifest(str(write(tmp_path / name, ROWS)))
    assert manifest.rows == 2
    assert table(manifest).to_pylist() == [
        {**row, "uri": str(tmp_path / row["uri"]), "start_s": None, "end_s": None} for row in ROWS
    ]
    assert manifest.metadata.names == ["caption", "year"]
    assert manifest.metadata.field("year").type == pa.int64()


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".jsonl", ".parquet"])
def test_a_folder_of_manifests_is_one_manifest_in_the_order_of_names(suffix, tmp_path):
    write(tmp_path / "set" / f"2{suffix}", ROWS[1:])
    write(tmp_path / "set" / f"1{suffix}", ROWS[:1])
    found = rows_of(tmp_path / "set")
    assert [r["video_id"] for r in found] == ["a", "b"]
    assert found[0]["uri"] == str(tmp_path / "set" / "clips/a.mp4")


def test_a_folder_of_videos_is_a_manifest_whose_ids_are_the_paths(tmp_path):
    for name in ("b.mp4", "deep/a.MKV", "deep/er/c.webm", "notes.txt", ".hidden.mp4", "_tmp/x.mp4"):
        (tmp_path / "v" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "v" / name).touch()
    found = rows_of(tmp_path / "v")
    assert [r["video_id"] for r in found] == ["b.mp4", "deep/a.MKV", "deep/er/c.webm"]
    assert found[1]["uri"] == str(tmp_path / "v" / "deep/a.MKV")


def test_a_relative_manifest_means_the_same_from_anywhere(tmp_path, monkeypatch):
    write(tmp_path / "m.csv", ROWS)
    monkeypatch.chdir(tmp_path)
    assert rows_of(Path("m.csv"))[0]["uri"] == str(tmp_path / "clips/a.mp4")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("a.mp4", "{base}/a.mp4"),
        ("deep/a.mp4", "{base}/deep/a.mp4"),
        ("/data/a.mp4", "/data/a.mp4"),
        ("file:///data/a.mp4", "/data/a.mp4"),
        ("s3://bucket/a.mp4", "s3://bucket/a.mp4"),
        ("https://example.org/a.mp4?x=1", "https://example.org/a.mp4?x=1"),
        ("with space é.mp4", "{base}/with space é.mp4"),
    ],
)
def test_addresses_are_relative_to_the_manifest_or_as_they_are(written, meant, tmp_path):
    source = write(tmp_path / "m.jsonl", [{"video_id": "a", "uri": written}])
    assert rows_of(source)[0]["uri"] == meant.format(base=tmp_path)


@pytest.mark.parametrize("id_name", ["video_id", "id"])
@pytest.mark.parametrize("uri_name", ["uri", "path", "video_path"])
def test_the_usual_spellings_of_columns_are_understood(id_name, uri_name, tmp_path):
    source = write(tmp_path / "m.csv", [{id_name: "7", uri_name: "/v/a.mp4", "label": "run"}])
    found = rows_of(source)
    assert found == [
        {"video_id": "7", "uri": "/v/a.mp4", "start_s": None, "end_s": None, "label": "run"}
    ]


def test_columns_can_be_named(tmp_path):
    source = write(tmp_path / "m.csv", [{"key": "k1", "file": "/v/a.mp4", "video_id": "x"}])
    (row,) = rows_of(source, Columns(id="key", uri="file"))
    assert (row["video_id"], row["uri"]) == ("k1", "/v/a.mp4")
    assert row["manifest_video_id"] == "x"


@pytest.mark.parametrize("columns", [Columns(id="nope"), Columns(uri="nope")])
def test_a_named_column_that_is_not_there_is_refused_with_those_that_are(columns, tmp_path):
    text = refusal(write(tmp_path / "m.csv", ROWS), columns)
    assert text == f"{tmp_path}/m.csv: no column 'nope'; it has video_id, uri, caption, year"


def test_ids_are_made_from_the_paths_where_there_are_none(tmp_path):
    source = write(tmp_path / "m.csv", [{"uri": "deep/a.mp4"}, {"uri": "b.mp4"}])
    assert [r["video_id"] for r in rows_of(source)] == ["deep/a.mp4", "b.mp4"]


def test_metadata_travels_with_its_types(tmp_path):
    extra = {"rating": 0.5, "tags": ["x", "y"], "views": 3, "ok": True, "nested": {"k": "v"}}
    source = write(tmp_path / "m.parquet", [ROWS[0] | extra])
    manifest = open_manifest(str(source))
    assert manifest.metadata.field("tags").type == pa.list_(pa.string())
    assert manifest.metadata.field("ok").type == pa.bool_()
    (row,) = table(manifest).to_pylist()
    assert {k: row[k] for k in extra} == extra


def test_a_name_that_vidembed_writes_travels_as_manifest_name(tmp_path):
    source = write(tmp_path / "m.csv", [ROWS[0] | {"fps": 30, "error": "none", "segment": "s"}])
    (row,) = rows_of(source)
    assert (row["manifest_fps"], row["manifest_error"], row["manifest_segment"]) == (
        30,
        "none",
        "s",
    )
    assert "fps" not in row


def test_ids_that_look_like_numbers_stay_text(tmp_path):
    source = write_text(tmp_path / "m.csv", "id,path\n007,/v/a.mp4\n1e3,/v/b.mp4\n7,/v/c.mp4\n")
    assert [r["video_id"] for r in rows_of(source)] == ["007", "1e3", "7"]


def test_whole_numbers_are_good_ids_in_typed_formats(tmp_path):
    source = write(tmp_path / "m.parquet", [{"id": 7, "path": "/v/a.mp4"}])
    assert rows_of(source)[0]["video_id"] == "7"


def test_a_column_of_numbers_with_text_further_down_is_text(tmp_path):
    """The reader guesses a type from its first 8 MB."""
    padding = "x" * 1000
    lines = [f"v{k},/v/{k}.mp4,{k},{padding}\n" for k in range(10_000)]
    lines.append(f"last,/v/last.mp4,n/a,{padding}\n")
    source = write_text(tmp_path / "m.csv", "video_id,uri,year,note\n" + "".join(lines))
    manifest = open_manifest(str(source))
    assert manifest.rows == 10_001
    assert manifest.metadata.field("year").type == pa.string()
    years = table(manifest)["year"]
    assert (years[3].as_py(), years[-1].as_py()) == ("3", "n/a")


def test_a_quoted_caption_may_hold_commas_quotes_and_lines(tmp_path):
    source = write_text(
        tmp_path / "m.csv", 'video_id,uri,caption\na,/v/a.mp4,"one, ""two""\nthree"\n'
    )
    assert rows_of(source)[0]["caption"] == 'one, "two"\nthree'


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    source = tmp_path / "m.csv"
    source.write_bytes(b"\xef\xbb\xbfvideo_id,uri\r\na,/v/a.mp4\r\n")
    assert rows_of(source)[0]["video_id"] == "a"


def test_windows_are_read_as_seconds(tmp_path):
    source = write(
        tmp_path / "m.csv",
        [ROWS[0] | {"start_s": 1, "end_s": 2.5}, ROWS[1] | {"start_s": "", "end_s": ""}],
    )
    first, second = rows_of(source)
    assert (first["start_s"], first["end_s"]) == (1.0, 2.5)
    assert (second["start_s"], second["end_s"]) == (None, None)


def test_files_of_a_folder_may_have_different_metadata(tmp_path):
    write(tmp_path / "s" / "1.jsonl", [{"video_id": "a", "uri": "/v/a.mp4", "views": 3}])
    write(
        tmp_path / "s" / "2.jsonl", [{"video_id": "b", "uri": "/v/b.mp4", "views": 0.5, "t": "x"}]
    )
    found = rows_of(tmp_path / "s")
    assert [(r["views"], r["t"]) for r in found] == [(3.0, None), (0.5, "x")]


# What is refused, and how it is said


def test_a_repeated_id_is_named_with_both_its_rows(tmp_path):
    source = write(tmp_path / "m.csv", [*ROWS, ROWS[0] | {"uri": "other.mp4"}])
    text = refusal(source)
    assert text == f"{source}: rows 1 and 3 have the same video_id 'a' (1 repeated ids)"


def test_a_repeated_id_is_found_across_files(tmp_path):
    write(tmp_path / "s" / "1.csv", ROWS)
    write(tmp_path / "s" / "2.csv", [ROWS[1]])
    s = tmp_path / "s"
    assert refusal(s) == (
        f"{s}/1.csv row 2 and {s}/2.csv row 1 have the same video_id 'b' (1 repeated ids)"
    )


@pytest.mark.parametrize("empty", [None, "", "   "])
@pytest.mark.parametrize("name", ["video_id", "uri"])
def test_an_empty_id_or_address_is_refused_with_its_row(name, empty, tmp_path):
    source = write(tmp_path / "m.jsonl", [*ROWS, ROWS[0] | {"video_id": "c", name: empty}])
    assert refusal(source) == f"{source}: row 3 has no {name}"


def test_the_row_that_is_named_is_counted_through_the_whole_file(tmp_path):
    rows = [{"video_id": f"v{k}", "uri": f"/v/{k}.mp4"} for k in range(70_000)]
    rows[66_000]["uri"] = ""
    source = write(tmp_path / "m.parquet", rows)
    assert refusal(source) == f"{source}: row 66001 has no uri"


@pytest.mark.parametrize(
    ("window", "said"),
    [
        ({"start_s": -1.0, "end_s": 2.0}, "has a start_s below 0"),
        ({"start_s": 2.0, "end_s": 2.0}, "has an end_s that is not after its start_s"),
        ({"start_s": 3.0, "end_s": 2.0}, "has an end_s that is not after its start_s"),
        ({"start_s": None, "end_s": 0.0}, "has an end_s that is not after its start_s"),
        ({"start_s": float("nan"), "end_s": 2.0}, "has no number as start_s"),
        ({"start_s": 1.0, "end_s": float("nan")}, "has no number as end_s"),
    ],
)
def test_a_window_that_cannot_be_is_refused_with_its_row(window, said, tmp_path):
    source = write(
        tmp_path / "m.parquet", [ROWS[0] | {"start_s": 0.0, "end_s": 1.0}, ROWS[1] | window]
    )
    assert refusal(source) == f"{source}: row 2 {said}"


def test_a_window_that_is_no_number_is_refused_with_its_column(tmp_path):
    source = write(tmp_path / "m.jsonl", [ROWS[0] | {"start_s": "soon"}])
    assert refusal(source) == f"{source}: column start_s holds something that is no number"
    source = write_text(tmp_path / "m.csv", "video_id,uri,start_s\na,/v/a.mp4,soon\n")
    assert refusal(source) == f"{source}: column start_s holds something that is no number"


def test_a_manifest_without_addresses_says_what_it_has(tmp_path):
    source = write(tmp_path / "m.csv", [{"video_id": "a", "caption": "x"}])
    assert refusal(source) == (
        f"{source}: no column of addresses (uri, path, video_path); it has video_id, caption; "
        f"name one with --uri-column, or make them of others with --uri-template"
    )


@pytest.mark.parametrize("name", FORMATS)
def test_addresses_can_be_made_of_columns(name, tmp_path):
    rows = [{"video_id": "a", "task": "007"}, {"video_id": "b", "task": "08"}]
    found = rows_of(
        write(tmp_path / name, rows), Columns(template="videos/{task}/{{{video_id}}}.mp4")
    )
    assert [row["uri"] for row in found] == [
        str(tmp_path / "videos/007/{a}.mp4"), str(tmp_path / "videos/08/{b}.mp4"),
    ]  # fmt: skip
    assert [row["task"] for row in found] == ["007", "08"]


@pytest.mark.skipif(not ONE_KA.exists(), reason="the shared captions are not here")
def test_the_1ka_file_is_a_manifest_as_it_ships():
    found = open_manifest(str(ONE_KA), Columns(template="MSRVTT_Videos/{video_id}.mp4"))
    assert found.rows == 1000
    assert found.metadata.names == ["key", "vid_key", "sentence"]
    first = next(found.tables()).slice(0, 1).to_pylist()[0]
    assert first["video_id"] == "video9770"
    assert first["uri"] == str(ONE_KA.parent / "MSRVTT_Videos/video9770.mp4")
    assert first["sentence"] == "a person is connecting something to system"


def test_an_address_that_is_made_is_one_like_any_other(tmp_path):
    source = write(tmp_path / "m.csv", [{"bucket": "b", "key": "k/1", "path": "other.mp4"}])
    (row,) = rows_of(source, Columns(template="s3://{bucket}/{key}.mp4"))
    # Without a column of ids it is the id, too.
    assert (row["video_id"], row["uri"]) == ("s3://b/k/1.mp4", "s3://b/k/1.mp4")
    assert row["path"] == "other.mp4"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("v/{nope}.mp4", "{source}: no column 'nope' for --uri-template v/{{nope}}.mp4; it has "),
        ("v.mp4", "names no column"),
        ("v/{}.mp4", "names no column"),
        ("v/{video_id", "--uri-template v/{{video_id: "),
        ("v/{video_id!r}.mp4", "names of columns alone"),
        ("v/{n:04d}.mp4", "names of columns alone"),
        ("v/{n}.mp4", "{source}: row 2 has no uri"),
        ("v/{x}.mp4", "{source}: column x holds double, expected text"),
    ],
)  # fmt: skip
def test_a_template_that_cannot_be_filled_in_is_refused(template, said, tmp_path):
    rows = [{"video_id": "a", "n": 1, "x": 0.5}, {"video_id": "b", "n": None, "x": 1.5}]
    source = write(tmp_path / "m.parquet", rows)
    assert said.format(source=source) in refusal(source, Columns(template=template))


def test_an_empty_column_makes_no_address(tmp_path):
    rows = [{"video_id": "a", "task": "x"}, {"video_id": "b", "task": " "}]
    source = write(tmp_path / "m.jsonl", rows)
    assert "row 2 has no uri" in refusal(source, Columns(template="{task}/{video_id}.mp4"))


def test_a_folder_of_videos_needs_no_template(tmp_path):
    (tmp_path / "a.mp4").touch()
    assert "leave out --uri-template" in refusal(tmp_path, Columns(template="{video_id}.mp4"))


def test_a_template_and_a_column_of_addresses_contradict_each_other():
    options = {"manifest": "m.csv", "out": "r", "uri_column": "a", "uri_template": "{a}.mp4"}
    with pytest.raises(ConfigError, match="--uri-template and --uri-column"):
        EmbedConfig.make(options)


def test_addresses_that_are_no_text_are_refused(tmp_path):
    source = write(tmp_path / "m.parquet", [{"video_id": "a", "uri": 1.5}])
    assert refusal(source) == f"{source}: column uri holds double, expected text"


@pytest.mark.parametrize(
    ("name", "text"),
    [("m.csv", ""), ("m.csv", "video_id,uri\n"), ("m.jsonl", ""), ("m.csv.gz", "")],
)
def test_a_manifest_without_rows_is_refused(name, text, tmp_path):
    source = write_text(tmp_path / name, text)
    assert refusal(source) == f"{source}: the manifest has no rows"


def test_a_parquet_manifest_without_rows_is_refused(tmp_path):
    source = tmp_path / "m.parquet"
    pq.write_table(
        pa.table({"video_id": pa.array([], pa.string()), "uri": pa.array([], pa.string())}), source
    )
    assert refusal(source) == f"{source}: the manifest has no rows"


@pytest.mark.parametrize("name", ["m.parquet", "m.jsonl", "m.csv.gz", "m.csv"])
def test_a_file_that_is_something_else_is_refused_with_its_name(name, tmp_path):
    source = tmp_path / name
    source.write_bytes(bytes(range(256)) * 8)
    assert str(source) in refusal(source)


def test_a_row_of_too_many_columns_is_refused(tmp_path):
    source = write_text(tmp_path / "m.csv", "video_id,uri\na,/v/a.mp4\nb,/v/b.mp4,extra\n")
    text = refusal(source)
    assert text.startswith(f"{source}: cannot be read as csv: ")
    assert "Expected 2 columns, got 3" in text


def test_files_whose_columns_contradict_each_other_are_refused(tmp_path):
    write(tmp_path / "s" / "1.jsonl", [{"video_id": "a", "uri": "/v/a.mp4", "tags": ["x"]}])
    write(tmp_path / "s" / "2.jsonl", [{"video_id": "b", "uri": "/v/b.mp4", "tags": "x"}])
    assert refusal(tmp_path / "s").startswith(
        f"{tmp_path}/s/2.jsonl: its columns do not match the files before it"
    )


def test_places_that_hold_no_manifest_are_refused_with_the_reason(tmp_path):
    assert refusal(tmp_path / "absent.csv") == f"{tmp_path}/absent.csv: no such file"
    assert refusal(tmp_path / "absent") == f"{tmp_path}/absent: nothing there"
    assert "neither a manifest nor a video" in refusal(tmp_path)
    (tmp_path / "notes.txt").touch()
    assert "not a manifest; expected .parquet" in refusal(tmp_path / "notes.txt")


def test_a_folder_of_mixed_things_is_refused(tmp_path):
    write(tmp_path / "m.csv", ROWS)
    write(tmp_path / "m.jsonl", ROWS)
    assert "mixes manifests of different formats: csv, jsonl" in refusal(tmp_path)
    (tmp_path / "a.mp4").touch()
    assert "holds both videos (1) and manifests (m.csv, m.jsonl)" in refusal(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
def test_an_unreadable_manifest_is_refused(tmp_path):
    source = write(tmp_path / "m.csv", ROWS)
    source.chmod(0)
    assert "cannot be read" in refusal(source)


# Tables of queries


def test_queries_are_read_as_they_are_in_every_format(tmp_path):
    for name in ("q.csv", "q.jsonl", "q.parquet", "q.csv.gz"):
        found = read_table(str(write(tmp_path / name, ROWS)))
        assert found["caption"].to_pylist() == ["a dog", "a cat"]


def test_queries_whose_files_contradict_each_other_are_refused(tmp_path):
    write(tmp_path / "s" / "1.jsonl", [{"video_id": "a", "tags": ["x"]}])
    write(tmp_path / "s" / "2.jsonl", [{"video_id": "b", "tags": "x"}])
    with pytest.raises(ManifestError, match="columns of its files do not match"):
        read_table(str(tmp_path / "s"))


def test_a_folder_of_videos_is_no_table(tmp_path):
    (tmp_path / "a.mp4").touch()
    with pytest.raises(ManifestError, match="is a folder of videos; expected a table"):
        read_table(str(tmp_path))
