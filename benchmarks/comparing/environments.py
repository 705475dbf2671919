"""The environment of a peer: made below the cache from the versions listed beside its script."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.machine import ROOT

PEERS = Path(__file__).resolve().parent / "peers"
# By itself and by its exact version: so pip takes the CPU build where one is offered.
TORCH = "torch==2.13.0"


class NoEnvironmentError(Exception):
    """It cannot be made here; the first line of what pip said."""


def python(peer: str, cache: Path) -> str:
    """The interpreter of a peer's environment, which is made where it is not there as listed.

    A peer without a list runs in this environment, whose packages it needs and no others. Raises
    NoEnvironmentError.
    """
    peer = peer.rpartition(".")[2]
    listed = PEERS / f"{peer}.txt"
    if not listed.exists():
        return sys.executable
    digest = hashlib.sha256(TORCH.encode() + listed.read_bytes()).hexdigest()[:12]
    folder = cache / f"env-{peer}-{digest}"
    found = str(folder / "bin" / "python")
    if not (folder / "complete").exists():
        print(f"making the environment of {peer}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        # Every package is listed, so that none is left to pip's choice: several of these projects
        # ask for versions that do not go together.
        for words in ([TORCH], ["--no-deps", "-r", str(listed)]):
            _pip(found, words)
        (folder / "complete").touch()
    return found


def _pip(interpreter: str, words: list[str]) -> None:
    command = [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    constraints = ROOT / ".ci" / "constraints.txt"
    limits = ["-c", str(constraints)] if TORCH in words else []
    run = subprocess.run(
        [*command, *limits, *words], capture_output=True, text=True, check=False, env=_clean()
    )
    if run.returncode:
        lines = [line for line in run.stderr.splitlines() if line.startswith("ERROR")]
        raise NoEnvironmentError((lines or run.stderr.splitlines() or ["pip failed"])[0][:300])


def _clean() -> dict[str, str]:
    """Without what points into the environment that this one runs in."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
