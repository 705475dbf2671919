"""H.264 for drawn frames: to a file, or there and back in memory. PyAV is imported on use."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def write_video(target: Path | BinaryIO, pixels: NDArray[np.uint8], fps: int, crf: int) -> None:
    """Encode uint8 RGB [frames, height, width, 3] as H.264 yuv420p in an mp4 file.

    One encoder thread: with more, x264's bytes would depend on the number of cores.
    """
    import av

    file = str(target) if isinstance(target, Path) else target
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = pixels.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        stream.options = {"crf": str(crf), "preset": "veryfast", "threads": "1"}
        for image in pixels:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def through_h264(pixels: NDArray[np.uint8], fps: int, crf: int) -> NDArray[np.uint8]:
    """What a decoder makes of the frames after `write_video`; same shape, nothing on disk."""
    import av

    buffer = io.BytesIO()
    write_video(buffer, pixels, fps, crf)
    buffer.seek(0)
    with av.open(buffer, "r") as container:
        container.streams.video[0].thread_count = 1
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    return np.stack(frames)
