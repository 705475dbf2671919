"""The job at a length at which what grows with it shows: with stages that cost nothing."""

from __future__ import annotations

import gc
import itertools
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.scaling import manifest, stages
from benchmarks.scaling.check import check, in_order
from tests.helpers.runs import record
from vidembed import schema
from vidembed.config import EmbedConfig
from vidembed.manifest import open_manifest
from vidembed.pipeline import pending
from vidembed.pipeline.flow import Stages, embed
from vidembed.pipeline.pending import Pending
from vidembed.store.done import survey
from vidembed.store.run import Run

VIDEOS = 24_000


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_a_manifest_of_several_windows_is_embedded_once_by_stages_that_are_given(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(pending, "WINDOW", 7_000)
    manifest.write(tmp_path / "manifest.parquet", VIDEOS)
    run = tmp_path / "run"

    def job(**options):
        given = {
            "manifest": str(tmp_path / "manifest.parquet"),
            "out": str(run),
            "encoder": f"{stages.__name__}:{stages.Numbers.__name__}",
            "batch_size": 1024,
            "progress": "none",
        }
        ours = Stages(decode=stages.Decode, encode=stages.Encode)
        (report,) = embed(EmbedConfig.make(given | options), ours).values()
        return report

    first = job(limit=9_500)
    assert (first.embedded, first.failed) == (9_490, 10)
    last = job()
    found = check(run, VIDEOS)
    assert in_order(found), found
    assert (last.done_before, last.embedded, last.failed) == (9_500, 23_976, 24)
    # Told by workers, a message for many videos, and none lost on the way.
    assert last.stages["decode"]["clips"] == VIDEOS - 9_500 - 14


def test_going_through_a_manifest_holds_one_window_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(pending, "WINDOW", 2_000)

    def most(videos: int) -> int:
        manifest.write(tmp_path / f"{videos}.parquet", videos)
        whole = open_manifest(str(tmp_path / f"{videos}.parquet"))
        nothing = {"": survey(Run.create_or_resume(str(tmp_path / "run"), record()))}
        windows = Pending(whole, None, nothing).windows([""])
        held = [pa.total_allocated_bytes() for _ in itertools.islice(windows, 20, None)]
        return max(held)

    # Parquet is read a row group of 65,536 rows or less at a time, whatever the file's length.
    assert most(300_000) < 1.3 * most(150_000)


def test_windows_of_much_metadata_have_fewer_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(pending, "WINDOW_BYTES", 1 << 20)
    manifest.write(tmp_path / "manifest.parquet", VIDEOS)
    whole = open_manifest(str(tmp_path / "manifest.parquet"))
    nothing = {"": survey(Run.create_or_resume(str(tmp_path / "run"), record()))}
    windows = list(Pending(whole, None, nothing).windows([""]))
    assert len(windows) > 1
    assert pa.concat_tables(windows)["video_id"].to_pylist() == [
        name for table in whole.tables() for name in table["video_id"].to_pylist()
    ]


def test_what_the_driver_knows_of_finished_videos_is_16_bytes_each(tmp_path):
    made = Run.create_or_resume(str(tmp_path / "run"), record())
    sizes = {}
    for first in (0, 40_000):
        for at in range(first, first + 40_000, 10_000):
            made.commit(rows(at, at + 10_000))
        sizes[first + 40_000] = kept(lambda: survey(made))
    (few, most_few), (many, most_many) = sizes.values()
    assert (many - few) / 40_000 == pytest.approx(16, abs=1)
    assert (most_many - most_few) / 40_000 < 60


def kept(work) -> tuple[int, int]:
    """Bytes that the result of `work` holds, and the most that there were on the way."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        result = work()
        gc.collect()
        after, most = tracemalloc.get_traced_memory()
        del result
        return after - before, most - before
    finally:
        tracemalloc.stop()


def rows(first: int, last: int) -> pa.Table:
    ids = pa.array([f"v{k:012d}" for k in range(first, last)])
    given = {
        "id": ids,
        "video_id": ids,
        "uri": ids,
        "segment": pa.array(np.zeros(len(ids), np.int32)),
        "segments": pa.array(np.ones(len(ids), np.int32)),
        "embedding": pa.FixedSizeListArray.from_arrays(np.ones(4 * len(ids), np.float32), 4),
    }
    wanted = schema.vectors(4, pa.schema([]))
    columns = [given.get(field.name, pa.nulls(len(ids), field.type)) for field in wanted]
    return pa.table(columns, schema=wanted)
