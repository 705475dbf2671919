"""Versions of a collection behind an alias: built, verified, put in place of the live one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vidembed
from tests.conftest import ROOT
from tests.helpers.runs import bad, good, record, vectors, write_run
from vidembed.cli import main
from vidembed.config import LoadConfig, ReindexConfig
from vidembed.encode import registry
from vidembed.errors import ConfigError, RunError, RunMismatchError
from vidembed.loading import load
from vidembed.reindexing import reindex, rollback, status
from vidembed.store import versions as versions_module
from vidembed.store.lease import Pace
from vidembed.store.merged import Merged
from vidembed.store.milvus import Collection
from vidembed.store.projection import collection_spec
from vidembed.store.run import Run
from vidembed.store.versions import Versions

pytestmark = [pytest.mark.milvus]

DIM = 4
QUICK = Pace(renew_s=0.2, free_s=1.0, settle_s=0.05)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Waiting for signs of life takes 45 s in earnest."""
    monkeypatch.setattr(versions_module, "PACE", QUICK)
    monkeypatch.setattr(Versions.__init__, "__defaults__", (10.0, QUICK))
    monkeypatch.setattr("vidembed.reindexing.job.PACE", QUICK)
    monkeypatch.setattr("vidembed.reindexing.job._GRACE_S", 0.1)


ON_BOTH = pytest.mark.parametrize("uri", ["lite", "server"], indirect=True)


@pytest.fixture
def uri(request, tmp_path):
    if getattr(request, "param", "lite") == "lite":
        return str(tmp_path / "lite.db")
    return request.getfixturevalue("milvus").uri


@pytest.fixture
def alias(request, uri):
    """The name of an alias; what stands behind it is dropped at the end."""
    name = f"re{abs(hash(request.node.name)) % 10**9}"
    yield name
    if uri.startswith("http"):
        every = Versions(uri, name)
        if every.live() is not None:
            every._client.drop_alias(name)
        for each in every.every():
            every.drop(each.name)
        every.close()


def rows(first: int, last: int, caption: str = "one", seed: int = 0) -> list[dict]:
    draw = np.random.default_rng(seed)
    every = draw.normal(size=(last, DIM))
    every /= np.linalg.norm(every, axis=1, keepdims=True)
    return [good(f"v{k}", every[k]) | {"caption": caption} for k in range(first, last)]


def config(uri: str, alias: str, *runs: Run, **options) -> ReindexConfig:
    given = {"runs": [run.uri for run in runs], "alias": alias, "milvus": uri, "index": "FLAT"}
    return ReindexConfig.make({**given, **options})


def contents(uri: str, name: str) -> dict[str, str]:
    """Captions by key."""
    collection = Collection(uri, name)
    try:
        (hits,) = collection.search(np.ones((1, DIM), np.float32), 1000)
        return {hit["id"]: hit["caption"] for hit in hits}
    finally:
        collection.close()


@ON_BOTH
def test_the_alias_points_to_a_version_with_every_row_of_the_run(tmp_path, uri, alias):
    run = write_run(tmp_path / "run", [*rows(0, 50), bad("broken")])
    done = reindex(config(uri, alias, run))
    assert (done.action, done.rows, done.recall, done.before) == ("built", 50, 1.0, None)
    assert contents(uri, alias) == {f"v{k}": "one" for k in range(50)}
    live, (version,) = status(config(uri, alias, status=True))
    assert live == version.name == done.live
    assert (version.state, version.rows, version.runs) == ("ready", 50, (run.uri,))


def test_what_has_not_changed_is_not_built_again_but_by_force(tmp_path, uri, alias):
    run = write_run(tmp_path / "run", rows(0, 20))
    first = reindex(config(uri, alias, run))
    again = reindex(config(uri, alias, run))
    assert (again.action, again.live) == ("unchanged", first.live)
    forced = reindex(config(uri, alias, run, force=True))
    assert forced.action == "built"
    assert forced.live != first.live
    other = reindex(config(uri, alias, run, index="HNSW"))
    assert other.action == "built"


