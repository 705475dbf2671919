"""Which frames ffmpeg's `fps` filter takes from where `-ss` begins, read by MIL-NCE's own reader.

github.com/antoine77340/MIL-NCE_HowTo100M asks for `-ss START -t SECONDS+0.1` and the filters fps,
crop and scale, and takes the first 32 raw frames, followed by black ones where there are fewer. The
frames of these videos carry their numbers.
"""

from __future__ import annotations

import subprocess
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np

from tests.helpers.videos import frame_numbers, write_video

FPS, COUNT, SECONDS, TAIL, WINDOWS = 10, 32, 3.2, 0.4, 10
# Frames a second, and frames. The last three are shorter than a window.
VIDEOS = [
    (Fraction(24), 200),
    (Fraction(25), 200),
    (Fraction(30000, 1001), 240),
    (Fraction(30), 250),
    (Fraction(50), 400),
    (Fraction(60), 480),
    (Fraction(24000, 1001), 200),
    (Fraction(15), 100),
    (Fraction(5), 40),
    (Fraction(1), 10),
    (Fraction(25), 40),
    (Fraction(30), 77),
    (Fraction(60), 7),
]
# Between two frames, or on one; for the second video.
STARTS = [0.013, 0.02, 0.04, 0.05, 0.21, 0.999, 1.0, 2.345]


def taken(path: Path, start: float) -> np.ndarray:
    """int64 [COUNT]: the numbers of the frames, -1 for a black one."""
    side = "min(iw\\,ih)"
    # One complex graph, as the package ffmpeg-python writes it: a simple one (-vf) treats what
    # comes before the first frame differently.
    filters = (
        f"[0]fps=fps={FPS}[a];[a]crop={side}:{side}:(iw-{side})*0.5:(ih-{side})*0.5[b];"
        "[b]scale=64:64[c]"
    )
    command = ["ffmpeg", "-v", "error", "-ss", str(start), "-t", str(SECONDS + 0.1), "-i", path]
    command += [
        "-filter_complex",
        filters,
        "-map",
        "[c]",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "pipe:",
    ]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    numbers = frame_numbers(np.frombuffer(raw, np.uint8).reshape(-1, 64, 64, 3))[:COUNT]
    if -1 in numbers:
        raise ValueError(f"a frame of {path} does not read")
    return np.array(numbers + [-1] * (COUNT - len(numbers)))


def make() -> dict[str, dict[str, np.ndarray]]:
    spread, chosen = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "video.mp4")
        for rate, frames in VIDEOS:
            write_video(path, frames=frames, fps=rate, b_frames=2)
            end = float(frames / rate)
            starts = np.linspace(0, max(0, end - SECONDS - TAIL), WINDOWS)
            spread.append(np.concatenate([taken(path, start) for start in starts]))
        rate, frames = VIDEOS[1]
        write_video(path, frames=frames, fps=rate, b_frames=2)
        chosen = [taken(path, start) for start in STARTS]
    return {
        "ffmpeg_fps": {
            "rates": np.array([(v[0].numerator, v[0].denominator) for v in VIDEOS]),
            "frames": np.array([frames for _, frames in VIDEOS]),
            "spread": np.array(spread),
            "starts": np.array(STARTS),
            "chosen": np.array(chosen),
        }
    }
