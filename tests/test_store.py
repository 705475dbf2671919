"""A run directory: parts that appear whole, a resume that doubles nothing, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers.runs import METADATA, bad, good, record, vectors, write_run
from vidembed import schema, sources
from vidembed.errors import ConfigError, RunError, RunMismatchError
from vidembed.labels import ALONE
from vidembed.store import done as finished
from vidembed.store.done import settled, survey
from vidembed.store.run import Run, delete_run

V = [[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0], [0, 0, 0, 1.0]]
ROWS = [good("a", V[0]), good("b", V[1]), bad("c")]


@pytest.fixture
def run(tmp_path):
    return Run.create_or_resume(str(tmp_path / "run"), record())


def manifest(*videos: str) -> pa.Table:
    rows = [{"video_id": v, "uri": f"/videos/{v}.mp4"} for v in videos]
    return pa.Table.from_pylist(rows, schema=pa.schema([*schema.MANIFEST, *METADATA]))


def remaining(run: Run, *videos: str) -> dict[str, list[int]]:
    left = finished.remaining(manifest(*videos), {ALONE: survey(run)})
    return dict(zip(left["video_id"].to_pylist(), left["skip"].to_pylist(), strict=True))


# Parts


def test_good_and_failed_rows_go_to_different_places_once(run):
    run.commit(vectors(ROWS))
    embedded, failed = run.read(), run.read(kind="failures")
    assert embedded["id"].to_pylist() == ["a", "b"]
    assert embedded.schema.equals(schema.embeddings(4, METADATA))
    assert failed.to_pylist() == [
        {
            "video_id": "c",
            "uri": "/videos/c.mp4",
            "stage": "decode",
            "error": "Corrupt",
            "message": "c is damaged",
            "attempts": 1,
            "caption": "this is c",
        }
    ]
    assert run.vectors().tolist() == V[:2]


def test_a_part_carries_encoder_fingerprint_and_metric(run):
    part = run.commit(vectors(ROWS))
    marks = pq.read_schema(part).metadata
    assert marks[b"vidembed.encoder"] == b"clip4clip"
    assert marks[b"vidembed.fingerprint"] == b"f" * 16
    assert marks[b"vidembed.metric"] == b"COSINE"


def test_the_same_rows_twice_are_one_file_whatever_their_order(run):
    first = run.commit(vectors(ROWS))
    again = run.commit(vectors(ROWS[::-1]))
    assert first == again
    assert len(run.parts()) == len(run.parts("failures")) == 1
    assert survey(run).doubled == 0


def test_other_rows_are_another_file(run):
    assert run.commit(vectors(ROWS[:1])) != run.commit(vectors(ROWS[1:2]))
    assert len(run.parts()) == 2


def test_rows_that_all_failed_leave_no_part_of_vectors(run):
    assert run.commit(vectors([bad("c"), bad("d")])) is None
    assert run.parts() == []
    assert run.read(kind="failures")["video_id"].to_pylist() == ["c", "d"]


def test_nothing_committed_leaves_nothing(run):
    assert run.commit(vectors([])) is None
    assert run.parts() == run.parts("failures") == []
    assert len(run.read()) == 0


def test_one_failed_segment_fails_its_video_in_one_row(run):
    rows = [
        good("a", V[0], 0, 3),
        bad("a", "NonFinite", 1, 3),
        bad("a", "NonFinite", 2, 3),
        good("b", V[1], 0, 1),
    ]
    run.commit(vectors(rows))
    assert run.read()["video_id"].to_pylist() == ["b"]
    assert run.read(kind="failures")["error"].to_pylist() == ["NonFinite"]


def test_a_half_written_file_is_never_listed(run):
    run.commit(vectors(ROWS))
    folder = Path(run.path("embeddings"))
    (folder / f".part-x.parquet.{os.getpid()}.tmp").write_bytes(b"PAR1 half")
    (folder / "_temporary.parquet").write_bytes(b"PAR1 half")
    (folder / "notes.txt").write_text("mine")
    assert [Path(p).name for p in run.parts()] == [
        f.name for f in folder.iterdir() if f.name.startswith("part-")
    ]
    assert len(run.read()) == 2


_WRITER = """
import sys
from vidembed import sources
data = bytes(20_000_000)
while True:
    print(".", flush=True)
    sources.write_whole(sys.argv[1], data)
