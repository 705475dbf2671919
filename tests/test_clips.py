"""How videos are cut into segments, and how their rows are named."""

from __future__ import annotations

import itertools

import pytest

from vidembed.clips import ClipSpec, Resize, Sampling, Segmentation, segment_id


def drawn(picture: str) -> list[tuple[int, int]]:
    """`|--|-|` as [(0, 3), (3, 5)]: a bar begins or ends a segment, a character is a second."""
    bars = [i for i, character in enumerate(picture) if character == "|"]
    return list(itertools.pairwise(bars))


@pytest.mark.parametrize(
    ("length", "picture"),
    [
        # Less than half a segment left: the last takes it. Half or more: a segment of its own.
        (15, "|----|----|----|"),
        (16, "|----|----|-----|"),
        (17, "|----|----|------|"),
        (18, "|----|----|----|--|"),
        (19, "|----|----|----|---|"),
        (3, "|--|"),
        (5, "|----|"),
        (1, "||"),
    ],
)
def test_what_is_left_at_the_end_is_taken_along(length, picture):
    """Segments of 5 s; the pictures are the docstring's."""
    assert Segmentation(seconds=5).windows(0, length) == drawn(picture)


def test_half_a_segment_left_is_a_segment_of_its_own():
    windows = Segmentation(seconds=4).windows(0, 10)
    assert windows == [(0, 4), (4, 8), (8, 10)]


def test_segments_begin_at_the_window_s_start():
    assert Segmentation(seconds=2).windows(1.5, 5.5) == [(1.5, 3.5), (3.5, 5.5)]


def test_a_smaller_stride_overlaps_and_leaves_nothing_out():
    windows = Segmentation(seconds=4, stride=2).windows(0, 10)
    assert windows == [(0, 4), (2, 6), (4, 8), (6, 10), (8, 10)]


def test_a_larger_stride_leaves_gaps_on_purpose():
    windows = Segmentation(seconds=2, stride=5).windows(0, 12)
    assert windows == [(0, 2), (5, 7), (10, 12)]
    assert Segmentation(seconds=2, stride=5).windows(0, 10.5) == [(0, 2), (5, 7)]


def test_a_video_shorter_than_a_segment_is_one_segment():
    assert Segmentation(seconds=10).windows(0, 0.4) == [(0, 0.4)]


def test_without_segments_a_video_is_one_window():
    assert Segmentation().windows(2, 7) == [(2, 7)]


@pytest.mark.parametrize("seconds", [0.1, 0.3, 1 / 3, 2.7, 10])
@pytest.mark.parametrize("end", [0.05, 1.0, 9.999, 61.0])
def test_segments_are_in_order_end_to_end_and_nearly_equal(seconds, end):
    windows = Segmentation(seconds=seconds).windows(0, end)
    assert windows[0][0] == 0
    assert windows[-1][1] == end
    for (_, stop), (start, _) in itertools.pairwise(windows):
        assert start == pytest.approx(stop)
    for start, stop in windows[:-1]:
        assert stop - start == pytest.approx(seconds)
    assert len(windows) == 1 or windows[-1][1] - windows[-1][0] <= 1.5 * seconds + 1e-9


def test_a_row_s_id_is_the_video_s_or_its_segment_s():
    assert segment_id("a/b.mp4", 0, Segmentation()) == "a/b.mp4"
    assert segment_id("a/b.mp4", 3, Segmentation(seconds=4)) == "a/b.mp4#3"
    assert segment_id("a/b.mp4", 0, Segmentation(seconds=4)) == "a/b.mp4#0"


def test_a_spec_is_described_as_plain_values_and_read_back():
    spec = ClipSpec(
        sampling=Sampling(kind="clip4clip", count=12, fps=2.0, pad="mask"),
        resize=Resize(short_side=256, crop=224, interpolation="bilinear"),
    )
    assert spec.shape == (12, 224, 224, 3)
    assert ClipSpec.parse(spec.describe()) == spec


def test_a_sampling_whose_choice_of_frames_has_changed_is_another_one_than_before():
    described = {}
    for kind in ("uniform", "fast", "keyframes"):
        spec = ClipSpec(
            sampling=Sampling(kind=kind, count=12), resize=Resize(short_side=224, crop=224)
        )
        described[kind] = spec.describe()["sampling"]
        assert ClipSpec.parse(spec.describe()) == spec
        before = {**spec.describe(), "sampling": {**described[kind]}}
        before["sampling"].pop("rule", None)
        assert ClipSpec.parse(before).describe() == before
    assert "rule" not in described["uniform"]
    assert described["fast"]["rule"] == described["keyframes"]["rule"] == 2


def test_a_clip_without_frames_or_rate_is_refused():
    with pytest.raises(ValueError, match="got count=0"):
        Sampling(kind="uniform", count=0)
    with pytest.raises(ValueError, match=r"fps must be above 0, got -1\.0"):
        Sampling(kind="fps", count=1, fps=-1.0)
