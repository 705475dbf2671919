"""The first command of a newcomer, and what interrupts a run, as processes of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from vidembed.store.run import Run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.ray]


def test_the_quickstart_draws_embeds_searches_and_scores(tmp_path, command):
    out = tmp_path / "quick"
    done = subprocess.run(
        [*command, "quickstart", "--out", str(out), "--videos", "40"],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={k: v for k, v in os.environ.items() if k != "VIDEMBED_DECODE_DRILL"},
    )
    assert done.returncode == 0, done.stderr
    assert "40 of 40" in done.stdout
    evaluation = json.loads((out / "run" / "evaluation" / "evaluation.json").read_text())
    # 40 unseen combinations: chance is 0.025.
    assert evaluation["text_to_video"]["R@1"] >= 0.8
    assert evaluation["text_to_video"]["R@5"] >= 0.95
    assert "text→video" in done.stdout
    # Nothing of Ray's own chatter reaches the terminal.
    assert not re.search(r"core_worker|raylet|INFO|WARNING|Traceback", done.stdout + done.stderr)
    assert re.search(r"videos/s.*bottleneck", done.stderr)


def start(command, corpus, run, clip_folder, *options):
    words = [*command, "embed", str(corpus), "--out", str(run), "--weights", clip_folder]
    return subprocess.Popen(
        [*words, *options],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell's background job has Ctrl-C switched off, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for_part(run: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not list((run / "embeddings").glob("*.parquet")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def slow_corpus(corpus: Path, tmp_path: Path) -> Path:
    """The corpus many times over, so that a run takes long enough to be interrupted."""
    rows = (corpus.parent / "manifest.csv").read_text().splitlines()[1:]
    lines = ["video_id,uri"]
    for copy in range(10):
        for row in rows:
            name, uri = row.split(",")[:2]
            lines.append(f"{name}-{copy},{corpus.parent / uri}")
    manifest = tmp_path / "many.csv"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_interrupted_goes_on_and_holds_every_row_once(
    blow, corpus, tmp_path, clip_folder, command
):
    run, manifest = tmp_path / "run", slow_corpus(corpus, tmp_path)
    process = start(command, manifest, run, clip_folder)
    wait_for_part(run, process)
    process.send_signal(blow)
    _, told = process.communicate(timeout=60)
    assert process.returncode != 0
    if blow == signal.SIGINT:
        assert process.returncode == 1
        assert "interrupted" in told
        assert "Traceback" not in told
    before = len(Run.open(str(run)).read(["id"]))
    assert 0 < before < 240
    process = start(command, manifest, run, clip_folder, "--progress", "none")
    out, told = process.communicate(timeout=280)
    assert process.returncode == 0, told
    # What workers had in hand when their driver was killed, they may still have committed.
    earlier = re.search(r"finished before +(\d+) videos", out)
    assert "240 of 240" in out
    assert earlier is not None
    assert before <= int(earlier[1]) < 240
    ids = Run.open(str(run)).read(["id"])["id"].to_pylist()
    assert len(ids) == len(set(ids)) == 240
