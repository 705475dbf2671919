"""A run on a cluster of nodes that decode and nodes that encode, of which one is killed and another
comes while it works.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.conftest import ROOT
from tests.helpers.clip_folder import write_clip_folder
from tests.helpers.families import Family
from tests.helpers.ray_cluster import RayCluster
from tests.helpers.videos import write_video

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HEAD = 0
CPU_NODES = (1, 2, 3)
GPU_NODES = (4, 5)
ADDED = 6
_NODES = ("0", "1", "1", "1", "2/1", "2/1")
_RUN_S = 420.0


@dataclass(frozen=True)
class Work:
    """A line of the log of work. item: the video that was given to a decoder, or how many vectors
    an encoder made; node: which of the cluster's, the head being 0.
    """

    stage: str
    item: str
    node: int


@dataclass(kw_only=True)
class Drill:
    """Videos of 1080p in segments, through stores that hold a part of their frames.

    encode_s: of each segment; load_s: of each encoder. killed: the node, of those without a GPU.
    """

    folder: Path
    videos: int = 48
    frames: int = 24
    segment_s: float = 0.25
    frames_per_clip: int = 24
    store_megabytes: int = 80
    encode_s: float = 0.15
    load_s: float = 2.0
    killed: int = field(default=-1, init=False)
    exit_code: int = field(default=-1, init=False)
    said: str = field(default="", init=False)
    done_before: int = field(default=0, init=False)
    killed_actors: int = field(default=0, init=False)
    work: list[Work] = field(default_factory=list, init=False)
    killed_work: set[str] = field(default_factory=set, init=False)
    _places: dict[int, int] = field(default_factory=dict, init=False)

    @property
    def out(self) -> Path:
        return self.folder / "run"

    @property
    def _go(self) -> Path:
        return self.folder / "go"

    @property
    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out / "report.json").read_text())
        return found

    @property
    def segments(self) -> int:
        return round(self.videos * self.frames / 24 / self.segment_s)

    @property
    def frame_bytes(self) -> int:
        """Of all that decoders hand to encoders."""
        return self.segments * self.frames_per_clip * 224 * 224 * 3

    def run(self, *words: str) -> Drill:
        """Do it all."""
        manifest, weights = self._corpus(), write_clip_folder(self.folder / "clip", image_size=224)
        log = self.folder / "work.log"
        log.touch()
        with RayCluster(
            self.folder / "cluster.log",
            self._environment(log),
            _NODES,
            later=["2/1"],
            store_megabytes=self.store_megabytes,
        ) as cluster:
            command = [
                *(sys.executable, "-m", "tests.helpers.declared_gpus", "embed", str(manifest)),
                *("--out", str(self.out), "--encoder", "tests.helpers.slow_means:SlowMeans"),
                *("--weights", str(weights), "--frames", str(self.frames_per_clip)),
                *("--segment-seconds", str(self.segment_s), "--ray-address", cluster.address),
                *("--progress", "plain", *words),
            ]
            with Family(command, self.folder / "said.log", self._environment(log)) as job:
                self._disturb(cluster, job, log)
                self.exit_code = job.process.wait()
            self.said = job.said()
            self.work = self._read(log)
        return self

    def _disturb(self, cluster: RayCluster, job: Family, log: Path) -> None:
        """Kill and add once every node works, and watch until it is over. Encoders go on when the
        node that came encodes too: a slow machine has one no sooner than the work would be over.
        """
        deadline = time.monotonic() + _RUN_S
        while job.process.poll() is None:
            assert time.monotonic() < deadline, f"it stands still: {job.said()}"
            self._place(cluster, log)
            if self.killed < 0 and (victim := self._busiest(log)):
                self.killed = victim
                work = self._read(log)
                self.killed_actors = sum(
                    place == victim and cluster.node_of(pid) == victim
                    for pid, place in self._places.items()
                )
                cluster.kill(victim)
                # After it: what it was given a moment ago counts too.
                self._place(cluster, log)
                self.killed_work = {w.item for w in self._read(log) if w.node == victim}
                self.done_before = sum(w.stage == "decode" for w in work)
                cluster.add()
            if ADDED in counted(self._read(log), "encode"):
                self._go.touch()
            time.sleep(0.2)

    def _place(self, cluster: RayCluster, log: Path) -> None:
        """Note where processes that are named in the log run, as long as they do."""
        for line in log.read_text().splitlines():
            pid = int(line.split()[1])
            if pid not in self._places and (node := cluster.node_of(pid)) is not None:
                self._places[pid] = node

    def _busiest(self, log: Path) -> int | None:
        """Of the nodes without a GPU the one that has decoded most, once all others encode."""
        work = self._read(log)
        if not counted(work, "encode").keys() >= set(GPU_NODES):
            return None
        decoding = counted([w for w in work if w.node in CPU_NODES], "decode")
        return max(decoding, key=lambda node: decoding[node], default=None)

    def _read(self, log: Path) -> list[Work]:
        lines = [line.split() for line in log.read_text().splitlines()]
        return [Work(stage, item, self._places.get(int(pid), -1)) for stage, pid, item in lines]

    def _corpus(self) -> Path:
        folder = self.folder / "corpus"
        folder.mkdir()
        first = write_video(folder / "0.mp4", frames=self.frames, size=(1920, 1080))
        for number in range(1, self.videos):
            (folder / f"{number}.mp4").write_bytes(first.read_bytes())
        return folder

    def _environment(self, log: Path) -> dict[str, str]:
        return {
            "VIDEMBED_DECODE_DRILL": "tests.helpers.drills:by_name",
            "PYTHONPATH": str(ROOT),
            "RAY_worker_niceness": "0",
            "OMP_NUM_THREADS": "1",
            "DRILL_ENCODE_S": str(self.encode_s),
            "DRILL_LOAD_S": str(self.load_s),
            "DRILL_WORK_LOG": str(log),
            "DRILL_GO": str(self._go),
        }


def counted(work: Sequence[Work], stage: str) -> Counter[int]:
    """By node, how often it was given something."""
    return Counter(w.node for w in work if w.stage == stage)
