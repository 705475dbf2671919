"""Small parts become large ones: a reader sees all of the old or of the new, after kills too."""

from __future__ import annotations

import contextvars
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.conftest import ROOT
from tests.helpers.runs import bad, good, record, vectors
from vidembed import cli
from vidembed.errors import ConfigError, RunError
from vidembed.store import compact as module
from vidembed.store.compact import compact, heal
from vidembed.store.done import survey
from vidembed.store.lease import held
from vidembed.store.ledger import Ledger, stem
from vidembed.store.run import Run

V = [1.0, 0, 0, 0]
LARGE = 1 << 20


def made(folder, parts=6, rows=10) -> Run:
    run = Run.create_or_resume(str(folder), record())
    for part in range(parts):
        some = [good(f"v{part}-{k}", V) for k in range(rows)]
        run.commit(vectors([*some, bad(f"bad{part}")]))
    return run


def ids(run) -> list[str]:
    return sorted(run.read(["id"])["id"].to_pylist())


def test_parts_are_merged_and_every_row_is_there_once_as_it_was(tmp_path):
    run = made(tmp_path / "run")
    before = run.read().sort_by("id")
    (Path(run.path("embeddings")) / "notes.txt").write_text("mine")
    found = compact(run, LARGE)
    assert (found.parts, found.now) == (12, 2)
    (part,) = run.parts()
    assert run.read().sort_by("id").equals(before)
    assert pq.read_schema(part).metadata[b"vidembed.fingerprint"] == b"f" * 16
    assert run.read(kind="failures")["video_id"].to_pylist() == [f"bad{k}" for k in range(6)]
    assert (Path(run.path("embeddings")) / "notes.txt").read_text() == "mine"
    assert not Path(run.path(".compact")).exists()
    assert survey(run).doubled == 0
    assert compact(run, LARGE).parts == 2


def test_large_parts_stay_and_groups_are_of_the_size_asked_for(tmp_path):
    run = made(tmp_path / "run")
    sizes = {part: os.path.getsize(part) for part in run.parts()}
    compact(run, 4 * max(sizes.values()))
    assert len(run.parts()) == 2
    large = max(run.parts(), key=os.path.getsize)
    later = Run.open(run.uri)
    later.commit(vectors([good("later", V)]))
    later.commit(vectors([good("latest", V)]))
    compact(run, 2 * os.path.getsize(large) - 2)
    assert large in run.parts()
    assert len(ids(run)) == 62


def test_workers_of_a_job_before_it_commit_nothing_more(tmp_path):
    run = made(tmp_path / "run")
    compact(run, LARGE)
    with pytest.raises(RunError, match="taken over by a later attempt"):
        run.commit(vectors([good("late", V)]))


def test_what_a_collection_holds_it_holds_afterwards(tmp_path):
    run = made(tmp_path / "run")
    one, other = Ledger.of(run, "http://a", "x"), Ledger.of(run, "http://b", "y")
    for part in run.parts():
        one.note_held(stem(part), 10)
    for part in run.parts()[:3]:
        other.note_held(stem(part), 10)
    compact(run, LARGE)
    assert len(run.parts()) == 2
    assert one.held() == {stem(part): 30 for part in run.parts()}
    (half,) = other.held().items()
    assert half[1] == 30
    assert half[0] in one.held()


def test_readers_see_all_of_the_old_or_all_of_the_new(tmp_path):
    run = made(tmp_path / "run", parts=40)
    seen, over = set(), threading.Event()

    def look():
        while not over.is_set():
            seen.add(tuple(sorted(os.listdir(run.path("embeddings")))))

    thread = threading.Thread(target=look)
    thread.start()
    before = tuple(sorted(os.listdir(run.path("embeddings"))))
    compact(run, LARGE)
    after = tuple(sorted(os.listdir(run.path("embeddings"))))
    over.set()
    thread.join()
    assert seen <= {before, after}


def test_a_reader_that_is_too_late_is_told_so(tmp_path):
    run = made(tmp_path / "run")
    old = run.parts()[0]
    compact(run, LARGE)
    with pytest.raises(RunError, match=r"is not there any more: .* do this again"):
        run.read_part(old)


