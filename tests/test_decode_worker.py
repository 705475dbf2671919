"""The decode child and its parent: whatever a video does, it costs one video."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.children import children
from tests.helpers.videos import frame_numbers, write_video
from vidembed.clips import ClipSpec, Resize, Sampling, Segmentation
from vidembed.decode.limits import Limits
from vidembed.decode.protocol import Request, Share
from vidembed.decode.worker import DecodeWorker
from vidembed.errors import ClipError

SPEC = ClipSpec(sampling=Sampling(kind="uniform", count=4), resize=Resize(short_side=64, crop=64))


def request(
    path: Path | str, spec: ClipSpec = SPEC, skip: frozenset[int] = frozenset(), **options
) -> Request:
    given = {"start_s": None, "end_s": None, "segmentation": Segmentation(), "decoder": "auto"}
    shares = (Share(spec, skip),)
    return Request(str(path), **{"shares": shares} | given | options)


def failure(worker: DecodeWorker, path: Path | str) -> ClipError:
    with pytest.raises(ClipError) as caught:
        worker.decode(request(path))
    return caught.value


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("worker") / "good.mp4", frames=30)


@pytest.fixture
def drill(tmp_path, monkeypatch):
    """Faults on demand; returns the log of which process was asked for each video."""
    log = tmp_path / "drill.log"
    monkeypatch.setenv("VIDEMBED_DECODE_DRILL", "tests.helpers.drills:by_name")
    monkeypatch.setenv("DRILL_LOG", str(log))
    return log


@pytest.fixture
def make_worker():
    workers = []

    def make(**options) -> DecodeWorker:
        workers.append(DecodeWorker(**options))
        return workers[-1]

    yield make
    for worker in workers:
        worker.close()


def gone(pid: int, within_s: float = 5.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def litter() -> set[Path]:
    places = [Path(p) for p in ("/dev/shm", tempfile.gettempdir()) if os.path.isdir(p)]
    return {found for place in places for found in place.glob("vidembed*")}


def test_a_video_comes_back_as_frames_of_the_encoder_s_size_with_its_facts(video, make_worker):
    answer, (pixels,) = make_worker().decode(request(video))
    assert pixels.shape == (1, 4, 64, 64, 3)
    assert pixels.dtype == np.uint8
    assert frame_numbers(pixels[0]) == [0, 9, 19, 29]
    assert (answer.segments, len(answer.clips)) == (1, 1)
    assert answer.fps == pytest.approx(24)
    assert answer.duration_s == pytest.approx(1.25)
    assert [(c.frames, c.width, c.height) for c in answer.clips[0]] == [(4, 160, 120)]


def test_segments_share_one_decoding_and_skip_leaves_some_out(video, make_worker):
    cut = Segmentation(seconds=0.5)
    worker = make_worker()
    answer, (pixels,) = worker.decode(request(video, segmentation=cut))
    assert answer.segments == 3
    assert [frame_numbers(clip) for clip in pixels] == [
        [0, 3, 7, 11],
        [12, 15, 19, 23],
        [24, 25, 27, 29],
    ]
    answer, (pixels,) = worker.decode(request(video, segmentation=cut, skip=frozenset({0, 2})))
    assert [c.segment for c in answer.clips[0]] == [1]
    assert answer.segments == 3
    assert frame_numbers(pixels[0]) == [12, 15, 19, 23]


def test_a_video_whose_segments_are_all_done_gives_no_clips(video, make_worker):
    answer, (pixels,) = make_worker().decode(request(video, skip=frozenset({0})))
    assert answer.clips == ((),)
    assert pixels.shape == (0, 4, 64, 64, 3)


def test_padding_that_is_masked_is_black_and_not_counted(tmp_path, make_worker):
    """10 frames a second and a clip of 1.5 s: two frames of twelve."""
    path = write_video(tmp_path / "short.mp4", frames=15, fps=10)
    spec = ClipSpec(
        sampling=Sampling(kind="clip4clip", count=12, pad="mask"),
        resize=Resize(short_side=64, crop=64),
    )
    worker = make_worker()
    worker.decode(request(write_video(tmp_path / "long.mp4", frames=300, fps=20), spec=spec))
    answer, (pixels,) = worker.decode(request(path, spec=spec))
    assert [c.frames for c in answer.clips[0]] == [2]
    assert frame_numbers(pixels[0, :2]) == [0, 10]
    assert not pixels[0, 2:].any()


def test_frames_beyond_the_memory_s_share_go_through_the_disk(video, tmp_path, make_worker):
    big = ClipSpec(
        sampling=Sampling(kind="uniform", count=48), resize=Resize(short_side=320, crop=320)
    )
    cut = Segmentation(seconds=0.05)
    worker = make_worker()
    answer, (pixels,) = worker.decode(request(video, spec=big, segmentation=cut))
    assert answer.on_disk
    assert pixels.nbytes > 256 << 20
    assert frame_numbers(pixels[5, [0, -1]]) == [6, 7]
    answer, (pixels,) = worker.decode(request(video))
    assert not answer.on_disk
    assert frame_numbers(pixels[0]) == [0, 9, 19, 29]


def test_a_file_s_fault_comes_back_as_its_class_and_the_child_lives_on(
    tmp_path, video, drill, make_worker
):
    worker = make_worker()
    (tmp_path / "empty.mp4").touch()
    assert failure(worker, tmp_path / "empty.mp4").kind == "Empty"
    assert failure(worker, tmp_path / "absent.mp4").kind == "NotFound"
    worker.decode(request(video))
    assert len(set(drill.read_text().split())) == 1


def test_a_file_beyond_the_limit_of_bytes_is_too_large(video, make_worker):
    error = failure(make_worker(limits=Limits(file_bytes=100)), video)
    assert error.kind == "TooLarge"
    assert "100 bytes" in error.message


def test_a_hung_child_costs_one_timeout_and_no_more_than_the_deadline(
    tmp_path, video, drill, make_worker
):
    worker = make_worker(limits=Limits(seconds=1.0))
    worker.decode(request(video))
    began = time.monotonic()
    error = failure(worker, tmp_path / "hang.mp4")
    assert time.monotonic() - began < 2.0
    assert error.kind == "Timeout"
    assert "hang.mp4" in error.message
    assert "1 s (--decode-timeout)" in error.message
    assert frame_numbers(worker.decode(request(video))[1][0][0]) == [0, 9, 19, 29]


def test_a_segfault_is_a_decoder_crash_and_the_next_video_works(
    tmp_path, video, drill, make_worker
):
    worker = make_worker()
    error = failure(worker, tmp_path / "crashalways.mp4")
    assert error.kind == "DecoderCrash"
    assert f"signal {signal.SIGSEGV.value}" in error.message
    assert frame_numbers(worker.decode(request(video))[1][0][0]) == [0, 9, 19, 29]


def test_a_child_that_died_between_two_videos_is_replaced(video, drill, make_worker):
    worker = make_worker()
    worker.decode(request(video))
    pid = int(drill.read_text().split()[-1])
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    assert frame_numbers(worker.decode(request(video))[1][0][0]) == [0, 9, 19, 29]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_a_memory_bomb_is_too_large_before_it_fills_the_machine(
    tmp_path, video, drill, make_worker
):
    worker = make_worker(limits=Limits(memory_bytes=512 << 20))
    error = failure(worker, tmp_path / "bloat.mp4")
    assert error.kind == "TooLarge"
    assert "--decode-memory" in error.message
    worker.decode(request(video))


def test_the_child_is_a_fresh_one_after_so_many_videos(video, drill, make_worker):
    worker = make_worker(recycle_after=2)
    for _ in range(5):
        worker.decode(request(video))
    pids = drill.read_text().split()
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]


def test_a_failed_video_counts_towards_recycling(tmp_path, video, drill, make_worker):
    worker = make_worker(recycle_after=2)
    worker.decode(request(video))
    failure(worker, tmp_path / "absent.mp4")
    worker.decode(request(video))
    first, second, third = drill.read_text().split()
    assert first == second != third


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are read from /proc")
@pytest.mark.parametrize("end", ["close", "hang", "crashalways", "litter"])
def test_nothing_is_left_behind_however_a_child_ends(
    end, tmp_path, video, drill, monkeypatch, make_worker
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before, files, open_files = children(), litter(), len(os.listdir("/proc/self/fd"))
    worker = make_worker(limits=Limits(seconds=0.5 if end != "close" else 60))
    worker.decode(request(video))
    if end == "close":
        worker.close()
    else:
        failure(worker, tmp_path / f"{end}.mp4")
    assert children() <= before
    assert litter() <= files
    assert len(os.listdir("/proc/self/fd")) <= open_files


def test_closing_twice_is_no_error_and_a_closed_worker_starts_again(video, make_worker):
    worker = make_worker()
    worker.close()
    worker.decode(request(video))
    worker.close()
    worker.close()
    worker.decode(request(video))


_PARENT = """
import os, sys, time
from vidembed.clips import *
from vidembed.decode.protocol import Request, Share
from vidembed.decode.worker import DecodeWorker
spec = ClipSpec(sampling=Sampling(kind="uniform", count=2), resize=Resize(short_side=64, crop=64))
worker = DecodeWorker()
ask = lambda uri: worker.decode(Request(uri, None, None, (Share(spec),), Segmentation(), "auto"))
ask(sys.argv[1])
print("ready", flush=True)
ask("hang.mp4" if sys.argv[2] == "hanging" else sys.argv[1])
print("done", flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a Linux guarantee")
@pytest.mark.parametrize("busy", ["hanging", "idle"])
def test_the_child_dies_with_its_parent_even_in_native_code(busy, video, drill):
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(video), busy],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        wait_for_lines(drill, 2)
        child = int(drill.read_text().split()[0])
        assert Path(f"/proc/{child}").exists()
    finally:
        parent.kill()
        parent.wait()
        assert parent.stdout is not None
        parent.stdout.close()
    assert gone(child)


