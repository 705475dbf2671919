"""A Ray cluster on this machine that an autoscaler makes larger: a head that does no work, and the
node types of a cluster's configuration, started as processes when they are asked for.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any, Self

from tests.helpers.families import Family, Member
from tests.helpers.ports import free_port

_HEAD_ID = "f" * 51 + "00000"
_HEAD_TYPE = "ray.head.default"
_START_S = 120.0


class GrowingCluster:
    """Ray's own autoscaler, with its provider of nodes that are processes. All of them are ended by
    pid, on leaving the block.
    """

    def __init__(
        self, folder: Path, node_types: dict[str, dict[str, Any]], **settings: Any
    ) -> None:
        """folder: a short path, for sockets lie in it; node_types: `resources`, `min_workers` and
        `max_workers` of each; settings: of the cluster as a whole.
        """
        self.address = f"127.0.0.1:{free_port()}"
        self._token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self._folder = folder
        self._config = folder / "cluster.json"
        self._config.write_text(json.dumps(self._configured(node_types) | settings))

    def _configured(self, node_types: dict[str, dict[str, Any]]) -> dict[str, Any]:
        head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
        types = {name: {"node_config": {}, **kind} for name, kind in node_types.items()}
        lists = ("cluster_synced_files", "rsync_exclude", "rsync_filter", "setup_commands")
        commands = ("head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
        return {
            "cluster_name": "growing",
            "provider": {
                "type": "fake_multinode",
                "head_node_id": _HEAD_ID,
                "gcs_address": self.address,
                # Its nodes share an address; without these the autoscaler takes them for dead.
                "use_node_id_as_ip": True,
                "disable_node_updaters": True,
                "disable_launch_config_check": True,
            },
            "auth": {},
            "docker": {},
            "file_mounts": {},
            "file_mounts_sync_continuously": False,
            "initialization_commands": [],
            **{name: [] for name in lists},
            **{f"{name}_commands": [] for name in commands},
            "available_node_types": {_HEAD_TYPE: head, **types},
            "head_node_type": _HEAD_TYPE,
        }

    def __enter__(self) -> Self:
        environment = {
            "RAY_FAKE_CLUSTER": "1",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            **self._token,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _HEAD_ID,
        }
        words = [
            str(Path(sys.executable).with_name("ray")),
            "start",
            "--head",
            "--block",
            "--disable-usage-stats",
            "--include-dashboard=false",
            "--num-cpus=0",
            "--object-store-memory=100000000",
            "--node-ip-address=127.0.0.1",
            f"--port={self.address.rpartition(':')[2]}",
            f"--autoscaling-config={self._config}",
            "--min-worker-port=31000",
            "--max-worker-port=31999",
            f"--temp-dir={self._folder}",
        ]
        self._family = Family(words, self._folder / "head.log", environment)
        deadline = time.monotonic() + _START_S
        while "Ray runtime started" not in self._family.said():
            late = time.monotonic() > deadline
            if late or self._family.process.poll() is not None:
                self.__exit__()
                raise AssertionError(self._family.said())
            time.sleep(0.2)
        return self

    def __exit__(self, *_: object) -> None:
        self._family.end()

    @property
    def environment(self) -> dict[str, str]:
        """For a command that joins it."""
        return {**os.environ, **self._token, "RAY_ADDRESS": self.address}

    def members(self) -> list[Member]:
        """All processes of all its nodes."""
        return self._family.members()

    def said(self, words: str) -> bool:
        """Whether the autoscaler has said this, which it does some time after it was so."""
        deadline = time.monotonic() + _START_S
        while words not in self.log():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True

    def log(self) -> str:
        """What the autoscaler has done."""
        path = self._folder / "session_latest" / "logs" / "monitor.log"
        return path.read_text() if path.exists() else ""