def test_the_last_run_that_has_a_video_has_it_whole(tmp_path, uri, alias):
    old = write_run(tmp_path / "old", rows(0, 20, "old"))
    cut = [good("w", [1, 0, 0, 0], k, 2) | {"caption": "old"} for k in range(2)]
    old.commit(vectors(cut))
    new = write_run(tmp_path / "new", [*rows(10, 30, "new"), good("w", [0, 1, 0, 0])])
    done = reindex(config(uri, alias, old, new))
    found = contents(uri, alias)
    expected = {f"v{k}": "old" if k < 10 else "new" for k in range(30)}
    assert found == expected | {"w": "this is w"}
    assert done.rows == 31


def test_runs_of_two_encoders_are_refused_with_both_named(tmp_path, uri, alias):
    one = write_run(tmp_path / "one", rows(0, 3))
    other = Run.create_or_resume(str(tmp_path / "other"), record(fingerprint="e" * 16))
    with pytest.raises(RunMismatchError, match=r"other.*fingerprint e{16}|one.*e{16}"):
        reindex(config(uri, alias, one, other))
    with pytest.raises(ConfigError, match="is named twice"):
        reindex(config(uri, alias, one, one))


def test_an_alias_that_is_the_name_of_a_collection_is_refused(tmp_path, uri, alias):
    run = write_run(tmp_path / "run", rows(0, 3))
    taken = f"{alias}_taken"
    load(LoadConfig.make({"run": run.uri, "milvus": uri, "collection": taken, "index": "FLAT"}))
    with pytest.raises(ConfigError, match="an alias needs a name of its own"):
        reindex(config(uri, taken, run))
    collection = Collection(uri, taken)
    collection.drop()
    collection.close()


def test_the_last_versions_stay_and_one_can_go_back(tmp_path, uri, alias):
    run = write_run(tmp_path / "run", rows(0, 5))
    names = [reindex(config(uri, alias, run, force=True, keep=2)).live for _ in range(3)]
    live, every = status(config(uri, alias, status=True))
    assert live == names[2]
    assert [v.name for v in every] == names[1:]
    assert rollback(config(uri, alias, rollback=True)) == (names[1], names[2])
    assert status(config(uri, alias, status=True))[0] == names[1]
    # The same contents again would put back what somebody has just taken away.
    run.commit(vectors(rows(5, 8)))
    built = reindex(config(uri, alias, run, keep=3)).live
    rollback(config(uri, alias, rollback=True))
    kept = reindex(config(uri, alias, run, keep=3))
    assert (kept.action, kept.live) == ("withdrawn", names[1])
    assert reindex(config(uri, alias, run, force=True)).live > built


def test_without_an_earlier_version_there_is_nothing_to_go_back_to(tmp_path, uri, alias):
    run = write_run(tmp_path / "run", rows(0, 5))
    with pytest.raises(ConfigError, match="no earlier version"):
        rollback(config(uri, alias, rollback=True))
    reindex(config(uri, alias, run))
    with pytest.raises(ConfigError, match="no earlier version"):
        rollback(config(uri, alias, rollback=True))


def test_a_dry_run_says_what_would_be_done_and_does_nothing(tmp_path, uri, alias):
    run = write_run(tmp_path / "run", rows(0, 5))
    planned = reindex(config(uri, alias, run, dry_run=True))
    assert (planned.action, planned.rows, planned.live) == ("planned", 5, None)
    assert status(config(uri, alias, status=True)) == (None, [])


@ON_BOTH
def test_in_place_only_what_has_changed_is_written(tmp_path, uri, alias):
    old = write_run(tmp_path / "old", rows(0, 20, "old"))
    cut = [good("w", [1, 0, 0, 0], k, 2) for k in range(2)]
    old.commit(vectors(cut))
    new = write_run(tmp_path / "new", rows(20, 25, "new"))
    first = reindex(config(uri, alias, old, new))
    new.commit(vectors([*rows(5, 8, "newer"), good("w", [0, 1, 0, 0])]))
    old.keep("embeddings", lambda table: [v != "v0" for v in table["video_id"].to_pylist()])
    done = reindex(config(uri, alias, old, new, incremental=True))
    assert (done.action, done.live, done.rows) == ("updated", first.live, 25)
    expected = {
        f"v{k}": "newer" if 5 <= k < 8 else "old" if k < 20 else "new" for k in range(1, 25)
    }
    assert contents(uri, alias) == expected | {"w": "this is w"}
    # A video that the later run loses is the earlier one's again.
    new.keep("embeddings", lambda table: [v != "v6" for v in table["video_id"].to_pylist()])
    reindex(config(uri, alias, old, new, incremental=True))
    assert contents(uri, alias)["v6"] == "old"


