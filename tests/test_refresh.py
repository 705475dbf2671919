"""The scheduled round: what is new is embedded, verified, put in place, evaluated and reported."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

import vidembed
from tests.conftest import ROOT
from vidembed import config
from vidembed.cli import main
from vidembed.config import RefreshConfig, ReindexConfig
from vidembed.errors import BusyError, ConfigError, RefusedError, RunMismatchError
from vidembed.refreshing import job, refresh
from vidembed.reindexing import status
from vidembed.store import versions as versions_module
from vidembed.store.lease import Pace, held
from vidembed.store.run import Run
from vidembed.store.versions import Versions

pytestmark = [pytest.mark.ray, pytest.mark.milvus, pytest.mark.usefixtures("ray_session")]

QUICK = Pace(renew_s=0.2, free_s=1.0, settle_s=0.05)
# Holds a run until its input ends.
HOLD = """
import sys
from vidembed.store.lease import held
with held(sys.argv[1], print):
    print("held", flush=True)
    sys.stdin.read()
"""
# A round that is killed as one of its steps begins, or as the alias would be moved.
KILLED = """
import os, signal, sys
from vidembed import cli
from vidembed.refreshing import job
from vidembed.store.versions import Versions

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

place = {"reindex": (job, "reindex"), "fill": (Versions, "alone"), "point": (Versions, "point"),
         "evaluate": (job, "measured")}[sys.argv[1]]
setattr(*place, die)
cli.main(sys.argv[2:])
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(versions_module, "PACE", QUICK)
    monkeypatch.setattr(Versions.__init__, "__defaults__", (10.0, QUICK))
    monkeypatch.setattr("vidembed.reindexing.job.PACE", QUICK)
    monkeypatch.setattr("vidembed.reindexing.job._GRACE_S", 0.1)
    monkeypatch.setattr("vidembed.refreshing.job._WAIT_S", 0.1)


class Place:
    """A manifest that grows, a run, and an alias."""

    def __init__(self, folder: Path, corpus: Path, milvus: str, alias: str = "live") -> None:
        self.folder, self.corpus = folder, corpus
        self.manifest, self.run = folder / "manifest.parquet", folder / "run"
        self.milvus, self.alias = milvus, alias

    def grow(self, videos: int) -> None:
        table = csv.read_csv(self.corpus).slice(0, videos)
        uris = [str(self.corpus.parent / uri) for uri in table["uri"].to_pylist()]
        at = table.column_names.index("uri")
        pq.write_table(table.set_column(at, "uri", [uris]), self.manifest)

    def options(self, **more) -> dict:
        given = {
            "manifest": str(self.manifest), "out": str(self.run), "alias": self.alias,
            "milvus": self.milvus, "encoder": "clip4clip-tiny", "index": "FLAT", "examples": 0,
            "queries": str(self.corpus), "progress": "none",
        }  # fmt: skip
        return {k: v for k, v in (given | more).items() if v is not None}

    def words(self, **more) -> list[str]:
        options = self.options(**more)
        words = ["refresh", options.pop("manifest")]
        for name, value in options.items():
            words += ["--" + name.replace("_", "-"), *([] if value is True else [str(value)])]
        return words

    def refresh(self, **more):
        return vidembed.refresh(**self.options(**more))

    def live(self) -> str | None:
        found = ReindexConfig.make({"alias": self.alias, "milvus": self.milvus, "status": True})
        return status(found)[0]

    def reports(self) -> list[dict]:
        found = sorted((self.run / "refreshes").glob("*/refresh.json"))
        return [json.loads(path.read_text()) for path in found]


@pytest.fixture(scope="module")
def first(corpus, tmp_path_factory):
    """A place after its first round, of 12 videos, and what came of that."""
    place = Place(tmp_path_factory.mktemp("first"), Path(corpus), "")
    place.milvus = str(place.folder / "lite.db")
    place.grow(12)
    return place, place.refresh()


