"""What people do to a run: parts deleted or damaged, a manifest mixed up, a clock that jumps."""

from __future__ import annotations

import contextlib
import csv
import datetime
import io
import json
import os
import random
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from tests.chaos.trial import RUN_S, parts_in
from tests.conftest import ROOT
from tests.helpers.runs import good, write_run
from vidembed import cli
from vidembed.encode import registry
from vidembed.store.run import Run

if TYPE_CHECKING:
    from tests.chaos.trial import Trial

_HOUR = 3600.0


def scenario(trial: Trial, times: int, seed: int) -> None:
    trial.expected  # noqa: B018 (made before anything is done)
    rng = random.Random(seed)
    for _ in range(times):
        deleted_and_damaged(trial, rng)
        damaged_vectors(trial, rng)
        a_row_twice(trial, rng)


def deleted_and_damaged(trial: Trial, rng: random.Random) -> None:
    """One part is deleted, and the ids in another are damaged: the resume names it, and after it is
    deleted as the message says, the videos of both are done again.

    All that while the clock is hours behind, jumps ahead while videos are decoded, and back again
    while they are written.
    """
    out = _copy(trial, "hand")
    gone, spoilt = rng.sample(Run.open(str(out)).parts(), 2)
    Path(gone).unlink()
    _damage(Path(spoilt), "video_id", rng)
    clock = trial.fresh("clock")
    path = [str(ROOT / "tests" / "helpers" / "clock"), trial.environment["PYTHONPATH"]]
    given = {"JUMPING_CLOCK": str(clock), "PYTHONPATH": os.pathsep.join(path)}
    hours = [-rng.uniform(1, 9), rng.uniform(1, 9), -rng.uniform(1, 9)]
    _set(clock, hours[0])
    with trial.embed(out, environment=given) as family:
        assert family.wait(RUN_S) == 1, family.said()
        _check_named(family.said(), spoilt)
    Path(spoilt).unlink()
    with trial.embed(out, environment=given) as family:
        trial.wait_for_work(family)
        _set(clock, hours[1])
        trial.wait_for_parts(family, out)
        _set(clock, hours[2])
        assert family.wait(RUN_S) == 0, family.said()
        said = re.search(r"has [\d,]+ videos less than its last report says", family.said())
        assert said, family.said()
    report = json.loads((out / "report.json").read_text())
    began = datetime.datetime.fromisoformat(report["started"])
    behind = (datetime.datetime.now(datetime.UTC) - began).total_seconds()
    assert behind > -hours[0] * _HOUR - 60, "the clock did not jump"
    assert 0 < report["seconds"] < RUN_S, report["seconds"]
    trial.say(f"a part deleted, another damaged: `{said[0]}`; {trial.check(out)}")
    jumps = ", ".join(f"{h:+.1f} h" for h in hours)
    trial.say(f"with the clock at {jumps}; by the report it took {report['seconds']:.0f} s")


def damaged_vectors(trial: Trial, rng: random.Random) -> None:
    """`load`, `search` and `evaluate` name a part whose vectors were damaged, and the remedy."""
    folder = trial.fresh("damaged")
    spec = registry.describe("clip4clip", trial.weights)
    directions = np.random.default_rng(rng.randrange(1 << 30)).normal(size=(20, spec.dim))
    rows = [good(f"v{k:02}", v / np.linalg.norm(v)) for k, v in enumerate(directions)]
    run = write_run(folder / "run", rows, spec)
    (part,) = run.parts()
    queries = folder / "queries.csv"
    queries.write_text("video_id,caption\n" + "".join(f"v{k:02},thing {k}\n" for k in range(20)))
    _damage(Path(part), "embedding", rng)
    for words in (
        ["load", run.uri, "--milvus", str(folder / "store.db")],
        ["search", "a red circle", "--run", run.uri],
        ["evaluate", run.uri, "--queries", str(queries)],
    ):
        code, said = _command(words)
        assert code == 1, (words, said)
        _check_named(said, part)
    trial.say("damaged vectors are named by load, search and evaluate")


def a_row_twice(trial: Trial, rng: random.Random) -> None:
    """A manifest that has a video twice is refused before anything is made."""
    with trial.manifest.open(newline="") as file:
        header, *rows = csv.reader(file)
    first = rng.randrange(len(rows))
    manifest = trial.manifest.with_name("twice.csv")
    with manifest.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows, rows[first]])
    out = trial.fresh("twice")
    code, said = _command(["embed", str(manifest), "--out", str(out), "--weights", trial.weights])
    assert code == 2, said
    assert f"rows {first + 1} and {len(rows) + 1} have the same video_id" in said, said
    assert rows[first][0] in said, said
    assert not out.exists()
    trial.say(f"a row twice: `{said.strip()}`")


def _set(offset: Path, hours: float) -> None:
    beside = offset.with_suffix(".new")
    beside.write_text(str(hours * _HOUR))
    beside.replace(offset)


def _copy(trial: Trial, name: str) -> Path:
    """A copy of the undisturbed run."""
    out = trial.fresh(name)
    shutil.copytree(trial.undisturbed, out)
    assert parts_in(out) >= 3
    return out


def _damage(part: Path, column: str, rng: random.Random) -> None:
    """Another value for one byte of the column's pages."""
    chunks = pq.read_metadata(part).row_group(0)
    named = [chunks.column(k) for k in range(chunks.num_columns)]
    chunk = next(c for c in named if c.path_in_schema.partition(".")[0] == column)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    at = start + rng.randrange(chunk.total_compressed_size // 2, chunk.total_compressed_size)
    data = bytearray(part.read_bytes())
    data[at] ^= 1 << rng.randrange(8)
    part.write_bytes(data)


def _check_named(said: str, part: str) -> None:
    assert f"{part} is damaged" in said, said
    assert "delete it, and embed again into the same --out" in said, said


def _command(words: list[str]) -> tuple[int, str]:
    """The exit code of a command, and what it says on standard error."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = cli.main(words)
    return code, said.getvalue()
