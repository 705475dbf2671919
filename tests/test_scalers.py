"""Resizes of other libraries, against frames that those libraries made."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

from tests.goldens import seeded
from vidembed.clips import Resize
from vidembed.pixels import crop_offset, prepare
from vidembed.scaling import scaled

GOLDEN = np.load(Path(__file__).parent / "goldens" / "cv2_resize.npz")


def picture(height: int, width: int) -> np.ndarray:
    """As tests.goldens.oracles.cv2_resize draws it."""
    frame = seeded.clip(1, height, width)[0]
    noise = np.random.RandomState((height, width)).randint(0, 256, frame.shape).astype(np.uint8)
    return frame // 4 * 3 + noise // 4


@pytest.mark.parametrize("case", range(len(GOLDEN["sizes"])))
def test_opencv_s_bilinear_resize_is_the_same_to_the_last_bit(case):
    before, after = GOLDEN["sizes"][case].tolist()
    found = scaled(picture(*before), *after, "cv2_bilinear")
    assert found.dtype == np.uint8
    assert found.shape == (*after, 3)
    assert zlib.crc32(found.tobytes()) == GOLDEN["checksums"][case]


@pytest.mark.parametrize("case", range(len(GOLDEN["whole_sizes"])))
def test_opencv_s_bilinear_resize_pixel_for_pixel(case):
    before, after = GOLDEN["whole_sizes"][case].tolist()
    found = scaled(picture(*before), *after, "cv2_bilinear")
    np.testing.assert_array_equal(found, GOLDEN["whole"][case])


def test_a_frame_of_the_right_size_is_left_as_it_is():
    frame = picture(24, 31)
    np.testing.assert_array_equal(scaled(frame, 24, 31, "cv2_bilinear"), frame)


@pytest.mark.parametrize("size", [(321, 243), (243, 321), (227, 300)])
def test_the_largest_square_is_cut_from_the_centre_and_then_scaled(size):
    frame = picture(*size)
    side = min(size)
    top, left = ((n - side) // 2 for n in size)
    square = frame[top : top + side, left : left + side]
    resize = Resize(
        short_side=64, crop=64, interpolation="cv2_bilinear", fit="square", offset="floor"
    )
    expected = scaled(np.ascontiguousarray(square), 64, 64, "cv2_bilinear")
    np.testing.assert_array_equal(prepare(frame[None], resize)[0], expected)


@pytest.mark.parametrize(
    ("length", "crop", "even", "halves"),
    # An odd margin of an even length: half the length less half the crop is the larger half.
    [(320, 240, 40, 40), (854, 480, 186, 187), (320, 243, 38, 39), (321, 242, 38, 39)],
)
def test_a_crop_begins_where_ffmpeg_and_where_tensorflow_hub_s_example_begin(
    length, crop, even, halves
):
    assert crop_offset(length, crop, "even") == even
    assert crop_offset(length, crop, "halves") == halves
