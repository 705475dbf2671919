"""Manifest, videos and run on a real S3 server."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

import vidembed
from vidembed.errors import ConfigError
from vidembed.manifest import open_manifest
from vidembed.store.run import Run

pytestmark = [pytest.mark.s3]


@pytest.fixture(scope="module")
def remote(s3, corpus):
    """The corpus under s3://test/corpus."""
    return s3.upload(corpus.parent, "corpus")


def test_a_manifest_on_s3_is_read_and_its_relative_addresses_lie_beside_it(s3, remote):
    manifest = open_manifest(f"{remote}/manifest.csv")
    row = next(manifest.tables()).to_pylist()[0]
    assert manifest.rows == 24
    assert row["uri"].startswith(f"{remote}/videos/")


def test_a_prefix_of_videos_is_a_manifest(s3, remote):
    manifest = open_manifest(f"{remote}/videos")
    assert manifest.rows == 24
    first = next(manifest.tables()).to_pylist()[0]
    assert first["uri"] == f"{remote}/videos/{first['video_id']}"


def test_missing_addresses_and_wrong_credentials_give_one_clear_error(s3, remote, monkeypatch):
    with pytest.raises(vidembed.VidembedError, match="no such file"):
        open_manifest(f"{remote}/nothing.csv")
    with pytest.raises(vidembed.VidembedError, match="nothing there"):
        open_manifest("s3://test/nowhere")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(ConfigError, match="AWS_SECRET_ACCESS_KEY"):
        open_manifest(f"{remote}/manifest.csv")
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.ray
def test_a_run_on_s3_from_videos_on_s3_equals_the_local_one_and_resumes(
    s3, remote, corpus, tmp_path, clip_folder, command, monkeypatch
):
    # A process of its own: Ray's workers must see the server's credentials from their start.
    import subprocess

    out = "s3://test/runs/one"
    words = [*command, "embed", f"{remote}/manifest.csv", "--out", out, "--weights", clip_folder]
    for limit in ("4", "8"):
        done = subprocess.run(
            [*words, "--limit", limit, "--progress", "none"],
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    run = Run.open(out)
    table = run.read().sort_by("id")
    assert len(table) == 8
    assert (run.record["config"]["limit"], len(run.parts("failures"))) == (4, 0)
    local = vidembed.embed(str(corpus), out=str(tmp_path / "run"), weights=clip_folder, limit=8)
    here = Run.open(local.out).read().sort_by("id")
    assert here["id"].to_pylist() == table["id"].to_pylist()
    a, b = (np.array(t["embedding"].to_pylist()) for t in (here, table))
    assert np.abs(a - b).max() < 1e-6
    assert pq.ParquetFile(run.parts()[0], filesystem=s3_filesystem(run)).metadata.num_rows > 0


def s3_filesystem(run):
    from vidembed import sources

    return sources.filesystem(run.uri)
