"""The driver is killed at random moments, and the same command is given again at once."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from tests.chaos.trial import RUN_S
from vidembed.store.run import Run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.trial import Trial
    from tests.helpers.families import Family

# What a driver has started is gone so long after it, by itself.
_GONE_S = 90.0
# But for two of Ray's own, which have no part in a job and take a minute.
_IDLE = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
_MOMENTS = ("starting", "decoding", "writing")
_SHARES = (3, 7, 10)
# Within so many seconds of each.
_SPREAD_S = {"starting": 8.0, "decoding": 3.0, "writing": 3.0}


def scenario(trial: Trial, times: int, seed: int, milvus: str) -> None:
    """Of 20 kills about 3 fall anywhere, 7 after a decoding has begun, 10 after a commit."""
    rng = random.Random(seed)
    trial.expected  # noqa: B018 (made before anything is killed)
    out = trial.fresh("driver")
    killed: list[Family] = []
    try:
        for number in range(1, times + 1):
            family = trial.embed(out, "--milvus", milvus, "--collection", "driver")
            killed.append(family)
            (moment,) = rng.choices(_MOMENTS, _SHARES)
            wait = rng.uniform(0, _SPREAD_S[moment])
            began = time.monotonic()
            if moment == "decoding":
                trial.wait_for_work(family)
            elif moment == "writing":
                trial.wait_for_parts(family, out)
            time.sleep(wait)
            alive = family.process.poll() is None and family.kill(family.process.pid)
            after = time.monotonic() - began
            family.process.wait()
            assert alive or family.process.returncode == 0, family.said()
            fate = f"killed {wait:.2f} s after {moment} began" if alive else "had ended"
            trial.say(f"{number}: {fate}, {after:.1f} s after its start; {_state(out)}")
        with trial.embed(out, "--milvus", milvus, "--collection", "driver") as last:
            assert last.wait(RUN_S) == 0, last.said()
        outlived = [m for family in killed for m in family.wait_gone(_GONE_S, _IDLE)]
    finally:
        for family in killed:
            family.end()
    assert not outlived, f"outlived their driver by {_GONE_S:g} s: {outlived}"
    trial.say(trial.check(out, milvus, "driver"))


def _state(out: Path) -> str:
    if not (out / "run.json").exists():
        return "no run yet"
    run = Run.open(str(out))
    return f"{len(run.read(['id']))} segments in {len(run.parts())} parts"
