"""Jobs held up on purpose, and their verdicts: `python -m benchmarks.verdicts [NAME…]`.

Each is a real job on one Ray of this machine: large videos; an encoder that takes its time; videos
on a server that is slow to answer; a Milvus behind a line that is slow.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import commit, cpu
from tests.conftest import ROOT
from tests.helpers.clip_folder import write_clip_folder
from tests.helpers.http import FileServer
from tests.helpers.milvus_server import MilvusServer
from tests.helpers.videos import write_video

if TYPE_CHECKING:
    from collections.abc import Iterator

_ANSWER_S = 1.0
_ENCODE_S = 2.0
_LINE_S = 2.0
_ROWS = 1500


class SlowFiles(FileServer):
    """Answers each request a second late."""

    def answer(self, handler: Any, fault: Any) -> None:
        time.sleep(_ANSWER_S)
        super().answer(handler, fault)


class SlowLine:
    """A TCP proxy on loopback that holds back each piece of what a client sends, from the first
    large one on: that is rows.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._is_slow = False
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._socket.accept()
            server = socket.create_connection(("127.0.0.1", self._to))
            for words in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pass_on, args=words, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, held_back: bool) -> None:  # noqa: FBT001
        try:
            while data := source.recv(1 << 16):
                self._is_slow |= held_back and len(data) > _ROWS
                time.sleep(_LINE_S if self._is_slow and held_back else 0)
                target.sendall(data)
        except OSError:
            pass
        target.close()


def jobs(folder: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(what is slow, manifest, options)."""
    small, large = folder / "small", folder / "large"
    for each, size, frames, count in ((small, (160, 120), 48, 40), (large, (1280, 720), 600, 8)):
        each.mkdir()
        first = write_video(each / "0.mp4", frames=frames, size=size)
        for k in range(1, count):
            (each / f"{k}.mp4").write_bytes(first.read_bytes())
    yield "decode", str(large), {"segment_seconds": 1.0}
    slow = {"encoder": "tests.helpers.slow_encoder:SlowClip4Clip", "batch_size": 4, "limit": 30}
    yield "encode", str(small), slow
    with SlowFiles() as server:
        rows = [server.put(f"/{p.name}", p.read_bytes()) for p in sorted(small.glob("*.mp4"))]
        table = folder / "remote.csv"
        table.write_text("\n".join(["uri", *rows]) + "\n")
        yield "reads", str(table), {"allow_root": [server.url], "limit": 30}
    with MilvusServer(folder / "milvus") as milvus:
        line = SlowLine(milvus.port)
        yield "milvus", str(small), {"milvus": line.uri, "milvus_patience": 120.0}


def main() -> None:
    os.environ["DRILL_ENCODE_S"] = str(_ENCODE_S)
    os.environ["PYTHONPATH"] = str(ROOT)
    import ray

    import vidembed

    ray.init(address="local", num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False)
    print(f"{cpu()}, commit {commit()}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = str(write_clip_folder(folder / "clip"))
        for what, manifest, options in jobs(folder):
            if sys.argv[1:] and what not in sys.argv[1:]:
                continue
            given = {"weights": clip, "progress": "none", "decode_actors": 1, **options}
            report = vidembed.embed(manifest, out=str(folder / what), **given)
            print(f"{what}: {report.verdict['sentence']}\n    {report.verdict}", flush=True)
    ray.shutdown()


if __name__ == "__main__":
    sys.exit(main())
