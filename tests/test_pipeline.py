"""The main job on real components: Ray, decode children, an encoder, Parquet, Milvus Lite."""

from __future__ import annotations

import csv
import json
import os
import shutil
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

import vidembed
from tests.conftest import SHARED
from vidembed import cli
from vidembed.errors import ConfigError, RunMismatchError
from vidembed.retrieval import matrix

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


def embeddings(run) -> pa.Table:
    return ds.dataset(Path(run) / "embeddings").to_table().sort_by("id")


def failures(run) -> dict[str, str]:
    folder = Path(run) / "failures"
    table = ds.dataset(folder).to_table() if folder.exists() else pa.table({"video_id": []})
    assert len(set(table["video_id"].to_pylist())) == len(table)
    return {r["video_id"]: r["error"] for r in table.to_pylist()}


def write_manifest(path: Path, rows: list[dict[str, object]]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def good_videos(corpus: Path, count: int) -> list[Path]:
    return sorted((corpus.parent / "videos").glob("*.mp4"))[:count]


@pytest.fixture
def mixed(corpus, tmp_path):
    """A manifest of four good videos and six bad ones, and what should come of the bad ones."""
    good = good_videos(corpus, 4)
    data = good[0].read_bytes()
    bad = {
        "gone": ("NotFound", None),
        "text": ("Unsupported", b"just words, renamed\n"),
        "empty": ("Empty", b""),
        "cut": ("Truncated", data[: len(data) // 2]),
        "hangs": ("Timeout", data),
        "crashalways": ("DecoderCrash", data),
    }
    rows = [{"video_id": p.stem, "uri": str(p), "topic": "good"} for p in good]
    for name, (_, content) in bad.items():
        if content is not None:
            (tmp_path / f"{name}.mp4").write_bytes(content)
        rows.insert(1, {"video_id": name, "uri": f"{name}.mp4", "topic": "bad"})
    return write_manifest(tmp_path / "mixed.csv", rows), {k: v[0] for k, v in bad.items()}


def test_every_row_of_the_manifest_ends_in_exactly_one_place_with_its_failure_named(
    mixed, tmp_path, clip_folder
):
    manifest, expected = mixed
    began = time.monotonic()
    report = vidembed.embed(
        manifest, out=str(tmp_path / "run"), weights=clip_folder, decode_timeout=4
    )
    table = embeddings(tmp_path / "run")
    assert failures(tmp_path / "run") == expected
    assert len(table) == 4
    assert (report.videos, report.embedded, report.failed) == (10, 4, 6)
    assert set(table["topic"].to_pylist()) == {"good"}
    assert report.failures == dict.fromkeys(expected.values(), 1)
    # The hang costs its deadline once, and holds up nobody else for longer.
    assert time.monotonic() - began < 60
    lengths = np.linalg.norm(matrix(table["embedding"]), axis=1)
    assert np.allclose(lengths, 1.0, atol=1e-5)


def test_the_run_directory_says_what_was_done_and_no_secret(mixed, tmp_path, clip_folder):
    run = tmp_path / "run"
    manifest, _ = mixed
    vidembed.embed(manifest, out=str(run), weights=clip_folder, decode_timeout=2)
    record = json.loads((run / "run.json").read_text())
    report = json.loads((run / "report.json").read_text())
    page = (run / "report.html").read_text()
    assert record["fingerprint"] == report["fingerprint"]
    assert record["config"]["decode_timeout"] == 2
    assert report["videos"] == report["embedded"] + report["failed"] == 10
    assert {"Timeout", "DecoderCrash"} <= report["failures"].keys()
    assert "data:image/jpeg;base64," in page
    assert "polyline" in page
    metadata = ds.dataset(run / "embeddings").schema.metadata
    assert metadata[b"vidembed.fingerprint"].decode() == record["fingerprint"]


def test_vectors_do_not_depend_on_actors_batches_or_interruption(corpus, tmp_path, clip_folder):
    ways = {
        "plain": [{"decode_actors": 1, "batch_size": 1}],
        "wide": [{"decode_actors": 2, "batch_size": 16}],
        "resumed": [{"limit": 5}, {"limit": 6, "batch_size": 3}, {}],
    }
    found = {}
    for name, runs in ways.items():
        for options in runs:
            report = vidembed.embed(
                str(corpus), out=str(tmp_path / name), weights=clip_folder, **options
            )
        found[name] = embeddings(tmp_path / name)
        assert report.embedded == 24
    base = found.pop("plain")
    for table in found.values():
        assert table["id"].to_pylist() == base["id"].to_pylist()
        assert np.abs(matrix(table["embedding"]) - matrix(base["embedding"])).max() < 1e-6


def test_a_second_run_does_only_what_is_missing(corpus, tmp_path, clip_folder):
    run = tmp_path / "run"
    vidembed.embed(str(corpus), out=str(run), weights=clip_folder, limit=6)
    before = {p.name: p.stat().st_mtime_ns for p in (run / "embeddings").iterdir()}
    report = vidembed.embed(str(corpus), out=str(run), weights=clip_folder, limit=6)
    assert report.done_before == 6
    assert report.bottleneck == "nothing to do"
    assert {p.name: p.stat().st_mtime_ns for p in (run / "embeddings").iterdir()} == before
    report = vidembed.embed(str(corpus), out=str(run), weights=clip_folder, limit=8)
    assert (report.done_before, report.embedded) == (6, 8)
    assert len(embeddings(run)) == 8


def test_on_one_machine_the_driver_itself_writes_the_parts(corpus, tmp_path, clip_folder, caplog):
    run = tmp_path / "run"
    with caplog.at_level("INFO", logger="vidembed"):
        vidembed.embed(str(corpus), out=str(run), weights=clip_folder, limit=20)
    lines = [each for each in caplog.records if each.name == "vidembed"]
    told = [line.facts for line in lines if line.event == "part committed"]
    assert {each["pid"] for each in told} == {os.getpid()}
    assert len(told) > 1
    assert sum(each["rows"] for each in told) == 20
    assert len(embeddings(run)) == 20


def test_a_run_made_with_something_else_is_refused_and_says_what_differs(
    corpus, tmp_path, clip_folder
):
    run = str(tmp_path / "run")
    vidembed.embed(str(corpus), out=run, weights=clip_folder, limit=2)
    with pytest.raises(RunMismatchError, match=r"clip\.sampling\.count is 12 there and 5 now"):
        vidembed.embed(str(corpus), out=run, weights=clip_folder, frames=5)
    with pytest.raises(RunMismatchError, match=r"segments\.seconds"):
        vidembed.embed(str(corpus), out=run, weights=clip_folder, segment_seconds=1.0)
    report = vidembed.embed(
        str(corpus), out=run, weights=clip_folder, frames=5, limit=3, overwrite=True
    )
    assert (report.done_before, report.embedded) == (0, 3)


def test_segments_cover_the_video_and_a_half_finished_video_is_completed(
    corpus, tmp_path, clip_folder
):
    run = tmp_path / "run"
    options = {"weights": clip_folder, "segment_seconds": 1.0, "limit": 3}
    vidembed.embed(str(corpus), out=str(run), **options)
    whole = embeddings(run)
    for video in set(whole["video_id"].to_pylist()):
        rows = sorted(
            (r for r in whole.to_pylist() if r["video_id"] == video), key=lambda r: r["segment"]
        )
        assert [r["id"] for r in rows] == [f"{video}#{k}" for k in range(len(rows))]
        assert {r["segments"] for r in rows} == {len(rows)}
        assert rows[0]["start_s"] == 0.0
        assert rows[-1]["end_s"] == pytest.approx(rows[-1]["duration_s"])
        assert all(a["end_s"] == b["start_s"] for a, b in pairwise(rows))
    # As a kill between two parts would leave it: one segment of one video is gone.
    parts = sorted((run / "embeddings").iterdir())
    table = pa.concat_tables([ds.dataset(p).to_table() for p in parts])
    for part in parts:
        part.unlink()
    import pyarrow.parquet as pq

    pq.write_table(table.slice(1), parts[0])
    report = vidembed.embed(str(corpus), out=str(run), **options)
    again = embeddings(run)
    assert again["id"].to_pylist() == whole["id"].to_pylist()
    assert np.abs(matrix(again["embedding"]) - matrix(whole["embedding"])).max() < 1e-6
    assert report.done_before == 2


def test_windows_from_the_manifest_are_embedded_apart(corpus, tmp_path, clip_folder):
    video = good_videos(corpus, 1)[0]
    rows = [
        {"id": "start", "path": str(video), "start_s": 0, "end_s": 0.5},
        {"id": "rest", "path": str(video), "start_s": 1, "end_s": ""},
        {"id": "beyond", "path": str(video), "start_s": 500, "end_s": 501},
    ]
    manifest = write_manifest(tmp_path / "windows.csv", rows)
    vidembed.embed(manifest, out=str(tmp_path / "run"), weights=clip_folder)
    table = embeddings(tmp_path / "run").to_pylist()
    assert [(r["id"], r["start_s"]) for r in table] == [("rest", 1.0), ("start", 0.0)]
    assert table[1]["end_s"] == 0.5
    assert not np.allclose(table[0]["embedding"], table[1]["embedding"])
    assert failures(tmp_path / "run") == {"beyond": "Empty"}


def test_milvus_lite_holds_each_row_once_and_is_healed_by_load(corpus, tmp_path, clip_folder):
    run, database = str(tmp_path / "run"), str(tmp_path / "milvus.db")
    options = {"weights": clip_folder, "milvus": database, "collection": "clips", "index": "HNSW"}
    vidembed.embed(str(corpus), out=run, limit=7, **options)
    report = vidembed.embed(str(corpus), out=run, limit=12, **options)
    assert report.milvus is not None
    assert report.milvus["rows"] == report.milvus["projected"] == 12
    hits = vidembed.search("a red circle", milvus=database, collection="clips", top=12)
    exact = vidembed.search("a red circle", run=run, top=12)
    assert [h.id for h in hits] == [h.id for h in exact]
    assert [h.metadata["caption"] for h in hits] == [h.metadata["caption"] for h in exact]
    assert np.allclose([h.score for h in hits], [h.score for h in exact], atol=1e-4)
    shutil.rmtree(database)
    loaded = vidembed.load(run, milvus=database, collection="clips")
    assert (loaded.sent, loaded.rows) == (12, 12)
    assert vidembed.load(run, milvus=database, collection="clips").sent == 0


def test_a_collection_of_another_encoder_is_refused_before_anything_is_embedded(
    corpus, tmp_path, clip_folder
):
    database = str(tmp_path / "milvus.db")
    options = {"weights": clip_folder, "milvus": database, "limit": 2}
    vidembed.embed(str(corpus), out=str(tmp_path / "one"), **options)
    with pytest.raises(RunMismatchError, match="fingerprint"):
        vidembed.embed(str(corpus), out=str(tmp_path / "two"), frames=3, **options)
    assert not (tmp_path / "two" / "embeddings").exists()


def test_exit_codes_tell_done_from_too_many_failures_from_wrong_words(
    mixed, tmp_path, clip_folder, capsys
):
    manifest, _ = mixed
    words = ["embed", manifest, "--out", str(tmp_path / "run"), "--weights", clip_folder]
    words += ["--decode-timeout", "2", "--progress", "none"]
    assert cli.main([*words, "--max-failures", "6"]) == 0
    assert cli.main([*words, "--max-failures", "5"]) == 3
    assert cli.main([*words, "--max-failures", "50%"]) == 3
    capsys.readouterr()
    assert cli.main([*words, "--frames", "3"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("vidembed: ")
    assert "clip.sampling.count" in told
    assert len(told.splitlines()) == 1


def test_nothing_is_made_where_the_manifest_is_wrong(tmp_path, clip_folder):
    manifest = write_manifest(tmp_path / "m.csv", [{"id": "a", "path": "a.mp4"}] * 2)
    with pytest.raises(vidembed.VidembedError, match="rows 1 and 2"):
        vidembed.embed(manifest, out=str(tmp_path / "run"), weights=clip_folder)
    with pytest.raises(ConfigError, match="no encoder"):
        vidembed.embed(manifest, out=str(tmp_path / "run"), encoder="clop")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not SHARED.exists(), reason="the real videos are not here")
def test_real_footage_is_embedded_and_awkward_files_are_embedded_or_named(tmp_path, clip_folder):
    rows = [
        {"video_id": p.name, "uri": str(p)}
        for p in sorted([*(SHARED / "videos").iterdir(), *(SHARED / "awkward").iterdir()])
        if p.suffix not in (".csv", ".md")
    ]
    manifest = write_manifest(tmp_path / "m.csv", rows)
    report = vidembed.embed(manifest, out=str(tmp_path / "run"), weights=clip_folder)
    assert failures(tmp_path / "run") == {"corrupted.mp4": "Corrupt"}
    assert report.embedded == len(rows) - 1