def wait_for_lines(path: Path, count: int) -> None:
    deadline = time.monotonic() + 20
    while len(path.read_text().split()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_a_library_prints_does_not_come_between_answers(video, monkeypatch, make_worker):
    monkeypatch.setenv("VIDEMBED_DECODE_DRILL", "builtins:print")
    worker = make_worker()
    for _ in range(2):
        assert frame_numbers(worker.decode(request(video))[1][0][0]) == [0, 9, 19, 29]


def test_a_child_that_cannot_start_says_how_to_see_why(video, monkeypatch, make_worker):
    from vidembed.errors import RunError

    monkeypatch.setenv("VIDEMBED_DECODE_DRILL", "no_such_module:function")
    with pytest.raises(RunError, match=r"import vidembed\.decode\.child"):
        make_worker().decode(request(video))


def test_a_child_that_is_killed_while_it_starts_costs_nothing(video, make_worker):
    before, killed = children(), []

    def kill_the_first():
        while not killed:
            for pid in children() - before:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    pixels = make_worker().decode(request(video))[1][0][0]
    killer.join()
    assert killed
    assert frame_numbers(pixels) == [0, 9, 19, 29]


def test_the_child_loads_neither_torch_nor_ray():
    code = (
        "import sys, vidembed.decode.child; "
        "print({'torch', 'ray', 'transformers', 'pymilvus'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_shares_of_one_request_get_their_own_frames_sizes_and_aspect(tmp_path, make_worker):
    """Pixels twice as wide as high, made square only for the one that asks for it."""
    path = write_video(tmp_path / "wide.mp4", frames=30, sar=Fraction(2, 1))
    resize = Resize(short_side=32, crop=32)
    specs = [
        SPEC,
        ClipSpec(sampling=Sampling(kind="uniform", count=3), resize=resize, aspect="display"),
        ClipSpec(sampling=Sampling(kind="fast", count=2), resize=SPEC.resize),
    ]
    worker = make_worker()
    together, pixels = worker.decode(request(path, shares=tuple(map(Share, specs))))
    pixels = [each.copy() for each in pixels]
    assert together.effort.wanted >= 4
    for clips, found, spec in zip(together.clips, pixels, specs, strict=True):
        answer, (expected,) = worker.decode(request(path, spec))
        assert clips == answer.clips[0]
        np.testing.assert_array_equal(found, expected)
    assert [clips[0].width for clips in together.clips] == [160, 320, 160]
