"""`ray job submit` against a head node with its dashboard, as a cluster's users do."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.helpers.ports import free_port
from tests.helpers.runs import good, write_run
from vidembed.encode import registry
from vidembed.store.run import Run

pytestmark = [pytest.mark.ray]


class Head:
    """A Ray head node on loopback, with token authentication, ended by its process group."""

    def __init__(self, folder: Path) -> None:
        self.port, self.dashboard = free_port(), free_port(8300, 8999)
        self.folder = folder
        binaries = str(Path(sys.executable).parent)
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join([binaries, os.environ["PATH"]]),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_ADDRESS": "",
        }
        self.environment.pop("RAY_ADDRESS")

    def __enter__(self):
        words = [
            str(Path(sys.executable).with_name("ray")),
            "start",
            "--head",
            "--block",
            "--disable-usage-stats",
            "--num-cpus=2",
            "--object-store-memory=300000000",
            f"--port={self.port}",
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={self.dashboard}",
            f"--dashboard-agent-listen-port={free_port(9000, 9499)}",
            f"--dashboard-agent-grpc-port={free_port(9500, 9999)}",
            "--min-worker-port=30000",
            "--max-worker-port=30999",
            f"--temp-dir={self.folder}",
        ]
        with (self.folder / "head.log").open("wb") as log:
            self.process = subprocess.Popen(
                words, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        self._wait()
        return self

    def _wait(self) -> None:
        deadline = time.monotonic() + 90
        address = f"http://127.0.0.1:{self.dashboard}/api/version"
        token = {"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"}
        while True:
            try:
                urllib.request.urlopen(urllib.request.Request(address, headers=token), timeout=2)
                return
            except OSError:
                if time.monotonic() > deadline:
                    self.__exit__()
                    raise
                time.sleep(0.5)

    def submit(self, *words: str) -> subprocess.CompletedProcess[str]:
        ray = str(Path(sys.executable).with_name("ray"))
        address = f"http://127.0.0.1:{self.dashboard}"
        line = [ray, "job", "submit", "--address", address, "--working-dir", str(ROOT), "--"]
        return subprocess.run(
            [*line, *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )

    def __exit__(self, *_: object) -> None:
        group = os.getpgid(self.process.pid)
        os.killpg(group, signal.SIGTERM)
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(group, signal.SIGKILL)
            self.process.wait()


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    # A short path: Ray's sockets lie in it, and their names may have 107 bytes.
    import tempfile

    with (
        tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder,
        Head(Path(folder)) as node,
    ):
        yield node


def test_a_submitted_job_embeds_a_folder_and_its_success_is_the_clients(
    head, corpus, tmp_path, clip_folder
):
    folder, run = str(corpus.parent / "videos"), str(tmp_path / "run")
    words = ["python", "jobs/embed.py", folder, "--out", run]
    done = head.submit(*words, "--weights", clip_folder, "--limit", "5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 of 5" in done.stdout
    assert len(Run.open(run).read(["id"])) == 5


def test_a_submitted_job_that_fails_fails_its_client_and_says_why(head, tmp_path, clip_folder):
    words = ["python", "jobs/embed.py", str(tmp_path / "no.csv"), "--out", str(tmp_path / "run")]
    done = head.submit(*words, "--weights", clip_folder)
    assert done.returncode != 0
    told = done.stdout + done.stderr
    assert "no.csv: no such file" in told
    # Ray's client maps every failure to 1; the job's own exit code is in its message.
    assert "exit code 2" in told


def test_a_submitted_evaluation_ranks_on_the_cluster(head, tmp_path):
    spec = registry.describe("clip4clip-tiny")
    captions = ["a red circle moves left", "a blue square moves up", "a green star turns"]
    texts = registry.load(spec, "cpu", "float32").encode_text(captions)
    run = write_run(tmp_path / "run", [good(f"v{k}", texts[k]) for k in range(3)], spec)
    rows = "".join(f"v{k},{caption}\n" for k, caption in enumerate(captions))
    (tmp_path / "q.csv").write_text("video_id,caption\n" + rows)
    words = ["python", "jobs/evaluate.py", run.uri, "--queries", str(tmp_path / "q.csv")]
    done = head.submit(*words, "--examples", "0", "--debug")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "text→video" in done.stdout
    result = json.loads((tmp_path / "run" / "evaluation" / "evaluation.json").read_text())
    assert result["text_to_video"]["R@1"] == result["video_to_text"]["R@1"] == 1
