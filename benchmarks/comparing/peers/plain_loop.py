"""No framework: a data set, a DataLoader, a loop, in one process."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from benchmarks.comparing.peers import common


class Videos(Dataset[Any]):
    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, k: int) -> tuple[str, np.ndarray]:
        return self.paths[k], common.read_video(self.paths[k])


def main() -> None:
    options = common.options()
    encoder = common.encoder(options.encoder, options.weights)
    ids: list[str] = []
    vectors = []
    for paths, videos in DataLoader(Videos(options.paths), batch_size=common.BATCH):
        ids += paths
        vectors.append(encoder.videos(videos.numpy()))
    common.write(options.out, ids, np.concatenate(vectors))


if __name__ == "__main__":
    main()
