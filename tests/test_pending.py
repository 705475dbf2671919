"""What is pending: counted once, gone through in windows, read no more often than needed."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers.runs import bad, good, record, vectors
from vidembed.manifest import open_manifest
from vidembed.pipeline import pending
from vidembed.pipeline.pending import Pending
from vidembed.store.done import survey
from vidembed.store.run import Run

V = [1.0, 0, 0, 0]


@pytest.fixture
def manifest(tmp_path):
    ids = [f"v{k}" for k in range(10)]
    pq.write_table(pa.table({"video_id": ids, "uri": ids}), tmp_path / "m.parquet")
    return open_manifest(str(tmp_path / "m.parquet"))


def run(folder, rows):
    made = Run.create_or_resume(str(folder), record())
    made.commit(vectors(rows))
    return survey(made)


def rows_of(windows):
    return [
        dict(zip(w["video_id"].to_pylist(), w["skip"].to_pylist(), strict=True)) for w in windows
    ]


def test_a_run_that_has_nothing_lacks_all_and_nothing_is_read_to_know_it(tmp_path, manifest):
    nothing = {"": run(tmp_path / "run", [])}
    found = Pending(manifest, None, nothing)
    assert (found.rows, found.of_run) == (10, {"": 10})
    assert Pending(manifest, 4, nothing).rows == 4
    assert [len(w) for w in Pending(manifest, 4, nothing).windows([""])] == [4]


@pytest.mark.parametrize("window", [3, 200])
def test_what_is_done_is_left_out_and_half_of_it_is_said(tmp_path, manifest, window, monkeypatch):
    monkeypatch.setattr(pending, "WINDOW", window)
    done = run(tmp_path / "run", [good("v0", V), bad("v1"), good("v2", V, 1, 3), good("v5", V)])
    found = Pending(manifest, 8, {"": done})
    assert (found.rows, found.of_run) == (5, {"": 5})
    windows = rows_of(found.windows([""]))
    assert [len(w) for w in windows] == ([3, 2] if window == 3 else [5])
    assert {k: v for w in windows for k, v in w.items()} == {
        "v2": [1], "v3": [], "v4": [], "v6": [], "v7": [],
    }  # fmt: skip


@pytest.mark.parametrize("window", [3, 200])
def test_of_several_runs_each_is_told_what_it_lacks(tmp_path, manifest, window, monkeypatch):
    monkeypatch.setattr(pending, "WINDOW", window)
    every = [good(f"v{k}", V) for k in range(10)]
    done = {
        "a": run(tmp_path / "a", every[:6]),
        "b": run(tmp_path / "b", every[2:9]),
        "c": run(tmp_path / "c", every),
    }
    found = Pending(manifest, None, done)
    assert (found.rows, found.of_run) == (6, {"a": 4, "b": 3, "c": 0})
    table = pa.concat_tables(found.windows(["a", "b"]))
    assert "skip@c" not in table.column_names
    lacks = {
        label: table.filter(table[f"skip@{label}"].is_valid())["video_id"].to_pylist()
        for label in "ab"
    }
    assert lacks == {"a": ["v6", "v7", "v8", "v9"], "b": ["v0", "v1", "v9"]}


def test_all_done_is_no_window(tmp_path, manifest):
    done = run(tmp_path / "run", [good(f"v{k}", V) for k in range(10)])
    found = Pending(manifest, None, {"": done})
    assert (found.rows, list(found.windows([""]))) == (0, [])


def test_segments_are_counted_by_video_and_one_that_is_there_twice_is_said(tmp_path):
    whole = [good("a", V, k, 3) for k in range(3)]
    half = [good("b", V, k, 2) for k in range(1)]
    made = Run.create_or_resume(str(tmp_path / "run"), record())
    made.commit(vectors([*whole[:2], *half, good("c", V)]))
    made.commit(vectors([whole[2], bad("d")]))
    found = survey(made)
    assert (found.embedded, found.failed, found.clips, found.doubled) == (2, 1, 5, 0)
    assert found.partial == {"b": [0]}
    made.commit(vectors([whole[1], good("e", V)]))
    again = survey(made)
    assert (again.embedded, again.doubled, again.partial) == (3, 1, {"b": [0]})