_KILLED_AT = """
import os, signal, sys
from vidembed.store import compact as module
from vidembed.store.run import Run

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

uri, name, when, exchanges = sys.argv[1:]
owner, name = (os, name[3:]) if name.startswith("os.") else (module, name)
if exchanges == "no":
    module._exchanged = lambda one, other: False
plain = getattr(owner, name)
count = 0

def after(*words, **more):
    global count
    plain(*words, **more)
    count += 1
    if count == int(when):
        die()

setattr(owner, name, after if when != "0" else die)
module.compact(Run.open(uri), 60_000)
"""
STEPS = [
    ("_merged", 1),
    ("os.link", 1),
    ("_note_held", 1),
    ("_change_places", 0),
    ("_exchanged", 1),
    ("_change_places", 1),
    ("_clean", 1),
    ("os.rename", 2),
    ("os.rename", 3),
    ("os.rename", 4),
    ("_note_held", 2),
    ("_change_places", 2),
]


@pytest.mark.parametrize("exchanges", ["yes", "no"])
@pytest.mark.parametrize(("name", "when"), STEPS)
def test_killed_at_any_step_it_is_healed_and_loses_and_doubles_nothing(
    tmp_path, name, when, exchanges
):
    run = made(tmp_path / "run", parts=4, rows=3)
    large = [good(f"large{k}", V) | {"caption": os.urandom(20_000).hex()} for k in range(3)]
    stays = run.commit(vectors(large))
    ledger = Ledger.of(run, "http://a", "x")
    for part in run.parts():
        ledger.note_held(stem(part), 3)
    expected, failed = ids(run), sorted(run.read(kind="failures")["video_id"].to_pylist())
    command = [sys.executable, "-c", _KILLED_AT, run.uri, name, str(when), exchanges]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    # Of more renames than there are where the folders are exchanged, it is not killed.
    ends = (-signal.SIGKILL, 0) if name == "os.rename" else (-signal.SIGKILL,)
    assert ended.returncode in ends, ended.stderr
    if exchanges == "yes":
        assert ids(run) == expected
    heal(run)
    assert ids(run) == expected
    assert sorted(run.read(kind="failures")["video_id"].to_pylist()) == failed
    parts = {stem(part) for part in run.parts()}
    assert parts <= set(ledger.held())
    assert not Path(run.path(".compact")).exists()
    compact(run, 60_000)
    assert ids(run) == expected
    assert len(run.parts()) == 2
    assert stays in run.parts()
    assert ledger.held() == {stem(part): len(run.read_part(part)) for part in run.parts()}


def test_a_folder_made_between_two_renames_costs_nothing(tmp_path, monkeypatch):
    run = made(tmp_path / "run")
    expected = ids(run)
    monkeypatch.setattr(module, "_exchanged", lambda one, other: False)
    plain = os.rename

    def meddled(one, other):
        plain(one, other)
        if other.endswith("before"):
            os.makedirs(one)
            (Path(one) / "part-x.parquet.tmp").write_bytes(b"")

    monkeypatch.setattr(module.os, "rename", meddled)
    with pytest.raises(OSError, match="not empty"):
        compact(run, LARGE)
    monkeypatch.setattr(module.os, "rename", plain)
    heal(run)
    assert ids(run) == expected


def test_a_row_that_is_there_twice_stops_it(tmp_path):
    run = made(tmp_path / "run")
    run.commit(vectors([good("v0-0", V)]))
    with pytest.raises(RunError, match="more than once"):
        compact(run, LARGE)
    assert len(run.parts()) == 7


def test_an_object_store_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="copy the run to a file system"):
        compact(Run("s3://bucket/run", record()), LARGE)


def test_the_command_holds_the_run(tmp_path, capsys):
    run = made(tmp_path / "run")
    with held(run.uri, print):
        # In a context of its own: within the one that holds the run, a job is part of that job.
        assert contextvars.Context().run(cli.main, ["compact", run.uri]) == 2
    assert "is being written" in capsys.readouterr().err
    assert cli.main(["compact", run.uri, "--megabytes", "16"]) == 0
    assert "12 parts are 2 now" in capsys.readouterr().out
