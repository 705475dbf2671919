"""The disk that a run is on fills up, and is given room again."""

from __future__ import annotations

import os
import random
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.chaos.trial import RUN_S
from vidembed.store.run import Run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.chaos.trial import Trial

_SIZE = 8 << 20
# A part of this corpus takes less; so do all of them together with what lies beside them.
_ROOM = (16 << 10, 96 << 10)


class CannotMountError(Exception):
    """A small file system cannot be mounted here."""


def scenario(trial: Trial, times: int, seed: int) -> None:
    """Raises CannotMountError where this process may not mount."""
    rng = random.Random(seed)
    for _ in range(times):
        with _small_disk(trial.fresh("disk")) as disk:
            trial.expected  # noqa: B018
            _fill_and_resume(trial, disk, rng.randint(*_ROOM))


def _fill_and_resume(trial: Trial, disk: Path, room: int) -> None:
    out, ballast = disk / "run", disk / "ballast"
    ballast.write_bytes(bytes(_SIZE - room))
    with trial.embed(out) as family:
        assert family.wait(RUN_S) == 1, family.said()
        said = family.said()
    errors = [line for line in said.splitlines() if line.startswith("vidembed: ")]
    assert len(errors) == 1, said
    assert str(disk) in errors[0], said
    assert "make room and run the same command again" in errors[0], said
    assert "Traceback" not in said
    run = Run.open(str(out)) if (out / "run.json").exists() else None
    there = len(run.read(["id"])) if run else 0
    left = [path for path in out.rglob("*") if path.name.endswith(".tmp")]
    assert not left, left
    ballast.unlink()
    with trial.embed(out) as family:
        assert family.wait(RUN_S) == 0, family.said()
    trial.say(f"full with {there} segments: `{errors[0]}`; then {trial.check(out)}")


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        raise CannotMountError("no small file system can be mounted by this user")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
