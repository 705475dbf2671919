"""Of nodes that decode and nodes that encode one is killed, and another comes; frames stay in
memory.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tests.helpers.mixed_cluster import ADDED, Drill, counted
from vidembed.store.run import Run

if TYPE_CHECKING:
    from pathlib import Path


def scenario(folder: Path, times: int) -> None:
    """Each time a fresh cluster, and 40 videos whose frames would fill its stores three times."""
    for number in range(times):
        own = folder / f"spot-{number}"
        own.mkdir()
        drill = Drill(folder=own, videos=40, encode_s=0.3).run(
            "--gpus-per-actor", "0.5", "--cluster-cpus", "9", "--cluster-gpus", "3"
        )
        assert drill.exit_code == 0, drill.said
        ids = Run.open(str(drill.out)).read(["id"])["id"].to_pylist()
        assert len(ids) == len(set(ids)) == drill.segments, "segments are lost or doubled"
        given = Counter(work.item for work in drill.work if work.stage == "decode")
        again = {video for video, count in given.items() if count > 1}
        assert again <= drill.killed_work, f"{again - drill.killed_work} were done again"
        store = drill.report["object_store"]
        assert store["spilled_bytes"] == 0, store
        print(
            f"killed a node with {drill.killed_actors} actors, which had been given "
            f"{len(drill.killed_work)} videos: {given.total() - len(given)} of {drill.videos} were "
            f"decoded twice; by node: decoded {_told(counted(drill.work, 'decode'))}, encoded "
            f"{_told(counted(drill.work, 'encode'))} batches, the last node being the one that "
            f"came; {drill.frame_bytes / 1e6:,.0f} MB of frames went through {store}"
        )


def _told(counts: Counter[int]) -> list[int]:
    return [counts[node] for node in range(ADDED + 1)]