@pytest.fixture
def place(first, tmp_path):
    """The same run with a manifest and an index of its own, which is not built yet."""
    there, _ = first
    found = Place(tmp_path, there.corpus, str(tmp_path / "lite.db"))
    shutil.copytree(there.run, found.run, ignore=shutil.ignore_patterns("refreshes", "projections"))
    found.grow(12)
    return found


def states(done) -> dict[str, str]:
    return {step.name: step.state for step in done.steps}


def test_the_first_round_embeds_all_makes_the_alias_evaluates_and_writes_what_it_did(first):
    place, done = first
    assert (done.verdict, done.exit_code) == ("done", 0)
    assert states(done) == {"embed": "done", "reindex": "done", "evaluate": "done"}
    assert (done.embedded.new, done.embedded.failed_before, done.index.rows) == (12, None, 12)
    assert (done.index.before, done.index.recall, done.index.gate["before"]) == (None, 1.0, None)
    assert done.evaluation.metrics["text_to_video"]["gallery"] == 12
    assert done.index.live == place.live()
    (report,) = place.reports()
    assert report == json.loads(json.dumps(done.plain()))
    folder = place.run / "refreshes" / done.name
    assert "12 videos were new" in (folder / "refresh.html").read_text()
    assert (folder / "evaluation.html").exists()


def test_a_round_does_what_is_new_and_says_what_has_changed_since_the_last(place, capsys):
    place.refresh()
    before = place.live()
    place.grow(16)
    assert main(place.words()) == 0
    told = capsys.readouterr().out
    _, report = place.reports()
    assert report["embedded"]["new"] == 4
    assert report["index"]["before"] == before != report["index"]["live"] == place.live()
    assert (report["index"]["rows_before"], report["index"]["rows"]) == (12, 16)
    assert report["index"]["gate"]["before"] is not None
    change = report["evaluation"]["change"]["text_to_video"]
    assert (change["gallery"]["before"], change["gallery"]["difference"]) == (12, 4)
    assert change["R@1"]["p"] is not None
    assert any("candidates" in note for note in report["evaluation"]["notes"])
    assert "text→video R@1" in told
    assert f"done: alias live points to {place.live()}" in told


def test_a_round_without_news_starts_no_ray_builds_nothing_and_keeps_its_reports_few(
    place, monkeypatch
):
    one = place.refresh()

    def never(*_, **__):
        raise AssertionError("Ray was asked for")

    monkeypatch.setattr("vidembed.cluster.connected", never)
    monkeypatch.setattr("vidembed.evaluation.job.evaluate", never)
    for _ in range(2):
        again = place.refresh(keep_reports=1)
    assert (again.verdict, again.exit_code, again.index.live) == ("unchanged", 0, one.index.live)
    assert set(states(again).values()) == {"nothing to do"}
    assert again.evaluation == one.evaluation
    # The last one, and the one that has the evaluation.
    assert [report["name"] for report in place.reports()] == [one.name, again.name]


def test_queries_that_change_are_asked_anew_though_nothing_else_did(place, tmp_path):
    own = tmp_path / "own.parquet"
    table = csv.read_csv(place.corpus)
    pq.write_table(table, own)
    place.refresh(queries=str(own))
    pq.write_table(table.slice(0, 6), own)
    again = place.refresh(queries=str(own))
    assert (again.verdict, states(again)["evaluate"]) == ("unchanged", "done")
    assert again.evaluation.metrics["text_to_video"]["queries"] == 6


def worsen(run: Path) -> None:
    """Have every video's vector point away from where its caption is."""
    opened = Run.open(str(run))
    (part, *others) = opened.parts()
    for each in (part, *others):
        table = opened.read_part(each)
        vectors = -table["embedding"].combine_chunks().flatten().to_numpy()
        column = type(table["embedding"].combine_chunks()).from_arrays(
            vectors, type=table["embedding"].type
        )
        at = table.column_names.index("embedding")
        os.unlink(each)
        opened.write_part("embeddings", table.set_column(at, "embedding", column))
    opened.remember(attempt="of the drill")


