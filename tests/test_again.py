"""Runs that are gone on with: failures tried again, a changed manifest, two jobs at once."""

from __future__ import annotations

import contextvars
import csv
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

import vidembed
from vidembed import cli
from vidembed.errors import ManifestError
from vidembed.store.lease import held
from vidembed.store.milvus import Collection
from vidembed.store.run import Run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


def write(path: Path, videos: list[Path]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video_id", "uri"])
        writer.writerows([video.stem, str(video)] for video in videos)
    return str(path)


def ids(run: Run, kind: str = "embeddings") -> list[str]:
    return sorted(run.read(["video_id"], kind).to_pydict().get("video_id", []))


def test_failures_are_tried_again_and_what_the_manifest_lost_goes_from_the_run_and_from_milvus(
    corpus, tmp_path, clip_folder, capsys
):
    a, b, c, d = sorted((corpus.parent / "videos").glob("*.mp4"))[:4]
    late = tmp_path / "late.mp4"
    manifest = tmp_path / "manifest.csv"
    store = str(tmp_path / "store.db")
    options = {"out": str(tmp_path / "run"), "weights": clip_folder, "milvus": store}
    first = vidembed.embed(write(manifest, [a, b, c, late]), **options)
    assert (first.embedded, first.failures) == (3, {"NotFound": 1})
    shutil.copy(a, late)
    same = vidembed.embed(str(manifest), **options)
    assert (same.embedded, same.failed) == (3, 1)
    write(manifest, [b])
    with pytest.raises(ManifestError, match=r"would take 3 of 4 rows .* whole\?"):
        vidembed.embed(str(manifest), prune=True, **options)
    write(manifest, [b, c, d, late])
    report = vidembed.embed(str(manifest), retry_failures="NotFound", prune=True, **options)
    run = Run.open(report.out)
    expected = sorted([b.stem, c.stem, d.stem, "late"])
    assert ids(run) == expected
    assert ids(run, "failures") == []
    assert (report.milvus["rows"], report.milvus["error"]) == (4, None)
    assert report.milvus["keys_compared"] >= 2
    said = capsys.readouterr().err
    assert "1 failed videos of" in said
    assert "1 rows of" in said
    collection = Collection(store, "videos")
    assert collection.lacking([*expected, a.stem]) == [a.stem]
    collection.close()


def test_a_changed_source_is_done_again_in_parquet_and_in_milvus(
    corpus, tmp_path, clip_folder, capsys
):
    a, b, c, *_ = sorted((corpus.parent / "videos").glob("*.mp4"))
    mine = [tmp_path / "one.mp4", tmp_path / "two.mp4"]
    for here, there in zip(mine, (a, b), strict=True):
        shutil.copy(there, here)
    manifest = write(tmp_path / "manifest.csv", mine)
    store = str(tmp_path / "store.db")
    options = {"out": str(tmp_path / "run"), "weights": clip_folder, "milvus": store}
    vidembed.embed(manifest, **options)
    before = vectors_of(options["out"])
    shutil.copy(c, mine[1])
    vidembed.embed(manifest, **options)
    assert vectors_of(options["out"]) == before
    report = vidembed.embed(manifest, redo_changed=True, **options)
    assert "1 rows of" in capsys.readouterr().err
    after = vectors_of(options["out"])
    assert (after["one"], report.clips) == (before["one"], 2)
    assert after["two"] != before["two"]
    assert (report.milvus["rows"], report.milvus["error"]) == (2, None)
    collection = Collection(store, "videos")
    (hit, *_), *_ = collection.search(np.array([after["two"]], np.float32), 2)
    collection.close()
    assert hit["id"] == "two"
    assert hit["score"] == pytest.approx(1.0, abs=1e-4)


def vectors_of(out: str) -> dict[str, list[float]]:
    table = Run.open(out).read(["video_id", "embedding"])
    return dict(zip(table["video_id"].to_pylist(), table["embedding"].to_pylist(), strict=True))


def test_a_second_job_into_the_same_run_is_refused_before_it_touches_anything(
    corpus, tmp_path, clip_folder, capsys
):
    out = tmp_path / "run"
    words = ["embed", str(corpus), "--out", str(out), "--weights", clip_folder, "--limit", "2"]
    with held(str(out), lambda _: None):
        # In a context of its own: within the one that holds the run, a job is part of that job.
        other = contextvars.Context()
        assert other.run(cli.main, words) == 2
        assert other.run(cli.main, [*words, "--overwrite"]) == 2
    assert "one job at a time may write a run" in capsys.readouterr().err
    assert sorted(p.name for p in out.iterdir()) == [".lock"]
