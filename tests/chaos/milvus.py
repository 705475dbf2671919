"""Milvus is killed in the middle of a run: it comes back, or it does not."""

from __future__ import annotations

import os
import random
import re
import shlex
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

from tests.chaos.trial import RUN_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.chaos.trial import Trial
    from tests.helpers.milvus_server import MilvusServer


def comes_back(trial: Trial, times: int, seed: int, server: MilvusServer, away_s: float) -> None:
    """The run ends well, and has every key."""
    rng = random.Random(seed)
    trial.expected  # noqa: B018 (made before anything is killed)
    for number in range(times):
        out, name = trial.fresh("back"), f"back{number}"
        with trial.embed(out, "--milvus", server.uri, "--collection", name) as family:
            trial.wait_for_parts(family, out)
            time.sleep(rng.uniform(0, 2.0))
            alive = family.process.poll() is None
            server.kill()
            again = threading.Timer(away_s, server.start)
            again.start()
            code = family.wait(RUN_S + away_s)
            again.join()
            assert code == 0, family.said()
            assert "Traceback" not in family.said(), family.said()
        assert alive, "it was over before Milvus was killed"
        trial.say(f"away for {away_s:g} s: {trial.check(out, server.uri, name)}")


def is_gone(trial: Trial, times: int, seed: int, server: MilvusServer) -> None:
    """The run ends with 1, all its vectors in Parquet, and a command that heals the collection."""
    rng = random.Random(seed)
    trial.expected  # noqa: B018 (made before anything is killed)
    for number in range(times):
        out, name = trial.fresh("gone"), f"gone{number}"
        words = ("--milvus", server.uri, "--collection", name, "--milvus-patience", "3")
        with trial.embed(out, *words) as family:
            trial.wait_for(family, lambda out=out: any(_notes(out)))
            time.sleep(rng.uniform(0, 2.0))
            server.kill()
            assert family.wait(RUN_S) == 1, family.said()
            said = family.said()
        assert "Traceback" not in said, said
        told = trial.check(out)
        noted = sum(_notes(out))
        lacking = f"of {len(trial.expected)} vectors {noted} are noted as sent"
        assert f"Milvus is not complete: {lacking}" in said, said
        healing = re.search(r"heal it: vidembed (.+)", said)
        assert healing, said
        server.start()
        subprocess.run(
            [sys.executable, "-m", "vidembed", *shlex.split(healing[1])],
            check=True,
            timeout=RUN_S,
            env={**os.environ, **trial.environment},
        )
        trial.say(f"{lacking}: {told}")
        trial.say(f"healed by `vidembed {healing[1]}`: {trial.check(out, server.uri, name)}")


def _notes(out: Path) -> Iterator[int]:
    """The rows of each part that is noted as sent."""
    for note in (out / "projections").glob("*/*.in"):
        yield int(note.name.split(".")[-2])