def test_a_version_that_finds_less_is_refused_with_exit_code_1_and_the_alias_stays(place, capsys):
    place.grow(16)
    good = place.refresh()
    worsen(place.run)
    place.grow(18)
    assert main(place.words(gate_margin=0.0)) == 1
    told = capsys.readouterr()
    report = place.reports()[-1]
    assert (report["verdict"], report["exit_code"]) == ("refused", 1)
    assert report["index"]["gate"]["now"] < report["index"]["gate"]["before"]
    assert place.live() == good.index.live == report["index"]["live"]
    assert "The alias stays where it is" in told.err
    assert f"Alias live points to {good.index.live}" in told.out
    assert "refused" in told.out
    # The evaluation is that of what is live, not of what was refused.
    assert report["evaluation"]["round"] == good.name
    with pytest.raises(RefusedError, match="more than --gate-margin"):
        place.refresh(gate_margin=0.0)


def test_more_failures_than_allowed_build_nothing_and_are_exit_code_3(place, capsys):
    good = place.refresh()
    table = pq.read_table(place.manifest)
    uris = [f"/nowhere/{k}.mp4" for k in range(6)]
    lost = table.slice(0, 6).set_column(table.column_names.index("uri"), "uri", [uris])
    lost = lost.set_column(0, table.column_names[0], [[f"lost{k}" for k in range(6)]])
    pq.write_table(pa.concat_tables([table, lost]), place.manifest)
    assert main(place.words(max_failures="20%")) == 3
    report = place.reports()[-1]
    assert report["verdict"] == "too many failures"
    assert report["embedded"]["failures"] == {"NotFound": 6}
    assert [s["state"] for s in report["steps"]] == ["done", "left out", "left out"]
    assert place.live() == good.index.live
    assert "NotFound 6 (+6)" in capsys.readouterr().out


@pytest.fixture
def holder(place):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(place.run)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_round_ends_at_once_skips_or_waits_as_it_is_told(place, holder, capsys):
    assert main(place.words()) == 1
    told = capsys.readouterr().err
    assert f"process {holder.pid} on" in told
    assert "since 20" in told
    assert main(place.words(if_running="skip")) == 0
    assert "Nothing is done" in capsys.readouterr().err
    with pytest.raises(BusyError):
        place.refresh()
    assert place.reports() == []
    assert place.live() is None
    holder.stdin.close()
    assert place.refresh(if_running="wait").verdict == "done"


def test_a_round_holds_its_run_against_embed_through_all_of_its_steps(place, monkeypatch):
    seen = []

    def refused() -> None:
        code = "import sys; from vidembed.store.lease import held\nwith held(sys.argv[1], print): 0"
        done = subprocess.run(
            [sys.executable, "-c", code, str(place.run)],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        seen.append(f"process {os.getpid()}" in done.stderr)

    real = job.reindex, job.measured
    monkeypatch.setattr(job, "reindex", lambda *a: (refused(), real[0](*a))[1])
    monkeypatch.setattr(job, "measured", lambda *a: (refused(), real[1](*a))[1])
    place.refresh()
    assert seen == [True, True]
    with held(str(place.run), print):
        pass


def test_an_alias_that_another_job_re_indexes_is_left_to_it(place):
    done = place.refresh()
    place.grow(13)
    other = Versions(place.milvus, place.alias, pace=QUICK)
    about = other.about(done.index.live)
    other.note(dataclasses.replace(about, updating=True, holder="process 1 on another-machine"))
    with other.kept_alive(about.name):
        left = place.refresh(if_running="skip")
    assert (left.verdict, left.exit_code, states(left)["reindex"]) == ("left", 0, "left out")
    other.close()
    assert place.refresh().index.rows == 13


def test_after_kills_at_every_step_the_alias_serves_and_the_next_round_finishes(place, milvus):
    place.milvus, place.alias = milvus.uri, "killed"
    for where in ("reindex", "fill", "point", "evaluate"):
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, where, *place.words()],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        report = place.reports()[-1]
        assert report["verdict"] == "running"
        assert (place.live() is not None) == (where == "evaluate")
    # What was verified before the kill was put in place by the next round.
    assert report["index"]["action"] == "finished"
    said: list[str] = []
    done = refresh(RefreshConfig.make(place.options()), said.append)
    assert any("did not end" in line for line in said)
    assert states(done) == {
        "embed": "nothing to do", "reindex": "nothing to do", "evaluate": "done",
    }  # fmt: skip
    assert place.live() == done.index.live == report["index"]["live"]
    every = status(ReindexConfig.make({"alias": "killed", "milvus": milvus.uri, "status": True}))[1]
    assert [version.name for version in every] == [done.index.live]


