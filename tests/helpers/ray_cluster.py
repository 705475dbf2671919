"""A Ray cluster of several nodes on this machine: `python -m tests.helpers.ray_cluster 2 1 2/1` has
a head of 2 CPUs, a node of 1 and one of 2 CPUs and a GPU, which is only declared. It prints its
address and the raylets' pids, the head's first, and stays until it is killed. At SIGUSR1 it adds
the nodes after `--later`, and prints their pids. `--store MB`: of objects, on each node.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ray.cluster_utils import Cluster

from tests.helpers.families import Family

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_START_S = 90.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("nodes", nargs="+")
    parser.add_argument("--later", nargs="*", default=[])
    parser.add_argument("--store", type=int)
    given = parser.parse_args()
    head, *others = (_arguments(words, given.store) for words in given.nodes)
    # It takes seconds to start, and no job needs it.
    head["include_dashboard"] = False
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.head_node, *(cluster.add_node(wait=False, **each) for each in others)]
    cluster.wait_for_nodes()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    print("cluster:", cluster.address, *map(_pid, nodes), flush=True)
    signal.sigwait([signal.SIGUSR1])
    later = [cluster.add_node(**_arguments(words, given.store)) for words in given.later]
    print("added:", *map(_pid, later), flush=True)
    while True:
        time.sleep(60)


def _arguments(words: str, store: int | None) -> dict[str, Any]:
    cpus, _, gpus = words.partition("/")
    given: dict[str, Any] = {"num_cpus": int(cpus), "num_gpus": int(gpus or 0)}
    return given | ({"object_store_memory": store << 20} if store else {})


def _pid(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


class RayCluster:
    """Such a cluster, with all its processes; of nodes as the command names them."""

    def __init__(
        self,
        log: Path,
        environment: Mapping[str, str],
        nodes: Sequence[str],
        later: Sequence[str] = (),
        store_megabytes: int | None = None,
    ) -> None:
        words = [sys.executable, "-m", "tests.helpers.ray_cluster", *nodes, "--later", *later]
        if store_megabytes:
            words += ["--store", str(store_megabytes)]
        self.family = Family(words, log, environment)

    def __enter__(self) -> Self:
        try:
            self.address, *pids = self._said("cluster")
        except AssertionError:
            self.family.end()
            raise
        self.nodes = [int(pid) for pid in pids]
        return self

    def __exit__(self, *_: object) -> None:
        self.family.end()

    def add(self) -> None:
        """The nodes that were to come later."""
        self.family.process.send_signal(signal.SIGUSR1)
        self.nodes += [int(pid) for pid in self._said("added")]

    def node_of(self, pid: int) -> int | None:
        """The index of the node that this process is a worker of."""
        raylet = parent(pid)
        return self.nodes.index(raylet) if raylet in self.nodes else None

    def kill(self, node: int) -> None:
        """The raylet and all that it has started, at once."""
        raylet = self.nodes[node]
        workers = [m.pid for m in self.family.members() if parent(m.pid) == raylet]
        for pid in (raylet, *workers):
            self.family.kill(pid)

    def _said(self, word: str) -> list[str]:
        deadline = time.monotonic() + _START_S
        line = re.compile(rf"^{word}: (.+)$", re.MULTILINE)
        while not (found := line.search(self.family.said())):
            assert self.family.process.poll() is None, self.family.said()
            assert time.monotonic() < deadline, self.family.said()
            time.sleep(0.1)
        return found[1].split()


def parent(pid: int) -> int:
    try:
        return int(Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


if __name__ == "__main__":
    main()
