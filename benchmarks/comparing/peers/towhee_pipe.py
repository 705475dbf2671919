"""towhee's CLIP4Clip pipeline: decode, 12 frames, transform, encode.

Its operators come from a hub of their own at run time; here stands what those two do, in functions:
frames in order by PyAV, every one up to the last wanted, one video a call of the model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from towhee import pipe

from benchmarks.comparing.peers import common


def decode(path: str) -> list[np.ndarray]:
    import av

    frames = []
    with av.open(path) as container:
        stream: Any = container.streams.video[0]
        seconds = (container.duration or 0) / 1_000_000
        wanted = common.uniform(round(seconds * stream.average_rate)).tolist()
        for k, frame in enumerate(container.decode(stream)):
            while len(frames) < len(wanted) and wanted[len(frames)] <= k:
                frames.append(frame.to_ndarray(format="rgb24"))
            if len(frames) == len(wanted):
                break
    return frames


class Encode:
    def __init__(self, name: str, weights: str) -> None:
        self.encoder = common.encoder(name, weights)

    def __call__(self, frames: list[np.ndarray]) -> np.ndarray:
        ready = np.stack([common.prepared(frame) for frame in frames])
        vector: np.ndarray = self.encoder.videos(ready[None])[0]
        return vector


def main() -> None:
    options = common.options()
    encoder = Encode(options.encoder, options.weights)

    # towhee copies what it is given, deeply; of a function nothing is copied.
    def encode(frames: list[np.ndarray]) -> np.ndarray:
        return encoder(frames)

    steps = pipe.input("path").map("path", "frames", decode).map("frames", "vector", encode)
    pipeline = steps.output("path", "vector")
    found = [queue.get() for queue in pipeline.batch(options.paths)]
    common.write(options.out, [path for path, _ in found], np.stack([v for _, v in found]))


if __name__ == "__main__":
    main()
