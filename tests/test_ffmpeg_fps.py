"""The sampling of ffmpeg's fps filter, against the frames that ffmpeg itself took."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.helpers.videos import write_video
from tests.test_sampling import facts
from vidembed.clips import Sampling
from vidembed.decode.sampling import BLACK, sample
from vidembed.decode.video import probe

if TYPE_CHECKING:
    from vidembed.decode.facts import VideoFacts

GOLDEN = np.load(Path(__file__).parent / "goldens" / "ffmpeg_fps.npz")
WINDOWS = Sampling(
    kind="ffmpeg_fps", count=32, fps=10, windows=10, seconds=3.2, tail=0.4, pad="black"
)
WHOLE = Sampling(kind="ffmpeg_fps", count=32, fps=10, pad="black")


def video(case: int) -> VideoFacts:
    rate = Fraction(*GOLDEN["rates"][case].tolist())
    return facts(int(GOLDEN["frames"][case]), float(rate))


def from_start(made: VideoFacts, start: float) -> np.ndarray:
    """The single window that begins at `start`: what is cut off behind puts it there."""
    tail = made.duration_s - start - 3.2
    one = Sampling(
        kind="ffmpeg_fps", count=32, fps=10, windows=2, seconds=3.2, tail=tail, pad="black"
    )
    assert one.starts(0, made.duration_s)[1] == pytest.approx(start)
    return sample(one, made, 0, made.n_frames)[32:]


@pytest.mark.parametrize("case", range(len(GOLDEN["frames"])))
def test_ten_windows_have_the_frames_that_ffmpeg_takes(case):
    made = video(case)
    found = sample(WINDOWS, made, 0, made.n_frames)
    np.testing.assert_array_equal(found, GOLDEN["spread"][case])


@pytest.mark.parametrize("case", range(len(GOLDEN["starts"])))
def test_a_window_that_begins_between_two_frames_keeps_its_own_clock(case):
    found = from_start(video(1), GOLDEN["starts"][case])
    np.testing.assert_array_equal(found, GOLDEN["chosen"][case])


@pytest.mark.parametrize("case", [2, 4, 11])
def test_the_same_frames_are_taken_from_a_file_as_it_is_read(case, tmp_path):
    rate, frames = Fraction(*GOLDEN["rates"][case].tolist()), int(GOLDEN["frames"][case])
    path = write_video(tmp_path / "video.mp4", frames=frames, fps=rate, b_frames=2)
    found = sample(WINDOWS, probe(str(path)), 0, frames)
    np.testing.assert_array_equal(found, GOLDEN["spread"][case])


def test_a_short_video_ends_in_black_frames():
    found = sample(WHOLE, facts(40, 25), 0, 40)
    # 1.6 seconds are 16 points.
    assert (found != BLACK).sum() == 16
    assert (found[16:] == BLACK).all()


def test_a_video_of_a_single_frame_is_that_frame_though_ffmpeg_writes_none():
    assert sample(WHOLE, facts(1, 25), 0, 1).tolist() == [0] + [BLACK] * 31


def test_the_goldens_differ_from_every_nth_frame():
    taken = GOLDEN["spread"][3][:32]
    assert not np.array_equal(taken, 3 * np.arange(32))
    assert len({tuple(window) for window in GOLDEN["spread"][3].reshape(10, 32)}) == 10


def test_a_segment_s_windows_stay_within_it():
    found = sample(WINDOWS, facts(400, 25), 100, 220)
    assert found[found != BLACK].min() >= 100
    assert found.max() < 220


def test_a_whole_video_is_its_first_frames_at_that_rate():
    assert sample(WHOLE, facts(400, 30), 0, 400)[:5].tolist() == [1, 4, 7, 10, 13]


def test_a_window_that_begins_after_the_last_frame_shows_that_frame():
    made = facts(4, 1)
    assert from_start(made, 3.5)[0] == 3


def test_the_first_frames_of_a_video_are_taken_as_they_are():
    first = Sampling(kind="first", count=32)
    assert sample(first, facts(100), 0, 100).tolist() == list(range(32))
    assert sample(first, facts(100), 40, 100).tolist() == list(range(40, 72))


def test_of_fewer_frames_each_is_repeated_as_numpy_s_repeat_does():
    first = Sampling(kind="first", count=32)
    for n in (1, 3, 10, 17, 31):
        expected = np.arange(n).repeat(-(-32 // n))[:32]
        assert sample(first, facts(n), 0, n).tolist() == expected.tolist()
