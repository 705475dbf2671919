"""Clips of several windows, black frames, and pixels in float32, from sampling to the hand-over."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from tests.helpers.videos import flip_bytes, frame_number, frame_numbers, write_video
from tests.test_sampling import facts, indices
from vidembed import schema
from vidembed.clips import ClipSpec, Resize, Sampling
from vidembed.decode.sampling import BLACK
from vidembed.decode.stage import Decode, DecodeSettings
from vidembed.pipeline.portioning import batch_rows

METADATA = pa.schema([])
SMALL = Resize(short_side=64, crop=64)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("windows") / "video.mp4", frames=100, fps=25)


@pytest.fixture
def decode():
    made = []

    def run(path, **specs) -> pa.Table:
        stage = Decode(DecodeSettings(specs=specs, metadata=METADATA))
        made.append(stage)
        row = {"video_id": "v", "uri": str(path), "start_s": None, "end_s": None}
        (table,) = stage(pa.Table.from_pylist([row], schema=schema.MANIFEST))
        return table

    yield run
    for stage in made:
        stage.close()


def clip(resize=SMALL, **sampling) -> ClipSpec:
    return ClipSpec(sampling=Sampling(**sampling), resize=resize)


def pixels(table: pa.Table, label: str) -> np.ndarray:
    return table[schema.own("pixels", label)].combine_chunks().to_numpy_ndarray()[0]


# Which frames


def test_windows_are_spread_from_the_start_to_the_end():
    ten = Sampling(kind="uniform", count=4, windows=3, seconds=2.0)
    assert ten.starts(0.0, 10.0) == [0.0, 4.0, 8.0]
    assert replace(ten, tail=0.5).starts(1.0, 11.0) == [1.0, 4.75, 8.5]


def test_a_single_window_lies_in_the_middle():
    assert Sampling(kind="uniform", count=4, seconds=2.0).starts(0.0, 10.0) == [4.0]


def test_windows_of_a_video_that_is_shorter_than_one_all_begin_at_its_start():
    short = Sampling(kind="uniform", count=4, windows=3, seconds=2.0)
    assert short.starts(0.0, 1.0) == [0.0, 0.0, 0.0]


def test_each_window_is_sampled_by_itself():
    found = indices(facts(100), kind="uniform", count=3, windows=3, seconds=1.0)
    assert found == [0, 12, 24, 38, 50, 62, 75, 87, 99]


def test_windows_of_a_segment_stay_within_it():
    found = indices(facts(100), 50, 100, kind="uniform", count=3, windows=2, seconds=1.0)
    assert found == [50, 62, 74, 75, 87, 99]


def test_a_window_between_two_frames_has_the_one_that_is_showing():
    slow = facts(4, fps=0.5)
    found = indices(slow, kind="uniform", count=2, windows=3, seconds=0.5)
    assert len(found) == 6
    assert set(found) <= {0, 1, 2, 3}


def test_missing_frames_are_black_where_the_encoder_wants_that():
    found = indices(facts(10), kind="ffmpeg_fps", count=8, fps=10.0, pad="black")
    assert found[:4] == sorted(set(found[:4]))
    assert found[-3:] == [BLACK] * 3


def test_nearest_leaves_the_last_frames_out():
    assert indices(facts(100), kind="nearest", count=4) == [0, 25, 50, 75]
    assert indices(facts(3), kind="nearest", count=4) == [0, 0, 1, 2]


@pytest.mark.parametrize("wrong", [{"windows": 2}, {"windows": 2, "seconds": 1.0, "pad": "mask"}])
def test_windows_without_a_length_or_with_a_mask_are_refused(wrong):
    with pytest.raises(ValueError, match="several windows"):
        Sampling(kind="uniform", count=4, **wrong)


# What is told of them


def test_what_an_encoder_of_the_first_release_wants_is_described_as_it_was_then():
    described = clip(kind="uniform", count=4).describe()
    assert described["sampling"] == {"kind": "uniform", "count": 4, "fps": 1.0, "pad": "repeat"}
    assert described["resize"] == {"short_side": 64, "crop": 64, "interpolation": "bicubic"}


@pytest.mark.parametrize(
    "spec",
    [
        clip(kind="uniform", count=4),
        clip(kind="uniform", count=4, windows=3, seconds=2.0, tail=0.5),
        clip(Resize(short_side=9, crop=9, fit="square", offset="floor"), kind="nearest", count=2),
    ],
)
def test_a_description_is_read_back(spec):
    assert ClipSpec.parse(spec.describe()) == spec


def test_a_batch_has_no_more_clips_than_fit_into_its_bytes():
    wide = Resize(short_side=224, crop=224)
    views = clip(wide, kind="uniform", count=32, windows=10, seconds=3.2)
    assert views.nbytes == 320 * 224 * 224 * 3
    assert batch_rows(16, [views]) == 5
    assert batch_rows(16, [clip(kind="uniform", count=12)]) == 16
    huge = clip(wide, kind="uniform", count=4096)
    assert batch_rows(16, [huge]) == 1
    float32 = replace(wide, interpolation="torch_bilinear")
    assert clip(float32, kind="uniform", count=1).nbytes == 4 * 224 * 224 * 3


# What the stage hands over


def test_the_frames_of_all_windows_come_one_after_the_other(video, decode):
    spec = clip(kind="uniform", count=3, windows=3, seconds=1.0)
    table = decode(video, a=spec)
    assert pixels(table, "a").shape == (9, 64, 64, 3)
    assert frame_numbers(pixels(table, "a")) == [0, 12, 24, 38, 50, 62, 75, 87, 99]
    assert table[schema.own("frames", "a")].to_pylist() == [9]


def test_windows_that_overlap_count_each_frame_once(video, decode):
    table = decode(video, a=clip(kind="uniform", count=4, windows=4, seconds=4.0))
    assert frame_numbers(pixels(table, "a")) == [0, 33, 66, 99] * 4
    assert table[schema.own("frames", "a")].to_pylist() == [4]
    assert table[schema.own("valid_frames", "a")].to_pylist() == [16]


def test_black_frames_are_black_and_do_not_count(tmp_path, decode):
    short = write_video(tmp_path / "short.mp4", frames=10, fps=25)
    table = decode(short, a=clip(kind="ffmpeg_fps", count=8, fps=10.0, pad="black"))
    found = pixels(table, "a")
    frames = table[schema.own("frames", "a")][0].as_py()
    assert 4 <= frames <= 5
    assert not found[frames:].any()
    assert all(frame_number(frame) >= 0 for frame in found[:frames])


def test_masked_clips_whose_frames_were_mended_keep_all_that_are_no_padding(tmp_path):
    path = flip_bytes(write_video(tmp_path / "hurt.mp4", frames=48, fps=24), 0.3, 200)
    spec = clip(kind="clip4clip", count=12, fps=2.0, pad="mask")
    stage = Decode(DecodeSettings(specs={"a": spec}, metadata=METADATA, min_frames=0.5))
    row = {"video_id": "v", "uri": str(path), "start_s": None, "end_s": None}
    (table,) = stage(pa.Table.from_pylist([row], schema=schema.MANIFEST))
    stage.close()
    frames, valid = table[schema.own("frames", "a")][0], table[schema.own("valid_frames", "a")][0]
    assert (frames.as_py(), valid.as_py()) == (3, 4)


def test_pixels_cross_in_float32_where_the_reference_scales_in_float32(video, decode):
    exact = Resize(short_side=50, crop=48, interpolation="torch_bilinear")
    rounded = replace(exact, interpolation="torch_bilinear_uint8")
    table = decode(
        video,
        a=clip(exact, kind="uniform", count=3),
        b=clip(kind="uniform", count=3),
        c=clip(rounded, kind="uniform", count=3),
    )
    found = pixels(table, "a")
    assert (found.dtype, found.shape) == (np.float32, (3, 48, 48, 3))
    assert np.abs(found - np.rint(found)).max() > 0.1
    # Where half way is met but for float32's last place, rounding may fall to the other side.
    np.testing.assert_allclose(found, pixels(table, "c"), atol=0.5 + 1e-4)
    assert pixels(table, "b").dtype == np.uint8
    assert frame_numbers(np.rint(found).astype(np.uint8)) == [0, 49, 99]


@pytest.mark.parametrize(("fit", "size"), [("squash", (160, 120)), ("square", (120, 120))])
def test_other_ways_to_fit_a_frame_are_pillow_s_arithmetic(fit, size, video, decode):
    whole = decode(video, a=clip(Resize(short_side=120, crop=120), kind="uniform", count=1))
    from vidembed.decode.video import read_frames

    frame = read_frames(str(video), count=1)[0][0]
    left = (160 - size[0]) // 2
    image = Image.fromarray(frame[:, left : left + size[0]])
    expected = np.asarray(image.resize((64, 64), Image.Resampling.LANCZOS))
    resize = Resize(short_side=64, crop=64, fit=fit, interpolation="lanczos")
    found = decode(video, a=clip(resize, kind="uniform", count=1))
    np.testing.assert_array_equal(pixels(found, "a")[0], expected)
    assert pixels(whole, "a").shape == (1, 120, 120, 3)
