"""Manifest, videos and run are on an object store that has a bad day."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.chaos.trial import RUN_S
from tests.helpers.rough import RoughProxy, Weather

if TYPE_CHECKING:
    from tests.chaos.trial import Trial
    from tests.helpers.seaweed import Seaweed


def scenario(trial: Trial, times: int, seed: int, store: Seaweed, weather: Weather) -> None:
    """The store's credentials and its own address are in the environment of this process."""
    trial.expected  # noqa: B018 (made before anything goes wrong)
    corpus = store.upload(trial.manifest.parent, "chaos/corpus")
    for number in range(times):
        out = f"{store.bucket}/chaos/{trial.fresh('run').name}"
        with RoughProxy(store.endpoint, weather, seed + number) as proxy:
            given = {**store.environment, "AWS_ENDPOINT_URL": proxy.url}
            manifest = f"{corpus}/manifest.csv"
            with trial.embed(out, manifest=manifest, environment=given) as family:
                assert family.wait(2 * RUN_S) == 0, family.said()
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(proxy.counts.items()))
        trial.say(f"requests: {told}: {trial.check(out)}")
