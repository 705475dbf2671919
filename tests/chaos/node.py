"""A node of a cluster goes away in the middle of a run, which goes on with the others."""

from __future__ import annotations

import random
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.trial import RUN_S
from tests.helpers.families import Family

if TYPE_CHECKING:
    from tests.chaos.trial import Trial

_START_S = 90.0


def scenario(trial: Trial, times: int, seed: int) -> None:
    """Each time a fresh cluster: a head that does no work, and two nodes with room for it all."""
    rng = random.Random(seed)
    trial.expected  # noqa: B018 (made before anything is killed)
    for _ in range(times):
        out = trial.fresh("node")
        command = [sys.executable, "-m", "tests.helpers.ray_cluster", "0", "3", "3"]
        with Family(command, trial.fresh("cluster.log"), trial.environment) as cluster:
            address, raylets = _started(cluster)
            with trial.embed(out, "--ray-address", address, "--decode-actors", "1") as family:
                trial.wait_for_parts(family, out)
                time.sleep(rng.uniform(0, 2.0))
                victim, actors = _busiest(cluster, raylets[1:], rng)
                alive = family.process.poll() is None
                assert cluster.kill(victim)
                assert family.wait(RUN_S) == 0, family.said()
            assert alive, "it was over before anything could be killed"
            assert actors, "the node had no actors"
            trial.say(f"killed a raylet with {actors} actors: {trial.check(out)}")


def _started(cluster: Family) -> tuple[str, list[int]]:
    deadline = time.monotonic() + _START_S
    while not (found := re.search(r"^cluster: (\S+) ([\d ]+)$", cluster.said(), re.MULTILINE)):
        assert cluster.process.poll() is None, cluster.said()
        assert time.monotonic() < deadline, cluster.said()
        time.sleep(0.1)
    return found[1], [int(pid) for pid in found[2].split()]


def _busiest(cluster: Family, raylets: list[int], rng: random.Random) -> tuple[int, int]:
    """(The raylet with the most actors of the pipeline, how many those are)."""
    parents = [_parent(m.pid) for m in cluster.members() if "ray::MapWorker" in m.words]
    counts = {pid: parents.count(pid) for pid in rng.sample(raylets, len(raylets))}
    victim = max(counts, key=lambda pid: counts[pid])
    return victim, counts[victim]


def _parent(pid: int) -> int:
    try:
        return int(Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
