"""A video ends in one place, also where its segments went different ways."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from vidembed import schema
from vidembed.clips import ClipSpec, Resize, Sampling
from vidembed.encode.spec import EncoderSpec
from vidembed.store.done import settled, survey
from vidembed.store.run import Run

DIM = 4


@pytest.fixture
def run(tmp_path):
    spec = EncoderSpec(
        name="e",
        dim=DIM,
        clip=ClipSpec(
            sampling=Sampling(kind="uniform", count=2), resize=Resize(short_side=8, crop=8)
        ),
        metric="COSINE",
        context_length=0,
        weights="w",
        digest="d",
        architecture="a",
    )
    record = {
        "identity": spec.identity,
        "fingerprint": spec.fingerprint,
        "metric": "COSINE",
        "dim": DIM,
    }
    return Run.create_or_resume(str(tmp_path / "run"), record)


def rows(*ids: str, of: int = 1, error: str | None = None) -> pa.Table:
    """Rows of `schema.vectors` for ids such as `a#1`."""
    table = []
    for name in ids:
        video, _, segment = name.partition("#")
        row = {"id": name, "video_id": video, "segment": int(segment or 0), "segments": of}
        row |= {"uri": video, "start_s": 0.0, "end_s": 1.0, "frames": 2}
        if error:
            row |= {"stage": "decode", "error": error, "message": "m", "attempts": 1}
        else:
            row["embedding"] = np.ones(DIM, np.float32)
        table.append(row)
    return pa.Table.from_pylist(table, schema=schema.vectors(DIM, pa.schema([])))


def test_a_video_that_fails_after_some_of_its_segments_were_committed_has_failed(run):
    run.commit(pa.concat_tables([rows("a#0", "a#1", of=3), rows("b#0", of=1)]))
    run.commit(rows("a#2", of=3, error="NonFinite"))
    assert survey(run).doubled == 1
    done = settled(run)
    assert (done.embedded, done.failed, done.doubled, done.partial) == (1, 1, 0, {})
    assert run.read(["id"])["id"].to_pylist() == ["b#0"]


def test_a_video_that_failed_twice_is_one_failure(run):
    run.commit(pa.concat_tables([rows("a", error="Timeout"), rows("b", error="Timeout")]))
    run.commit(rows("a", error="Corrupt"))
    done = settled(run)
    assert (done.failed, done.doubled) == (2, 0)
    names = run.read(["video_id"], "failures")["video_id"].to_pylist()
    assert sorted(names) == ["a", "b"]


def test_one_failed_segment_fails_its_siblings_of_the_same_part(run):
    run.commit(pa.concat_tables([rows("a#0", of=2), rows("a#1", of=2, error="NonFinite")]))
    assert run.parts() == []
    assert survey(run).failed == 1


def test_of_rows_that_a_worker_committed_after_its_driver_was_gone_one_of_each_is_left(run):
    run.commit(rows("a#0", "a#1", "a#2", of=3))
    run.commit(rows("b", "c"))
    # Checked before the next attempt took over, written after that had surveyed the run.
    run.commit(rows("a#1", "a#2", of=3))
    run.commit(pa.concat_tables([rows("c"), rows("d")]))
    assert survey(run).doubled == 3
    done = settled(run)
    assert (done.embedded, done.failed, done.doubled, done.partial) == (4, 0, 0, {})
    left = sorted(run.read(["id"])["id"].to_pylist())
    assert left == ["a#0", "a#1", "a#2", "b", "c", "d"]


def test_a_run_in_order_is_left_alone(run):
    run.commit(rows("a", "b"))
    before = run.parts()
    assert settled(run).embedded == 2
    assert run.parts() == before


def test_a_worker_of_an_attempt_that_was_taken_over_commits_nothing_more(run):
    first = run.take_over()
    first.commit(rows("a"))
    second = first.take_over()
    with pytest.raises(Exception, match="taken over"):
        first.commit(rows("b"))
    second.commit(rows("b"))
    assert survey(run).embedded == 2
