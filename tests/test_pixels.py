"""The reference resize and crop: sizes, offsets, and the very pixels that Pillow makes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.goldens import seeded
from vidembed.clips import Resize
from vidembed.pixels import crop_offset, prepare, resized_size

CLIP = Resize(short_side=224, crop=224)


def picture(height: int, width: int, count: int = 1) -> np.ndarray:
    draw = np.random.default_rng(height * width)
    return draw.integers(0, 256, (count, height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((240, 320), (224, 298)),
        ((320, 240), (298, 224)),
        ((224, 224), (224, 224)),
        ((243, 321), (224, 295)),
        ((1080, 1920), (224, 398)),
        ((1, 1000), (224, 224_000)),
    ],
)
def test_the_short_side_is_given_and_the_long_side_is_truncated(size, resized):
    assert resized_size(*size, 224) == resized


@pytest.mark.parametrize(
    ("length", "offset"),
    # Half a pixel goes to the even side: 3/2 to 2, 75/2 to 38, 5/2 to 2.
    [(224, 0), (225, 0), (226, 1), (227, 2), (229, 2), (298, 37), (299, 38)],
)
def test_a_crop_s_offset_is_rounded_half_to_even(length, offset):
    assert crop_offset(length, 224) == offset


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos"])
@pytest.mark.parametrize(
    ("size", "box"),
    [
        # left, upper, right, lower of the crop in the resized picture
        ((240, 320), (37, 0, 261, 224)),
        ((320, 240), (0, 37, 224, 261)),
        ((243, 321), (36, 0, 260, 224)),
        ((224, 227), (2, 0, 226, 224)),
        ((1080, 1920), (87, 0, 311, 224)),
        ((113, 640), (522, 0, 746, 224)),
        ((299, 224), (0, 38, 224, 262)),
        ((100, 60), (0, 74, 224, 298)),
    ],
)
def test_pixels_are_those_of_pillow(size, box, interpolation):
    frames = picture(*size, count=2)
    resize = Resize(short_side=224, crop=224, interpolation=interpolation)
    height, width = resized_size(*size, 224)
    kind = Image.Resampling[interpolation.upper()]
    expected = [Image.fromarray(f).resize((width, height), kind).crop(box) for f in frames]
    np.testing.assert_array_equal(prepare(frames, resize), np.stack(expected))


def test_a_picture_of_the_right_size_is_left_as_it_is():
    frames = picture(224, 224, 3)
    np.testing.assert_array_equal(prepare(frames, CLIP), frames)


def test_a_crop_may_be_smaller_than_the_short_side():
    frames = picture(256, 300)
    out = prepare(frames, Resize(short_side=256, crop=224))
    np.testing.assert_array_equal(out, frames[:, 16:240, 38:262])


def test_turned_and_strided_frames_are_read_right():
    frames = picture(64, 48)
    turned = np.rot90(frames, axes=(1, 2))
    np.testing.assert_array_equal(
        prepare(turned, CLIP), prepare(np.ascontiguousarray(turned), CLIP)
    )


def test_no_frames_are_no_frames():
    assert prepare(picture(48, 64, 0), CLIP).shape == (0, 224, 224, 3)


@pytest.mark.parametrize(
    ("frames", "got"),
    [
        (np.zeros((1, 8, 8, 3), np.float32), r"float32 \(1, 8, 8, 3\)"),
        (np.zeros((8, 8, 3), np.uint8), r"uint8 \(8, 8, 3\)"),
        (np.zeros((1, 8, 8, 4), np.uint8), r"uint8 \(1, 8, 8, 4\)"),
    ],
)
def test_frames_of_another_kind_are_refused_with_what_came(frames, got):
    with pytest.raises(
        ValueError, match=r"expected uint8 frames \[n, height, width, 3\], got " + got
    ):
        prepare(frames, CLIP)


def test_a_crop_that_does_not_fit_is_refused_with_both_sizes():
    with pytest.raises(ValueError, match="a crop of 224 does not fit into 128x170"):
        prepare(picture(48, 64), Resize(short_side=128, crop=224))


# torch's bilinear scaling, whose result some encoders do not round

TORCH_SIZES = [
    # height, width, short side, crop
    (243, 321, 256, 224),
    (299, 227, 256, 224),
    (227, 299, 224, 224),
    (240, 320, 256, 256),
    (854, 480, 224, 224),
    (540, 960, 256, 224),
    (256, 344, 256, 224),
    (64, 49, 182, 182),
    (333, 300, 356, 356),
]


@pytest.fixture
def one_thread():
    """Of torch: several share a picture between them, and round the seams in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def scaled_by_torch(pixels: torch.Tensor, size: tuple[int, int, int]) -> torch.Tensor:
    """[..., height, width], scaled as a whole and cropped as torchvision crops."""
    height, width, short, crop = size
    other = math.floor(max(height, width) / min(height, width) * short)
    height, width = (short, other) if height <= width else (other, short)
    found = torch.nn.functional.interpolate(
        pixels, size=(height, width), mode="bilinear", align_corners=False
    )
    top, left = round((height - crop) / 2), round((width - crop) / 2)
    return found[..., top : top + crop, left : left + crop]


