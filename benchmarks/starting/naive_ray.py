"""Ray Data as its documentation shows batch inference: map, an actor for the model, write."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ray
from ray.data import ActorPoolStrategy

from benchmarks.starting.plain_loop import read
from vidembed.encode import registry

COUNT, SIDE = 8, 64


def decode(row: dict[str, Any]) -> dict[str, Any]:
    return {"id": row["item"], "frames": read(row["item"], COUNT, SIDE)}


class Encode:
    def __init__(self) -> None:
        self.encoder = registry.load_encoder("clip4clip-tiny")

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"id": batch["id"], "embedding": self.encoder.encode_video(batch["frames"])}


def main() -> None:
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    ray.init(address="local")
    videos = ray.data.from_items(source.read_text().split()).map(decode)
    vectors = videos.map_batches(Encode, batch_size=16, compute=ActorPoolStrategy(size=1))
    vectors.write_parquet(str(out))


if __name__ == "__main__":
    main()
