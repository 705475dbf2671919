"""A real Milvus server for tests: the standalone binary of the PyPI package `milvus`.

The package's own wrapper leaves its child behind when it is stopped, and does not come back after a
kill: here the binary is started on the configuration that the wrapper writes, and is killed by pid.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from typing import TYPE_CHECKING, Any, Self

from tests.helpers.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PORTS = (
    "root_coord_port", "proxy_port", "proxy_internal_port", "query_coord_port", "query_node_port",
    "index_coord_port", "index_node_port", "data_coord_port", "data_node_port",
)  # fmt: skip


class MilvusServer:
    """Started on entry, killed by its pid on exit with all that it wrote. settings: more lines of
    its configuration, as `a.b.c: value`. session_s: after how long what a kill has left of its
    components counts as gone, before which it answers no query; by itself it takes half a minute.
    """

    def __init__(self, folder: Path, session_s: int | None = None, **settings: Any) -> None:
        self.folder = folder
        self._session_s = session_s
        self._settings = {key.replace("__", "."): value for key, value in settings.items()}
        self._process: subprocess.Popen[bytes] | None = None
        self._ports = _distinct(len(_PORTS) + 3)
        self.port = self._ports[_PORTS.index("proxy_port")]
        self.uri = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._configure()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start it, also again after a kill, and wait until it answers."""
        *_, metrics, client, peer = self._ports
        etcd = self.folder / "etcd.yaml"
        etcd.write_text(
            f"listen-client-urls: http://127.0.0.1:{client}\n"
            f"advertise-client-urls: http://127.0.0.1:{client}\n"
            f"listen-peer-urls: http://127.0.0.1:{peer}\n"
            f"initial-advertise-peer-urls: http://127.0.0.1:{peer}\n"
            f"initial-cluster: default=http://127.0.0.1:{peer}\n"
        )
        binaries = self.folder / "bin"
        environment = {
            **os.environ,
            "DEPLOY_MODE": "STANDALONE",
            "METRICS_PORT": str(metrics),
            "ETCD_CONFIG_PATH": str(etcd),
            "MILVUS_RUN_DIR": str(self.folder / "run"),
            "LD_LIBRARY_PATH": str(binaries),
        }
        if self._session_s is not None:
            environment["COMMON_SESSION_TTL"] = str(self._session_s)
        with (self.folder / "milvus.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(binaries / "milvus"), "run", "standalone"],
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=log,
            )
        self._wait(f"http://127.0.0.1:{metrics}/healthz")

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """For so long it takes calls and answers none."""
        if self._process is None:
            raise RuntimeError("not started")
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """With SIGKILL: asked nicely it takes minutes."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _configure(self) -> None:
        from milvus import MilvusServerConfig, _initialize_data_files

        *ports, _, client, _ = self._ports
        named = dict(zip(_PORTS, ports, strict=False)) | {"etcd_port": client}
        config = MilvusServerConfig(data_dir=str(self.folder), **named)
        for key, value in self._settings.items():
            config.set(key, value)
        config.resolve()
        _initialize_data_files(str(self.folder))

    def _wait(self, health: str) -> None:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(health, timeout=5) as answer:
                if b"OK" in answer.read():
                    return
            if self._process is not None and self._process.poll() is not None:
                break
            time.sleep(0.2)
        log = (self.folder / "milvus.log").read_text(errors="replace")[-2000:]
        self.kill()
        raise RuntimeError(f"Milvus does not start: {log}")


def _distinct(count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        port = free_port()
        if port not in found:
            found.append(port)
    return found