"""


def test_a_writer_that_is_killed_leaves_the_whole_file_or_none(tmp_path):
    target = tmp_path / "part.parquet"
    for wait in (0.0, 0.004, 0.012, 0.03):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(target)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(wait)
        writer.kill()
        writer.wait()
        writer.stdout.close()
        assert not target.exists() or target.stat().st_size == 20_000_000
        assert sources.list_folder(str(tmp_path), ".parquet") in ([], [str(target)])


def test_a_write_that_fails_leaves_no_litter(tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(OSError, match="there"):
        sources.write_whole(str(tmp_path / "there"), b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["there"]


def test_a_part_of_whose_data_one_bit_has_turned_is_noticed_and_not_read(run):
    run.commit(vectors([good(f"v{k}", [k, 1.0, 0.0, 0.0]) for k in range(500)]))
    part = Path(run.parts()[0])
    sound, rows = part.read_bytes(), run.read_part(str(part))
    noticed = 0
    draw = np.random.default_rng(3)
    footer = int.from_bytes(sound[-8:-4], "little")
    for at in draw.integers(4, len(sound) - 8 - footer, 40):
        turned = bytearray(sound)
        turned[at] ^= 1 << draw.integers(8)
        part.write_bytes(bytes(turned))
        try:
            # Not all bits of a page's header matter; those of its data do.
            assert run.read_part(str(part)).equals(rows)
        except RunError as error:
            noticed += part.name in str(error)
    assert noticed > 30


def test_a_damaged_part_is_named_with_the_remedy(run):
    part = Path(run.commit(vectors(ROWS)))
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(RunError) as caught:
        run.read()
    assert str(part) in str(caught.value)
    assert "delete it, and embed again into the same --out" in str(caught.value)


def test_a_deleted_part_s_videos_are_redone(run):
    os.unlink(run.commit(vectors(ROWS)))
    assert remaining(run, "a", "b", "c") == {"a": [], "b": []}


def test_a_part_of_another_encoder_is_refused(run, tmp_path):
    other = Run.create_or_resume(str(tmp_path / "other"), record(fingerprint="e" * 16))
    part = Path(other.commit(vectors(ROWS)))
    Path(run.path("embeddings")).mkdir()
    part.rename(Path(run.path("embeddings")) / part.name)
    with pytest.raises(RunMismatchError, match=f"fingerprint {'e' * 16}"):
        run.read()


def test_the_schema_does_not_depend_on_the_rows(run):
    """A column that is all null in one part merges with the next."""
    rows = [good("a", V[0]) | {"caption": None, "fps": None}, good("b", V[1])]
    run.commit(vectors(rows[:1]))
    run.commit(vectors(rows[1:]))
    assert sorted(run.read()["fps"].to_pylist(), key=str) == [25.0, None]


# Resuming


def test_finished_videos_are_not_done_again(run):
    assert remaining(run, "a", "b") == {"a": [], "b": []}
    run.commit(vectors(ROWS))
    assert remaining(run, "a", "b", "c", "d") == {"d": []}
    done = survey(run)
    assert (done.embedded, done.failed, done.clips, done.doubled) == (2, 1, 2, 0)


def test_of_a_video_that_is_partly_done_the_rest_is_done(run):
    run.commit(vectors([good("a", V[0], 0, 3), good("b", V[1], 0, 2)]))
    run.commit(vectors([good("a", V[2], 2, 3), good("b", V[3], 1, 2)]))
    left = remaining(run, "a", "b", "c")
    assert {k: sorted(v) for k, v in left.items()} == {"a": [0, 2], "c": []}
    done = survey(run)
    assert (done.embedded, done.clips) == (1, 4)
    run.commit(vectors([good("a", V[1], 1, 3)]))
    assert remaining(run, "a", "b", "c") == {"c": []}
    assert survey(run).embedded == 2


def test_a_video_that_is_there_twice_is_noticed(run):
    run.commit(vectors([good("a", V[0]), good("b", V[1])]))
    run.commit(vectors([good("a", V[0]), good("d", V[1])]))
    assert survey(run).doubled == 1


def test_a_video_that_failed_after_some_of_its_segments_has_failed(run):
    run.commit(vectors([good("a", V[0], 0, 2), good("b", V[1])]))
    run.commit(vectors([bad("a")]))
    assert survey(run).doubled == 1
    done = settled(run)
    assert (done.embedded, done.failed, done.doubled) == (1, 1, 0)
    assert run.read()["video_id"].to_pylist() == ["b"]
    assert remaining(run, "a", "b") == {}


def test_many_videos_are_told_apart(run):
    names = [f"video/{k}" for k in range(3000)]
    run.commit(vectors([good(name, V[0]) for name in names[::2]]))
    left = remaining(run, *names)
    assert list(left) == names[1::2]


def test_the_same_run_is_resumed_and_another_is_refused_with_the_difference(tmp_path):
    place = str(tmp_path / "run")
    Run.create_or_resume(place, record())
    assert Run.create_or_resume(place, record()).fingerprint == "f" * 16
    other = record()
    clip = other["identity"]["clip"]
    clip = clip | {"sampling": clip["sampling"] | {"count": 8}}
    other["identity"] = other["identity"] | {"weights": "1" * 64, "clip": clip}
    with pytest.raises(RunMismatchError) as caught:
        Run.create_or_resume(place, other)
    text = str(caught.value)
    assert "clip.sampling.count is 4 there and 8 now" in text
    assert "weights is 0000000000000000… there and 1111111111111111… now" in text
    assert "--overwrite" in text
    assert Run.open(place).identity == record()["identity"]


def test_workers_of_an_earlier_attempt_commit_no_more(run):
    first = run.take_over()
    first.commit(vectors(ROWS[:1]))
    second = Run.open(run.uri).take_over()
    with pytest.raises(RunError, match="taken over by a later attempt"):
        first.commit(vectors(ROWS[1:]))
    second.commit(vectors(ROWS[1:]))
    assert len(run.read()) == 2


def test_a_place_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"is no run: it has no run\.json"):
        Run.open(str(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file, not a folder"):
        Run.create_or_resume(str(tmp_path / "file"), record())
    (tmp_path / "run.json").write_text("{ half")
    with pytest.raises(ConfigError, match="is not valid JSON"):
        Run.open(str(tmp_path))


def test_embeddings_without_their_record_are_not_taken_for_a_run(run):
    run.commit(vectors(ROWS))
    os.unlink(run.path("run.json"))
    with pytest.raises(ConfigError, match=r"has embeddings but no run\.json"):
        Run.create_or_resume(run.uri, record())


def test_a_folder_with_other_files_becomes_a_run_and_keeps_them(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    Run.create_or_resume(str(tmp_path), record()).commit(vectors(ROWS))
    assert len(Run.open(str(tmp_path)).read()) == 2
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_deleting_a_run_leaves_foreign_files(tmp_path):
    place = tmp_path / "run"
    run = write_run(place, ROWS)
    (place / "mine.txt").write_text("mine")
    (place / "notes").mkdir()
    delete_run(run.uri)
    assert sorted(p.name for p in place.iterdir()) == ["mine.txt", "notes"]
    delete_run(run.uri)
    delete_run(str(tmp_path / "absent"))


def test_a_link_to_elsewhere_is_removed_and_what_it_points_to_is_not(tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "part.parquet").touch()
    place = tmp_path / "run"
    Run.create_or_resume(str(place), record())
    (place / "embeddings").symlink_to(precious)
    delete_run(str(place))
    assert not (place / "embeddings").exists()
    assert (precious / "part.parquet").exists()


def test_what_a_run_remembers_is_in_its_record(run):
    assert run.remember(milvus="x.db").record["milvus"] == "x.db"
    assert Run.open(run.uri).record["milvus"] == "x.db"
