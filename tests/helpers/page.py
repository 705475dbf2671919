"""`vidembed app` in a process of its own, and runs of real vectors for it, made without a job."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import av
import numpy as np
import pyarrow as pa

from tests.conftest import ROOT
from tests.helpers.runs import record
from vidembed import schema
from vidembed.clips import Segmentation, segment_id
from vidembed.decode.limits import Limits
from vidembed.decode.protocol import Request, Share
from vidembed.decode.worker import DecodeWorker
from vidembed.encode import registry
from vidembed.store.run import Run
from vidembed.synthetic.render import render

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from vidembed.synthetic.scenes import Scene

METADATA = pa.schema(
    [pa.field("caption", pa.string()), pa.field("color", pa.string()), pa.field("n", pa.int64())]
)
FPS = 12


@dataclass(frozen=True)
class Video:
    """A row of the manifest: a file to embed, or (vector) one that has a place by chance."""

    name: str
    uri: str
    caption: str = ""
    color: str = ""
    seconds: float | None = None
    decoded: bool = True


def draw(path: Path, scenes: Sequence[Scene], seconds: float = 3.0) -> Path:
    """An H.264 file of these scenes, one after the other, so many seconds each."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.options = {"crf": "20"}
        stream.codec_context.gop_size = FPS
        for seed, scene in enumerate(scenes):
            rng = np.random.default_rng(seed)
            for pixels in render(scene, round(seconds * FPS), 120, 160, rng):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def embed_here(folder: Path, videos: Sequence[Video]) -> Run:
    """A run of clip4clip-tiny's vectors. Those without a length are one row; the others are cut."""
    spec = registry.describe("clip4clip-tiny", None)
    encoder = registry.load(spec, "cpu", "float32")
    worker = DecodeWorker(Limits(seconds=60))
    rows: list[dict[str, Any]] = []
    try:
        for number, video in enumerate(videos):
            found = _decoded(worker, spec, video) if video.decoded else _by_chance(spec, video)
            for facts, vector in found:
                vector = encoder.encode_video(vector)[0] if vector.ndim > 1 else vector
                rows.append(_row(video, number, len(found), facts, vector))
    finally:
        worker.close()
    run = Run.create_or_resume(str(folder), record(spec))
    run.commit(pa.Table.from_pylist(rows, schema=schema.vectors(spec.dim, METADATA)))
    return run


def _decoded(worker, spec, video):
    segmentation = Segmentation(seconds=video.seconds)
    request = Request(video.uri, None, None, (Share(spec.clip),), segmentation, "auto")
    answer, (pixels,) = worker.decode(request)
    return [
        ((facts.start_s, facts.end_s), np.array(clip)[None])
        for facts, clip in zip(answer.clips[0], pixels, strict=True)
    ]


def _by_chance(spec, video):
    vector = np.random.default_rng(len(video.name)).standard_normal(spec.dim).astype(np.float32)
    return [((0.0, 2.0), vector / np.linalg.norm(vector))]


def _row(video, number, segments, window, vector) -> dict[str, Any]:
    at = round(window[0] / video.seconds) if video.seconds else 0
    return {
        "id": segment_id(video.name, at, Segmentation(seconds=video.seconds)),
        "video_id": video.name,
        "segment": at,
        "segments": segments,
        "start_s": window[0],
        "end_s": window[1],
        "uri": video.uri,
        "frames": 8,
        "duration_s": window[1],
        "fps": float(FPS),
        "width": 160,
        "height": 120,
        "embedding": vector.tolist(),
        "caption": video.caption,
        "color": video.color,
        "n": number,
    }


@dataclass(frozen=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class App:
    """Started on entry on a free port, ended on exit. words: of its command line. modules: a folder
    of Python modules that it finds.
    """

    def __init__(
        self,
        folder: Path,
        *words: str,
        password: str | None = None,
        modules: Path | None = None,
    ) -> None:
        self._words, self._password = words, password
        self._path = os.pathsep.join(str(place) for place in (ROOT, modules) if place)
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        self._errors = folder / "stderr"
        self._code: int | None = None
        self.port = 0
        self.said: list[str] = []

    def __enter__(self) -> Self:
        environment = {
            **os.environ,
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": self._path,
            "OMP_NUM_THREADS": "1",
            "VIDEMBED_DECODE_DRILL": "tests.helpers.drills:by_name",
        }
        environment.pop("VIDEMBED_APP_PASSWORD", None)
        if self._password:
            environment["VIDEMBED_APP_PASSWORD"] = self._password
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "vidembed", "app", *self._words, "--port", "0"],
                stdout=subprocess.PIPE, stderr=errors, env=environment, cwd=ROOT, text=True,
            )  # fmt: skip
        late = threading.Timer(90, self.process.kill)
        late.start()
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if found := re.search(r"http://\S+:(\d+) ", line):
                self.port = int(found[1])
                break
        late.cancel()
        assert self.port, f"the app did not start: {self.errors}"
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def end(self, by: int = signal.SIGINT) -> int:
        """Send the signal, wait; returns the exit code."""
        if self._code is None:
            self.process.send_signal(by)
            try:
                self._code = self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
            finally:
                self.process.stdout.close()
        return self._code

    def ask(
        self,
        path: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
    ) -> Reply:
        """One request, with the path as it is spelled: no client's library tidies it up."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return Reply(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def media(self, row: str, **headers: str) -> Reply:
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask(f"/media/{quote(row, safe='')}", headers=told)

    def search(self, text: str, *, chosen: str = "", top: int = 5, group: bool = False) -> str:
        """What the page would show for a text, by the same events as the page's."""
        return self._event(0, [text, chosen, top, group])

    def _event(self, function: int, data: list[Any]) -> str:
        session = os.urandom(6).hex()
        told = {"data": data, "fn_index": function, "session_hash": session}
        kind = {"Content-Type": "application/json"}
        joined = self.ask("/gradio_api/queue/join", "POST", kind, json.dumps(told).encode())
        assert joined.status == 200, joined.body
        events = self.ask(f"/gradio_api/queue/data?session_hash={session}").body.decode()
        for line in events.splitlines():
            event = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
            if event.get("msg") == "process_completed":
                assert event["success"], event
                return str(event["output"]["data"][-1])
        raise AssertionError(events)


def shown_ids(html: str) -> list[str]:
    """The rows of the cards, in order."""
    return re.findall(r'<article class="ve-card" data-row="([^"]*)"', html)
