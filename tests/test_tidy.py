"""What is taken out of a run before a job: failures to be tried again, videos that are gone."""

from __future__ import annotations

import pyarrow as pa
import pytest

from tests.helpers.runs import bad, good, write_run
from vidembed.config import EmbedConfig
from vidembed.errors import ConfigError
from vidembed.store.done import survey
from vidembed.store.tidy import forget_failures, prune

V = [1.0, 0.0, 0.0, 0.0]


def ids(run, kind="embeddings") -> list[str]:
    return sorted(run.read(["video_id"], kind).to_pydict().get("video_id", []))


def manifest(*videos: str) -> list[pa.Table]:
    return [pa.table({"video_id": pa.array([video])}) for video in videos]


@pytest.fixture
def run(tmp_path):
    rows = [good("a", V), good("b", V), good("b2", V), bad("x"), bad("y") | {"error": "Timeout"}]
    return write_run(tmp_path / "run", rows)


def test_all_failures_are_forgotten_or_those_of_some_classes(run):
    assert forget_failures(run, ["Timeout", "NotFound"]) == 1
    assert ids(run, "failures") == ["x"]
    assert forget_failures(run, ["all"]) == 1
    assert run.parts("failures") == []
    assert (survey(run).embedded, survey(run).failed) == (3, 0)


def test_forgetting_no_failure_leaves_the_parts_as_they_are(run):
    before = run.parts("failures")
    assert forget_failures(run, ["TooLarge"]) == 0
    assert run.parts("failures") == before


def test_videos_that_the_manifest_lacks_are_taken_out_and_their_keys_remembered(run):
    assert prune(run, manifest("a", "y", "new")) == 3
    assert ids(run) == ["a"]
    assert ids(run, "failures") == ["y"]
    (removal,) = run.parts("removals")
    assert run.read_part(removal)["id"].to_pylist() == ["b", "b2"]


def test_all_segments_of_a_video_that_is_gone_go_with_it(tmp_path):
    rows = [good(v, V, segment=k, segments=3) for v in ("a", "b") for k in range(3)]
    run = write_run(tmp_path / "run", rows)
    assert prune(run, manifest("b")) == 3
    assert ids(run) == ["b", "b", "b"]
    (removal,) = run.parts("removals")
    assert run.read_part(removal)["id"].to_pylist() == ["a#0", "a#1", "a#2"]


def test_an_empty_manifest_empties_a_run(run):
    assert prune(run, manifest()) == 5
    assert (run.parts(), run.parts("failures")) == ([], [])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"retry_failures": "Tiemout"}, "--retry-failures Tiemout: expected all, or some of"),
        ({"prune": True, "limit": 3}, "--prune takes the whole manifest"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        EmbedConfig.make({"manifest": "m", "out": "o", **options})