def test_in_place_is_for_one_encoder_and_one_index(tmp_path, uri, alias):
    run = write_run(tmp_path / "run", rows(0, 5))
    first = reindex(config(uri, alias, run))
    other = Run.create_or_resume(str(tmp_path / "other"), record(fingerprint="e" * 16))
    other.commit(vectors(rows(0, 5, "other")))
    said: list[str] = []
    done = reindex(config(uri, alias, other, incremental=True), said.append)
    assert (done.action, done.other_encoder) == ("built", True)
    assert done.live != first.live
    assert any("the live version is of clip4clip" in line for line in said)


def test_an_index_that_finds_too_little_is_not_put_in_place(tmp_path, uri, alias, monkeypatch):
    run = write_run(tmp_path / "run", rows(0, 60))
    first = reindex(config(uri, alias, run))
    run.commit(vectors(rows(60, 400, seed=1)))
    search = Collection.search

    def worst(self, queries, top, **options):
        return [hits[-top:] for hits in search(self, queries, top * 5, **options)]

    monkeypatch.setattr(Collection, "search", worst)
    with pytest.raises(RunError, match=r"finds 0\.\d+ of what exact search finds"):
        reindex(config(uri, alias, run))
    live, every = status(config(uri, alias, status=True))
    assert live == first.live
    assert [v.name for v in every] == [first.live]


def test_a_coarse_index_is_measured_for_what_it_is(tmp_path, milvus):
    """No drill: IVF_FLAT that looks into 1 of 512 cells loses neighbours."""
    draw = np.random.default_rng(0)
    every = draw.normal(size=(6000, 16)).astype(np.float32)
    every /= np.linalg.norm(every, axis=1, keepdims=True)
    made = record(dim=16)
    run = Run.create_or_resume(str(tmp_path / "run"), made)
    run.commit(vectors([good(f"v{k}", v) for k, v in enumerate(every)], 16))
    options = {"index": "IVF_FLAT", "index_params": {"nlist": 2048}}
    with pytest.raises(RunError, match=r"less than --min-recall 0\.95"):
        reindex(config(milvus.uri, "coarse", run, **options))
    assert status(config(milvus.uri, "coarse", status=True)) == (None, [])


def test_a_reader_sees_the_old_or_the_new_and_nothing_else(tmp_path, milvus):
    one = write_run(tmp_path / "one", rows(0, 40, "one"))
    two = write_run(tmp_path / "two", rows(0, 40, "two", seed=1))
    reindex(config(milvus.uri, "readers", one))
    over, seen, wrong = threading.Event(), [], []

    def read():
        collection = Collection(milvus.uri, "readers", patience_s=0.0)
        query = np.ones((1, DIM), np.float32)
        while not over.is_set():
            try:
                (hits,) = collection.current().search(query, 10)
            except RunError as error:
                wrong.append(error)
                break
            kinds = {hit["caption"] for hit in hits}
            seen.extend(kinds)
            if len(hits) != 10 or len(kinds) != 1:
                wrong.append(hits)
        collection.close()

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for run in (two, one):
            reindex(config(milvus.uri, "readers", run, keep=2))
    finally:
        over.set()
        for reader in readers:
            reader.join()
    assert not wrong
    assert set(seen) == {"one", "two"}
    assert seen[0] == "one"


