"""`python -m tests.chaos SCENARIO --times N --seed S`; exit code 1 where a promise is broken."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos import disk, driver, hand, milvus, node, s3, spot, workers
from tests.chaos.trial import Trial
from tests.helpers.milvus_server import MilvusServer
from tests.helpers.rough import Weather
from tests.helpers.seaweed import Seaweed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _driver(folder: Path, times: int, seed: int) -> None:
    trial = Trial(folder, videos=max(24, 3 * times), slow_s=0.15)
    with MilvusServer(folder / "milvus") as server:
        driver.scenario(trial, times, seed, server.uri)


def _workers(folder: Path, times: int, seed: int) -> None:
    workers.scenario(Trial(folder, videos=40, slow_s=0.15), times, seed)


def _node(folder: Path, times: int, seed: int) -> None:
    node.scenario(Trial(folder, videos=24, slow_s=0.1), times, seed)


def _spot(folder: Path, times: int, seed: int) -> None:
    spot.scenario(folder, times)


def _milvus(folder: Path, times: int, seed: int) -> None:
    with MilvusServer(folder / "milvus") as server:
        milvus.comes_back(Trial(folder, videos=24, slow_s=0.1), times, seed, server, away_s=30.0)


def _gone(folder: Path, times: int, seed: int) -> None:
    with MilvusServer(folder / "milvus") as server:
        milvus.is_gone(Trial(folder, videos=24, slow_s=0.1), times, seed, server)


def _s3(folder: Path, times: int, seed: int) -> None:
    (folder / "weed").mkdir()
    with Seaweed(folder / "weed") as store:
        os.environ.update(store.environment)
        weather = Weather(slow_down=0.1, dropped=0.08, cut=0.08, late=0.15)
        s3.scenario(Trial(folder, videos=24, slow_s=0.0), times, seed, store, weather)


def _disk(folder: Path, times: int, seed: int) -> None:
    disk.scenario(Trial(folder, videos=24, slow_s=0.0), times, seed)


def _hand(folder: Path, times: int, seed: int) -> None:
    hand.scenario(Trial(folder), times, seed)


SCENARIOS: dict[str, tuple[Callable[[Path, int, int], None], int]] = {
    "driver": (_driver, 20),
    "workers": (_workers, 10),
    "node": (_node, 2),
    "spot": (_spot, 1),
    "milvus": (_milvus, 2),
    "gone": (_gone, 1),
    "s3": (_s3, 2),
    "disk": (_disk, 3),
    "hand": (_hand, 1),
}
"""By name: what is run, and how often where nobody says."""


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(";")[0])
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("--times", type=int, help="how often it is done to a run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="an empty folder, which is left as it is then")
    given = parser.parse_args()
    # So that what was started is cleaned up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    scenario, times = SCENARIOS[given.scenario]
    began = time.monotonic()
    with _folder(given.keep) as folder:
        try:
            scenario(folder, given.times or times, given.seed)
        except AssertionError as error:
            print(f"{given.scenario}: broken: {error}")
            return 1
    print(f"{given.scenario}: kept, in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