def footage(height: int, width: int) -> np.ndarray:
    """Smooth and noisy frames: rounding is at its worst where neighbours are close."""
    smooth = seeded.clip(2, height, width, seed=height)
    return np.concatenate([smooth, picture(height, width, 1), picture(height, width, 1) % 3])


@pytest.mark.parametrize("size", TORCH_SIZES)
def test_float_pixels_are_torch_s_whichever_is_first_scaling_or_normalising(size):
    # pytorchvideo's order: to [0, 1], normalise, scale, crop. Ours: scale, crop, normalise.
    height, width, short, crop = size
    frames = footage(height, width)
    pixels = torch.from_numpy(frames).permute(3, 0, 1, 2).float() / 255
    expected = scaled_by_torch((pixels - 0.45) / 0.225, size).permute(1, 2, 3, 0).numpy()
    found = prepare(frames, Resize(short_side=short, crop=crop, interpolation="torch_bilinear"))
    assert found.dtype == np.float32
    normalised = (found / np.float32(255) - np.float32(0.45)) / np.float32(0.225)
    np.testing.assert_allclose(normalised * 0.225, expected * 0.225, atol=1e-6, rtol=0)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("size", TORCH_SIZES)
@pytest.mark.usefixtures("one_thread")
def test_rounded_pixels_are_torchvision_s_pixel_for_pixel(size, channels_last):
    height, width, short, crop = size
    frames = footage(height, width)
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
    if not channels_last:
        pixels = pixels.contiguous()
    expected = torch.round(scaled_by_torch(pixels.float(), size)).to(torch.uint8)
    resize = Resize(short_side=short, crop=crop, interpolation="torch_bilinear_uint8")
    np.testing.assert_array_equal(prepare(frames, resize), expected.permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize("interpolation", ["torch_bilinear", "torch_bilinear_uint8"])
def test_torch_s_scaling_squashes_too(interpolation):
    frames = footage(120, 201)
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    expected = torch.nn.functional.interpolate(pixels, size=(96, 96), mode="bilinear")
    if interpolation == "torch_bilinear_uint8":
        expected = torch.round(expected)
    resize = Resize(short_side=96, crop=96, interpolation=interpolation, fit="squash")
    found = prepare(frames, resize)
    np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1).numpy(), atol=1e-4)


def test_torch_s_scaling_reads_turned_frames_right():
    frames = picture(64, 48)
    resize = Resize(short_side=80, crop=72, interpolation="torch_bilinear_uint8")
    turned = np.rot90(frames, axes=(1, 2))
    np.testing.assert_array_equal(
        prepare(turned, resize), prepare(np.ascontiguousarray(turned), resize)
    )


def test_a_frame_of_the_right_size_is_not_scaled_by_torch_s_rule_either():
    frames = picture(256, 300)
    for interpolation in ("torch_bilinear", "torch_bilinear_uint8"):
        out = prepare(frames, Resize(short_side=256, crop=224, interpolation=interpolation))
        np.testing.assert_array_equal(out, frames[:, 16:240, 38:262])


def test_the_long_side_is_pytorchvideo_s_where_dividing_first_makes_it_a_pixel_less():
    golden = np.load(Path(__file__).parent / "goldens" / "mvit_scaling.npz")
    differ = 0
    for (height, width, short), expected in zip(golden["sizes"], golden["scaled"], strict=True):
        size = int(height), int(width), int(short)
        assert resized_size(*size, "torch_bilinear") == tuple(expected)
        differ += resized_size(*size, "torch_bilinear_uint8") != tuple(expected)
    assert differ > 3
