"""No framework: each file is decoded and encoded in turn, in one process."""

from __future__ import annotations

import sys
from pathlib import Path

import decord
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from vidembed.encode import registry


def read(path: str, count: int, side: int) -> np.ndarray:
    """`count` frames, evenly spaced: uint8 [count, side, side, 3]."""
    reader = decord.VideoReader(path, num_threads=1)
    wanted = np.linspace(0, len(reader) - 1, count).astype(int)
    frames = reader.get_batch(wanted).asnumpy()
    size = (side, side)
    return np.stack([np.asarray(Image.fromarray(frame).resize(size)) for frame in frames])


def main() -> None:
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    encoder = registry.load_encoder("clip4clip-tiny")
    count, side, *_ = encoder.spec.clip.shape
    paths = source.read_text().split()
    vectors = [encoder.encode_video(read(path, count, side)[None])[0] for path in paths]
    out.mkdir(parents=True)
    pq.write_table(pa.table({"id": paths, "embedding": list(vectors)}), out / "part.parquet")


if __name__ == "__main__":
    main()
