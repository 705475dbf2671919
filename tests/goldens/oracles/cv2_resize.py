"""What OpenCV's resize(INTER_LINEAR) makes: small frames whole, checksums of large ones."""

from __future__ import annotations

import zlib

import cv2
import numpy as np

from tests.goldens import seeded

# Height and width before and after: smaller, larger, one pixel off, exactly half, a line, a point.
SIZES = [
    ((240, 320), (224, 224)),
    ((321, 243), (224, 224)),
    ((227, 299), (224, 224)),
    ((299, 227), (200, 200)),
    ((448, 448), (224, 224)),
    ((225, 225), (224, 224)),
    ((223, 223), (224, 224)),
    ((224, 225), (224, 224)),
    ((1080, 1080), (224, 224)),
    ((720, 1280), (224, 224)),
    ((64, 64), (224, 224)),
    ((17, 13), (224, 224)),
    ((3, 5), (224, 224)),
    ((1, 7), (30, 40)),
    ((1, 1), (9, 9)),
    ((240, 320), (1, 1)),
]
WHOLE = [((50, 41), (24, 31)), ((7, 11), (24, 31)), ((24, 62), (24, 31))]


def picture(size: tuple[int, int]) -> np.ndarray:
    """Noise over a scene: every bit of the arithmetic is used."""
    frame = seeded.clip(1, *size)[0]
    noise = np.random.RandomState(size).randint(0, 256, frame.shape).astype(np.uint8)
    return frame // 4 * 3 + noise // 4


def make() -> dict[str, dict[str, np.ndarray]]:
    def resized(before: tuple[int, int], after: tuple[int, int]) -> np.ndarray:
        return cv2.resize(picture(before), after[::-1], interpolation=cv2.INTER_LINEAR)

    return {
        "cv2_resize": {
            "sizes": np.array(SIZES),
            "checksums": np.array([zlib.crc32(resized(*pair).tobytes()) for pair in SIZES]),
            "whole_sizes": np.array(WHOLE),
            "whole": np.stack([resized(*pair) for pair in WHOLE]),
        }
    }
