"""A Ray cluster of several nodes on this machine: `python -m tests.helpers.ray_cluster 2 1 1` has a
head of 2 CPUs and two more nodes. It prints its address and the raylets' pids, the head's first,
and stays until it is killed.
"""

from __future__ import annotations

import sys
import time

from ray.cluster_utils import Cluster


def main() -> None:
    head, *others = (int(word) for word in sys.argv[1:])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": head})
    nodes = [cluster.head_node, *(cluster.add_node(num_cpus=cpus) for cpus in others)]
    cluster.wait_for_nodes()
    pids = [node.all_processes["raylet"][0].process.pid for node in nodes]
    print("cluster:", cluster.address, *pids, flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
