"""What is taken out of a run before a job: failures to be tried again, videos that are gone."""

from __future__ import annotations

import os

import pyarrow as pa
import pytest

from tests.helpers.http import FileServer
from tests.helpers.runs import bad, good, vectors, write_run
from vidembed import sources
from vidembed.access import Access
from vidembed.amounts import Limit
from vidembed.config import EmbedConfig
from vidembed.errors import ConfigError, ManifestError
from vidembed.store.done import survey
from vidembed.store.tidy import Changed, check_prune, forget_failures, prune, take_out_changed

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


@pytest.mark.parametrize(
    ("kept", "most", "refused"),
    [
        ("a b b2 x y", "0", False),
        ("a b b2 x", "0", True),
        ("a b b2 x", "1", False),
        ("a b b2 x", "20%", False),
        ("a b b2 x", "19%", True),
        ("a b", "50%", True),
        ("", "99%", True),
        ("", "100%", False),
    ],
)
def test_more_than_is_allowed_is_not_taken_out(run, kept, most, refused):
    if not refused:
        check_prune(run, manifest(*kept.split()), Limit.parse(most))
        return
    with pytest.raises(ManifestError, match=rf"of 5 rows .* allows {most}: is the manifest whole"):
        check_prune(run, manifest(*kept.split()), Limit.parse(most))
    assert (ids(run), sorted(ids(run, "failures"))) == (["a", "b", "b2"], ["x", "y"])


def test_rows_of_an_empty_run_are_none(tmp_path):
    check_prune(write_run(tmp_path / "run", []), manifest(), Limit.parse("0"))


def test_an_empty_manifest_empties_a_run(run):
    assert prune(run, manifest()) == 5
    assert (run.parts(), run.parts("failures")) == ([], [])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"retry_failures": "Tiemout"}, "--retry-failures Tiemout: expected all, or some of"),
        ({"prune": True, "limit": 3}, "--prune takes the whole manifest"),
        ({"redo_changed": True, "limit": 3}, "--redo-changed takes the whole manifest"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        EmbedConfig.make({"manifest": "m", "out": "o", **options})


# Sources that have changed


def noted(video: str, uri: object, **more) -> dict:
    """A row that knows what its source is now."""
    return good(video, V, **more) | {"uri": str(uri), "source_state": sources.state(str(uri))}


def manifest_of(**uris) -> list[pa.Table]:
    ids, uris = list(uris), [str(uri) for uri in uris.values()]
    return [pa.table({"video_id": ids, "uri": pa.array(uris, pa.string())})]


@pytest.fixture
def files(tmp_path):
    found = [tmp_path / f"{name}.mp4" for name in "abcd"]
    for file in found:
        file.write_bytes(b"a video")
    return found


@pytest.fixture
def anywhere(tmp_path):
    return Access.of(str(tmp_path), ())


def test_only_what_has_changed_is_taken_out_with_all_its_segments(tmp_path, files, anywhere):
    a, b, c, d = files
    cut = [noted("b", b, segment=k, segments=3) for k in range(3)]
    run = write_run(tmp_path / "run", [noted("a", a), *cut, noted("c", c), noted("d", d), bad("x")])
    untouched = run.commit(vectors([noted("e", a)]))
    b.write_bytes(b"another video")
    os.utime(c, (1, 1))
    given = manifest_of(a=a, b=b, c=c, e=a, x=a, new=d)
    assert take_out_changed(run, given, anywhere) == Changed(changed=4, unknown=0)
    # d is not in the manifest, and could not be done again.
    assert ids(run) == ["a", "d", "e"]
    assert ids(run, "failures") == ["x"]
    assert untouched in run.parts()
    (removal,) = run.parts("removals")
    assert run.read_part(removal)["id"].to_pylist() == ["b#0", "b#1", "b#2", "c"]
    assert take_out_changed(run, given, anywhere) == Changed(changed=0, unknown=0)


def test_a_video_that_is_half_redone_keeps_the_new_half(tmp_path, files, anywhere):
    old = noted("a", files[0], segment=0, segments=2)
    files[0].write_bytes(b"another video")
    run = write_run(tmp_path / "run", [old, noted("a", files[0], segment=1, segments=2)])
    assert take_out_changed(run, manifest_of(a=files[0]), anywhere).changed == 1
    assert run.read(["segment"])["segment"].to_pylist() == [1]


def test_what_cannot_be_compared_stays_and_is_counted(tmp_path, files, anywhere):
    a, b, c, _ = files
    run = write_run(tmp_path / "run", [noted("a", a), good("b", V), noted("c", c)])
    a.unlink()
    assert take_out_changed(run, manifest_of(a=a, b=b, c=c), anywhere) == Changed(0, 2)
    nothing = Access.of("s3://elsewhere", ())
    assert take_out_changed(run, manifest_of(a=a, b=b, c=c), nothing) == Changed(0, 3)
    assert ids(run) == ["a", "b", "c"]


def test_parts_of_before_the_column_are_read(tmp_path, files, anywhere):
    import pyarrow.parquet as pq

    run = write_run(tmp_path / "run", [noted("a", files[0])])
    (part,) = run.parts()
    old = pq.read_table(part).drop_columns(["source_state"])
    pq.write_table(old, part)
    run.commit(vectors([noted("b", files[1])]))
    files[1].write_bytes(b"another video")
    assert take_out_changed(run, manifest_of(a=files[0], b=files[1]), anywhere) == Changed(1, 1)
    assert run.read()["video_id"].to_pylist() == ["a"]


def test_a_remote_source_is_told_by_its_etag_as_it_was_when_it_was_opened(tmp_path):
    from vidembed.ranged import open_ranged

    with FileServer() as server:
        uri = server.put("/a.mp4", b"x" * 300_000)
        with open_ranged(uri, max_bytes=1 << 20) as file:
            opened = sources.remote_state(file.size, file.version)
        assert opened == sources.state(uri)
        server.put("/a.mp4", b"y" * 300_000)
        assert sources.state(uri) not in (None, opened)
        assert sources.state(uri + "-absent") is None


def test_what_is_done_again_is_another_part(tmp_path, files):
    run = write_run(tmp_path / "run", [noted("a", files[0])])
    (first,) = run.parts()
    later = run.take_over()
    assert later.commit(vectors([noted("a", files[0])])) != first
    assert later.commit(vectors([noted("b", files[1])])) == later.commit(
        vectors([noted("b", files[1])])
    )
