"""Memory and open files stay flat over thousands of videos, good and bad, in one decode child."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.children import children
from tests.helpers.videos import flip_bytes, write_video
from vidembed.clips import ClipSpec, Resize, Sampling, Segmentation
from vidembed.decode.limits import Limits
from vidembed.decode.protocol import Request, Share
from vidembed.decode.worker import DecodeWorker
from vidembed.errors import ClipError

OPENS = 5000
SETTLED = 1000
SPEC = ClipSpec(sampling=Sampling(kind="uniform", count=2), resize=Resize(short_side=32, crop=32))
LIMITS = Limits(seconds=20, memory_bytes=1 << 30, file_bytes=1 << 30)

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="memory and descriptors are read from /proc"
)


def files(folder: Path) -> list[Path]:
    tiny = {"frames": 12, "size": (48, 32), "gop": 6}
    good = [
        write_video(folder / "h264.mp4", **tiny, b_frames=2),
        write_video(folder / "vp9.webm", codec="vp9", **tiny),
        write_video(folder / "mpeg4.avi", codec="mpeg4", **tiny),
    ]
    bad = []
    for path in good:
        data = path.read_bytes()
        bad.append(path.with_name(f"cut-{path.name}"))
        bad[-1].write_bytes(data[: len(data) // 2])
        bad.append(path.with_name(f"noisy-{path.name}"))
        bad[-1].write_bytes(data)
        flip_bytes(bad[-1], 0.8, 300)
    (folder / "noise.mp4").write_bytes(np.random.default_rng(2).bytes(3000))
    (folder / "empty.mp4").touch()
    return [*good, *bad, folder / "noise.mp4", folder / "empty.mp4", folder / "absent.mp4"]


def resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.fixture
def nothing_left(tmp_path, monkeypatch):
    """The folder of temporary files, and the check that it is empty at the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    shared = set(Path("/dev/shm").glob("vidembed*"))
    yield folder
    assert list(folder.iterdir()) == []
    assert set(Path("/dev/shm").glob("vidembed*")) <= shared


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_thousands_of_videos_leave_neither_memory_nor_files_open(decoder, tmp_path, nothing_left):
    videos = files(tmp_path)
    before = children()
    worker = DecodeWorker(LIMITS, recycle_after=2 * OPENS)
    outcomes = {"answer": 0}
    seen = {}
    try:
        for k in range(OPENS):
            uri = str(videos[k % len(videos)])
            try:
                worker.decode(Request(uri, None, None, (Share(SPEC),), Segmentation(), decoder))
                outcomes["answer"] += 1
            except ClipError as error:
                outcomes[error.kind] = outcomes.get(error.kind, 0) + 1
            if k + 1 in (SETTLED, OPENS):
                (pid,) = children() - before
                seen[k + 1] = (
                    pid,
                    resident_mib(pid),
                    resident_mib(os.getpid()),
                    descriptors(pid),
                    descriptors(os.getpid()),
                    sum(1 for found in nothing_left.rglob("*") if found.is_file()),
                )
    finally:
        worker.close()
    print(outcomes, seen)
    early, late = seen[SETTLED], seen[OPENS]
    assert late[0] == early[0]
    assert late[1] - early[1] < 30
    assert late[2] - early[2] < 30
    assert late[3:] == early[3:]
    assert outcomes["answer"] >= 3 * OPENS // len(videos)
    assert set(outcomes) >= {"answer", "NotFound", "Empty", "Unsupported", "Truncated", "Corrupt"}
