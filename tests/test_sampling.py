"""Which frames make a clip, by each rule, against worked examples."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from vidembed.clips import Sampling
from vidembed.decode.facts import VideoFacts
from vidembed.decode.sampling import sample, spread
from vidembed.encode.registry import ENTRIES


def facts(frames: int, fps: float = 25.0, times=None) -> VideoFacts:
    times = np.arange(frames) / fps if times is None else np.asarray(times, np.float64)
    return VideoFacts(
        times=times,
        fps=fps,
        duration_s=float(times[-1]) + 1 / fps,
        container="mov",
        codec="h264",
        stream_index=0,
        index=None,
        pixel_aspect=1.0,
        open_gop=False,
    )


def indices(video: VideoFacts, first: int = 0, last: int | None = None, **sampling) -> list[int]:
    last = video.n_frames if last is None else last
    return sample(Sampling(**sampling), video, first, last).tolist()


def clip4clip(frames: int, fps: float, count: int = 12, rate: float = 1.0, **window) -> list[int]:
    video = facts(frames, fps)
    return indices(video, kind="clip4clip", count=count, fps=rate, pad="mask", **window)


# CLIP4Clip's extractor: one frame a second, counted in whole frames


def test_ten_seconds_at_30_are_ten_frames():
    assert clip4clip(300, 30) == list(range(0, 271, 30))


def test_a_rate_of_29_97_is_floored_so_that_ten_seconds_are_eleven_frames():
    assert clip4clip(300, 30000 / 1001) == list(range(0, 291, 29))


def test_more_than_twelve_are_thinned_by_a_truncated_linspace():
    grid = list(range(0, 600, 25))
    assert len(grid) == 24
    assert clip4clip(600, 25, count=24) == grid
    assert clip4clip(600, 25) == [grid[i] for i in np.linspace(0, 23, 12).astype(int)]


def test_two_frames_a_second_are_spread_over_the_second():
    assert clip4clip(60, 30, rate=2) == [0, 15, 30, 45]
    assert clip4clip(50, 25, rate=2) == [0, 12, 25, 37]


def test_a_higher_rate_than_the_video_s_takes_every_frame():
    assert clip4clip(6, 3, rate=10) == [0, 1, 2, 3, 4, 5]


def test_a_rate_below_one_frame_a_second_takes_every_frame():
    assert clip4clip(3, 0.5) == [0, 1, 2]


def test_a_video_shorter_than_a_second_is_its_first_frame():
    assert clip4clip(20, 25) == [0]


def test_a_window_is_counted_from_its_own_start():
    assert clip4clip(300, 30, first=100, last=200) == [100, 130, 160, 190]


# Uniform


@pytest.mark.parametrize("n", [1, 2, 7, 12, 13, 300, 1201])
@pytest.mark.parametrize("count", [1, 2, 8, 12, 32])
def test_uniform_is_a_truncated_linspace(n, count):
    expected = [int(i) for i in np.linspace(0, n - 1, count)]
    assert indices(facts(n), kind="uniform", count=count) == expected


def test_uniform_repeats_where_there_are_fewer_frames():
    assert indices(facts(2), kind="uniform", count=4) == [0, 0, 0, 1]
    assert indices(facts(1), kind="uniform", count=3) == [0, 0, 0]


def test_uniform_stays_in_its_window():
    assert indices(facts(100), 40, 60, kind="uniform", count=3) == [40, 49, 59]


def test_one_frame_of_many_is_the_first():
    assert indices(facts(100), kind="uniform", count=1) == [0]
    assert spread(100, 1).tolist() == [0]


# A grid in time


def test_fps_takes_the_frame_on_screen_at_each_point_of_the_grid():
    assert indices(facts(100, 25), kind="fps", count=4, fps=1) == [0, 25, 50, 75]
    assert indices(facts(10, 2.5), kind="fps", count=4, fps=1) == [0, 2, 5, 7]


def test_fps_follows_the_file_s_own_times():
    video = facts(5, 2, times=[0, 0.9, 1.0, 1.1, 3.0])
    assert indices(video, kind="fps", count=4, fps=1) == [0, 2, 3, 4]


def test_fps_thins_a_long_grid_uniformly():
    found = indices(facts(1000, 10), kind="fps", count=5, fps=1)
    assert found == [int(i) * 10 for i in np.linspace(0, 99, 5)]


def test_fps_repeats_the_last_frame_of_a_short_grid():
    assert indices(facts(50, 25), kind="fps", count=5, fps=1) == [0, 25, 25, 25, 25]


def test_fps_in_a_window_begins_at_its_first_frame():
    assert indices(facts(100, 25), 30, 90, kind="fps", count=3, fps=1) == [30, 55, 80]


@pytest.mark.parametrize("fps", [23.976, 29.97, 59.94, 10.0])
def test_a_grid_at_the_video_s_own_rate_takes_each_frame_once(fps):
    found = indices(facts(500, fps), kind="fps", count=500, fps=fps)
    assert found == list(range(500))


# Both


@pytest.mark.parametrize("kind", ["uniform", "fps", "clip4clip"])
@pytest.mark.parametrize("n", [1, 5, 24, 777])
def test_indices_ascend_and_lie_in_the_window(kind, n):
    for first, last in ((0, n), (n // 2, n)):
        if last > first:
            found = indices(facts(n, 24), first, last, kind=kind, count=12)
            assert found == sorted(found)
            assert first <= found[0]
            assert found[-1] < last
            assert len(found) == 12


def test_masked_clips_are_shorter_instead_of_repeated():
    assert indices(facts(50, 25), kind="fps", count=5, fps=1, pad="mask") == [0, 25]


def test_an_empty_window_is_refused():
    with pytest.raises(ValueError, match=r"an empty window: frames \[3, 3\)"):
        indices(facts(9), 3, 3, kind="uniform", count=2)


# Windows, as the encoders' own tests place them

GOLDEN = Path(__file__).parent / "goldens" / "mvit_sampling.npz"
ZOO = [
    ENTRIES[name].presets["zoo"].clip.sampling
    for name in ("mvit_base_16x4", "mvit_base_32x3", "x3d_xs", "x3d_s", "x3d_m")
]
TORCHVISION = ENTRIES["mvit_v2_s"].presets["torchvision"].clip.sampling


def golden(kind: str):
    with np.load(GOLDEN) as file:
        for key in file:
            name, frames, rate = key.split()
            if name == kind:
                yield facts(int(frames), float(Fraction(rate))), file[key].tolist(), key


def test_pytorchvideo_s_windows_begin_with_equal_parts_of_what_a_window_leaves():
    # ConstantClipsPerVideoSampler(2, 5) of pytorchvideo/data/clip_sampling.py for 12 s.
    parts = Sampling(kind="uniform", count=4, windows=5, seconds=2.0, placement="parts")
    assert parts.starts(0.0, 12.0) == [0, 2, 4, 6, 8]
    assert parts.starts(3.0, 15.0) == [3, 5, 7, 9, 11]
    assert parts.starts(0.0, 1.0) == [0] * 5


def test_frames_are_those_of_pytorchvideo_s_sampler_and_subsampling():
    for video, expected, key in golden("zoo"):
        found = [sample(sampling, video, 0, video.n_frames) for sampling in ZOO]
        assert np.concatenate(found).tolist() == expected, key


def test_frames_are_those_of_torchvision_s_clips_at_7_5_frames_a_second():
    for video, expected, key in golden("torchvision"):
        assert sample(TORCHVISION, video, 0, video.n_frames).tolist() == expected, key


def test_windows_of_a_grid_lie_in_their_segment():
    found = sample(TORCHVISION, facts(900, 30), 300, 600)
    whole = sample(TORCHVISION, facts(300, 30), 0, 300)
    assert found.tolist() == (whole + 300).tolist()


def test_a_video_shorter_than_a_window_of_a_grid_repeats_its_last_frame():
    found = sample(TORCHVISION, facts(30, 30), 0, 30).reshape(5, 16)
    assert found[0].tolist() == [0, 4, 8, 12, 16, 20, 24, *[28] * 9]
    assert (found == found[0]).all()


def test_windows_of_a_grid_need_one():
    with pytest.raises(ValueError, match="windows of a grid need kind fps"):
        Sampling(kind="uniform", count=4, windows=2, seconds=1.0, placement="grid")
