"""clip-video-encode: its one function, with the shared CLIP in place of a download."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.comparing.peers import common

common.mend_torchvision()

import open_clip  # noqa: E402
import torch  # noqa: E402
from clip_video_encode import clip_video_encode  # noqa: E402


class Model:
    """What it calls of an open_clip model."""

    def __init__(self, encoder: common.Null | common.Clip) -> None:
        self.encoder = encoder

    def encode_image(self, pixels: Any) -> Any:
        if isinstance(self.encoder, common.Null):
            return torch.from_numpy(np.zeros((len(pixels), common.DIM), np.float32))
        return torch.from_numpy(self.encoder.pixels(pixels))


def main() -> None:
    options = common.options()
    model = Model(common.encoder(options.encoder, options.weights))
    open_clip.create_model_and_transforms = lambda *_, **__: (model, None, None)
    clip_video_encode(
        options.paths, str(options.out), take_every_nth=options.every, use_dst_name=False
    )


if __name__ == "__main__":
    main()
