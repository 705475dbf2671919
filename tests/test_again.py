"""Runs that are gone on with: failures tried again, a changed manifest, two jobs at once."""

from __future__ import annotations

import csv
import shutil
from typing import TYPE_CHECKING

import pytest

import vidembed
from vidembed import cli
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


def test_a_second_job_into_the_same_run_is_refused_before_it_touches_anything(
    corpus, tmp_path, clip_folder, capsys
):
    out = tmp_path / "run"
    words = ["embed", str(corpus), "--out", str(out), "--weights", clip_folder, "--limit", "2"]
    with held(str(out), lambda _: None):
        assert cli.main(words) == 2
        assert cli.main([*words, "--overwrite"]) == 2
    assert "one job at a time may write a run" in capsys.readouterr().err
    assert sorted(p.name for p in out.iterdir()) == [".lock"]