def test_another_encoder_is_refused_before_anything_with_what_to_do(place, clip_folder, capsys):
    assert main(place.words(encoder="clip4clip", weights=clip_folder)) == 2
    told = capsys.readouterr().err
    assert "name another --out and keep --alias" in told
    assert "--overwrite" not in told
    assert place.reports() == []
    done = place.refresh()
    new = Place(place.folder / "new", place.corpus, place.milvus)
    new.folder.mkdir()
    new.grow(6)
    other = new.refresh(encoder="clip4clip", weights=clip_folder, gate_margin=1.0)
    assert (other.index.before, other.index.live) == (done.index.live, place.live())
    with pytest.raises(RunMismatchError, match="name another --out"):
        place.refresh(encoder="clip4clip", weights=clip_folder)


def test_other_runs_stand_behind_the_same_alias_and_are_evaluated_with_it(place, tmp_path):
    rest = Place(tmp_path / "rest", place.corpus, place.milvus)
    rest.folder.mkdir()
    table = csv.read_csv(place.corpus)
    uris = [str(place.corpus.parent / uri) for uri in table["uri"].to_pylist()]
    whole = table.set_column(table.column_names.index("uri"), "uri", [uris])
    pq.write_table(whole.slice(10, 5), rest.manifest)
    done = rest.refresh(also_runs=str(place.run), backend="milvus")
    # Videos 10 and 11 are in both.
    assert done.index.rows == 15
    assert done.evaluation.metrics["text_to_video"]["gallery"] == 15
    assert done.evaluation.metrics["text_to_video"]["queries"] == 15


def test_what_does_not_fit_is_said_before_anything_is_begun(place, capsys):
    for more, said in (
        ({"queries": "/nowhere.csv"}, "/nowhere.csv"),
        ({"milvus": "milvus:19530"}, "expected a path ending in .db"),
        ({"also_runs": "/nowhere"}, "is no run"),
        ({"encoder": "clip4clip,clip4clip-tiny"}, "an alias is of one encoder"),
        ({"manifest": "/nowhere.parquet"}, "/nowhere.parquet"),
    ):
        assert main(place.words(**more)) == 2
        assert said in capsys.readouterr().err
    assert place.reports() == []


def test_every_option_of_the_three_commands_is_an_option_of_the_round_or_stands_for_it():
    own = set(config.RefreshConfig.model_fields)
    without = {"collection", "overwrite", "run", "runs", "rollback", "status", "dry_run"}
    # Of the evaluation alone: pictures are not ranked again every night.
    without |= {"rerank", "rerank_top"}
    for each in (config.EmbedConfig, config.ReindexConfig, config.EvaluateConfig):
        assert set(each.model_fields) - own <= without
    with pytest.raises(ConfigError, match="--overwrite"):
        RefreshConfig.make({"manifest": "m", "out": "o", "alias": "a", "milvus": "x.db",
                            "overwrite": True})  # fmt: skip
