"""Daft: its own function for frames, then a class that encodes batches."""

from __future__ import annotations

from typing import Any

import daft
import numpy as np
from daft import DataType, col
from daft.functions import video_file, video_frames

from benchmarks.comparing.peers import common


@daft.cls(max_concurrency=1)
class Encode:
    def __init__(self, name: str, weights: str) -> None:
        self.encoder = common.encoder(name, weights)

    @daft.method.batch(
        return_dtype=DataType.fixed_size_list(DataType.float32(), common.DIM),
        batch_size=common.BATCH,
    )
    def vectors(self, videos: daft.Series) -> Any:
        frames = [[np.asarray(each["data"]) for each in video] for video in videos.to_pylist()]
        counts = [len(each) for each in frames]
        flat = self.encoder.frames(np.stack([f for each in frames for f in each]))
        edges = np.cumsum(counts)[:-1]
        return [each.mean(axis=0) for each in np.split(flat, edges)]


def main() -> None:
    options = common.options()
    encode = Encode(options.encoder, options.weights)
    side = common.SIDE
    frames = video_frames(
        video_file(col("id")), width=side, height=side, sample_interval_seconds=options.interval
    )
    table = daft.from_pydict({"id": options.paths}).with_column("frames", frames)
    table = table.select("id", encode.vectors(col("frames")).alias("embedding"))
    table.write_parquet(str(options.out))


if __name__ == "__main__":
    main()
