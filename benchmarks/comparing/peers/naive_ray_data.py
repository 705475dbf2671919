"""Ray Data as its documentation shows batch inference: map, an actor for the model, write."""

from __future__ import annotations

from typing import Any

import ray
from ray.data import ActorPoolStrategy

from benchmarks.comparing.peers import common


def decode(row: dict[str, Any]) -> dict[str, Any]:
    return {"id": row["item"], "frames": common.read_video(row["item"])}


class Encode:
    def __init__(self, name: str, weights: str) -> None:
        self.encoder = common.encoder(name, weights)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"id": batch["id"], "embedding": self.encoder.videos(batch["frames"])}


def main() -> None:
    options = common.options()
    ray.init(address="local")
    videos = ray.data.from_items(options.paths).map(decode)
    vectors = videos.map_batches(
        Encode,
        batch_size=common.BATCH,
        compute=ActorPoolStrategy(size=1),
        fn_constructor_args=(options.encoder, options.weights),
    )
    vectors.write_parquet(str(options.out))


if __name__ == "__main__":
    main()
