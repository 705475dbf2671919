"""Decode actors, their children and encode actors are killed at random; the run goes on."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import TYPE_CHECKING

from tests.chaos.trial import RUN_S, decodings

if TYPE_CHECKING:
    from tests.chaos.trial import Trial
    from tests.helpers.families import Family, Member

_TITLES = {
    "decode child": "vidembed.decode.child",
    "decode actor": "ray::MapWorker(MapBatches(Decode",
    "encode actor": "ray::MapWorker(MapBatches(Encode",
}
# An actor is restarted up to 4 times, and so is its work.
_MOST = {"decode child": 1000, "decode actor": 3, "encode actor": 3}
# A video whose process dies twice has failed: the next kill must hit another one.
_APART = 4


def scenario(trial: Trial, times: int, seed: int) -> None:
    """So many kills, over as many runs as that takes."""
    rng = random.Random(seed)
    trial.expected  # noqa: B018 (made before anything is killed)
    done = 0
    while done < times:
        out = trial.fresh("workers")
        with trial.embed(out, "--decode-actors", "2") as family:
            killed = _kill(trial, family, rng, times - done)
            assert family.wait(RUN_S) == 0, family.said()
        assert killed, "it was over before anything could be killed"
        done += killed.total()
        told = ", ".join(f"{count} x {kind}" for kind, count in sorted(killed.items()))
        trial.say(f"killed {told}: {trial.check(out)}")


def _kill(trial: Trial, family: Family, rng: random.Random, most: int) -> Counter[str]:
    killed: Counter[str] = Counter()
    trial.wait_for_work(family)
    kinds: list[str] = []
    spared = 0
    while family.process.poll() is None and killed.total() < most:
        # Every kind has its turn, in any order.
        kinds = kinds or rng.sample(sorted(_TITLES), len(_TITLES))
        there = [m for m in family.members() if _TITLES[kinds[0]] in m.words]
        if killed[kinds[0]] >= _MOST[kinds[0]]:
            kinds.pop(0)
        elif there and (kinds[0] != "decode child" or decodings(family) >= spared):
            victim: Member = rng.choice(there)
            if family.kill(victim.pid):
                killed[kinds.pop(0)] += 1
                spared = decodings(family) + _APART
            time.sleep(rng.uniform(0.2, 2.0))
        else:
            time.sleep(0.05)
    return killed