@pytest.mark.parametrize("bulk", [False, True], ids=["upsert", "bulk"])
def test_a_kill_at_any_moment_leaves_the_live_version_and_the_next_call_cleans_up(
    tmp_path, milvus, bulk
):
    run = write_run(tmp_path / "run", rows(0, 30, "before"))
    name = f"kills_{bulk}"
    first = reindex(config(milvus.uri, name, run))
    options = ["--bulk", "--stage", str(tmp_path / "stage")] if bulk else []
    command = [sys.executable, "-m", "vidembed", "reindex", "--alias", name, "--index", "FLAT",
               "--milvus", milvus.uri, "--runs", run.uri, "--force", *options]  # fmt: skip
    draw = random.Random(7)
    half_done = 0
    for _ in range(3):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
        # From the first word on: what comes before changes nothing.
        process.stderr.readline()
        time.sleep(draw.uniform(0.0, 5.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
        live, every = status(config(milvus.uri, name, status=True))
        half_done += any(v.state == "building" for v in every)
        assert len(contents(milvus.uri, name)) == 30
        assert live in [v.name for v in every if v.state == "ready"]
    assert half_done
    run.commit(vectors(rows(30, 35, "after")))
    done = reindex(config(milvus.uri, name, run, keep=1))
    live, every = status(config(milvus.uri, name, status=True))
    assert [v.name for v in every] == [live] == [done.live]
    assert live != first.live
    assert len(contents(milvus.uri, name)) == 35
    stage = tmp_path / "stage"
    assert not stage.exists() or not os.listdir(stage)


def test_what_was_verified_before_a_kill_is_put_in_place_by_the_next_call(tmp_path, uri, alias):
    run = write_run(tmp_path / "run", rows(0, 5))
    first = reindex(config(uri, alias, run))
    run.commit(vectors(rows(5, 9)))

    def killed(self, name):
        raise SystemExit

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Versions, "point", killed)
        with pytest.raises(SystemExit):
            reindex(config(uri, alias, run))
    done = reindex(config(uri, alias, run))
    assert (done.action, done.before, done.rows) == ("finished", first.live, 9)
    assert len(contents(uri, alias)) == 9


def test_a_second_job_is_refused_while_the_first_one_lives(tmp_path, uri, alias):
    run = write_run(tmp_path / "run", rows(0, 5))
    reindex(config(uri, alias, run))
    other = Versions(uri, alias, pace=QUICK)
    name = versions_module.new_name(alias)
    building = versions_module.Version(
        name=name, state="building", holder="process 1 on another-machine"
    )
    other.begin(building, collection_spec(run, config(uri, alias, run), name))
    with (
        other.kept_alive(name),
        pytest.raises(ConfigError, match=r"another-machine.*one at a time"),
    ):
        reindex(config(uri, alias, run, force=True))
    # It is silent now, and after a while counts as gone.
    said: list[str] = []
    reindex(config(uri, alias, run, force=True), said.append)
    assert any("waiting 1 s for a sign of life" in line for line in said)
    assert name not in [v.name for v in other.every()]
    other.close()


def test_signs_of_life_and_what_is_noted_do_not_disturb_each_other(tmp_path, uri, alias):
    run = write_run(tmp_path / "run", rows(0, 5))
    reindex(config(uri, alias, run))
    often = Versions(uri, alias, pace=Pace(renew_s=0.0, free_s=1.0, settle_s=0.0))
    (version,) = often.every()
    with often.kept_alive(version.name):
        for k in range(200):
            often.note(replace(version, rows=k))
            assert often.about(version.name).rows == k
    often.close()


def test_merged_runs_read_as_one(tmp_path):
    one = write_run(tmp_path / "one", rows(0, 6, "one"))
    two = write_run(tmp_path / "two", rows(4, 9, "two"))
    merged = Merged.of([Run.open(one.uri), Run.open(two.uri)])
    table = merged.read(["id", "caption"])
    assert dict(zip(table["id"].to_pylist(), table["caption"].to_pylist(), strict=True)) == {
        f"v{k}": "one" if k < 4 else "two" for k in range(9)
    }
    assert merged.count() == 9
    assert len(merged.shadowed()) == 0
    before = merged.content()
    assert Merged.of([Run.open(one.uri), Run.open(two.uri)]).content() == before
    assert Merged.of([Run.open(two.uri), Run.open(one.uri)]).content() != before
    two.commit(vectors(rows(9, 10)))
    assert Merged.of([Run.open(one.uri), Run.open(two.uri)]).content() != before


def test_the_command_says_what_it_did(tmp_path, capsys):
    uri = str(tmp_path / "lite.db")
    run = write_run(tmp_path / "run", rows(0, 5))
    words = ["reindex", "--alias", "live", "--milvus", uri]
    assert main([*words, "--runs", run.uri]) == 0
    assert "alias live points to live__" in capsys.readouterr().out
    assert main([*words, "--runs", run.uri]) == 0
    assert "nothing has changed" in capsys.readouterr().out
    assert main([*words, "--status"]) == 0
    assert "ready" in capsys.readouterr().out
    assert main([*words, "--rollback"]) == 2
    assert "no earlier version" in capsys.readouterr().err
    assert main(words) == 2
    assert "--runs is required" in capsys.readouterr().err


@pytest.fixture(scope="module")
def captioned(tmp_path_factory):
    """Runs of a real encoder whose rows lie where their captions lie, and the captions."""
    folder = tmp_path_factory.mktemp("captioned")
    spec = registry.describe("clip4clip-tiny")
    words = [f"a {c} {s} moving {d}" for c in ("red", "blue", "green") for s in ("circle", "square")
             for d in ("left", "right", "up", "down")]  # fmt: skip
    texts = registry.load(spec, "cpu", "float32").encode_text(words)
    right = [good(f"v{k}", v) | {"caption": words[k]} for k, v in enumerate(texts)]
    wrong = [row | {"embedding": (-v).tolist()} for row, v in zip(right, texts, strict=True)]
    table = pa.table({"video_id": [row["video_id"] for row in right], "caption": words})
    pq.write_table(table, folder / "captions.parquet")
    return (
        write_run(folder / "right", right, spec),
        write_run(folder / "wrong", wrong, spec),
        str(folder / "captions.parquet"),
    )


def test_a_version_that_finds_captions_worse_is_not_put_in_place(captioned, uri, alias):
    right, wrong, captions = captioned
    first = reindex(config(uri, alias, right, gate_queries=captions))
    assert (first.gate.now, first.gate.before, first.gate.queries) == (1.0, None, 24)
    with pytest.raises(RunError, match=r"R@10 of .* with .* and 1\.000 with .*stays where it is"):
        reindex(config(uri, alias, wrong, gate_queries=captions))
    live, every = status(config(uri, alias, status=True))
    assert [v.name for v in every] == [live] == [first.live]
    done = reindex(config(uri, alias, wrong, gate_queries=captions, gate_margin=1.0))
    assert done.gate.now < done.gate.before == 1.0


def test_captions_that_ask_nothing_of_the_runs_cost_no_build(tmp_path, uri, alias, captioned):
    other = write_run(tmp_path / "other", rows(100, 103))
    with pytest.raises(ConfigError, match="none of its 24 ids is in"):
        reindex(config(uri, alias, other, gate_queries=captioned[2]))
    assert status(config(uri, alias, status=True)) == (None, [])


def test_an_open_index_follows_the_alias_and_refuses_another_encoder(captioned, uri, alias):
    right, wrong, _ = captioned
    reindex(config(uri, alias, right))
    with vidembed.open(uri, collection=alias) as index:
        assert index.search("a red circle moving left", top=1)[0].id == "v0"
        reindex(config(uri, alias, wrong))
        assert index.search("a red circle moving left", top=24)[-1].id == "v0"
        other = Run.create_or_resume(
            wrong.uri + "-other", dict(wrong.record, fingerprint="e" * 16, attempt="1")
        )
        spec = registry.describe("clip4clip-tiny")
        other.commit(vectors([good("v0", np.eye(spec.dim)[0])], spec.dim))
        reindex(config(uri, alias, other))
        with pytest.raises(RunMismatchError, match=r"means vectors of .*open it again"):
            index.search("a red circle moving left")


def test_nobody_else_writes_behind_an_alias(tmp_path, uri, alias):
    run = write_run(tmp_path / "run", rows(0, 5))
    reindex(config(uri, alias, run))
    with pytest.raises(ConfigError, match=r"is an alias, of .*vidembed reindex"):
        load(LoadConfig.make({"run": run.uri, "milvus": uri, "collection": alias}))
