"""An encoder that costs nothing but its pace: `tests.helpers.slow_means:SlowMeans`."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import numpy as np

from vidembed.encode import registry

# Ray Data takes ten seconds without output for a stand-still, and hands over more than fits.
_PATIENCE_S = 3.0


class SlowMeans:
    """Means of 4 by 4 fields of each video's frames, at the size of the clip folder's encoder.

    It takes DRILL_LOAD_S seconds to load and DRILL_ENCODE_S for each vector; what it does is noted
    in DRILL_WORK_LOG, with its process. Until the file DRILL_GO is there it waits with each batch,
    for no longer than _PATIENCE_S.
    """

    @classmethod
    def describe(cls, weights, preset):
        return replace(registry.describe("clip4clip", weights, preset), context_length=0)

    def __init__(self, spec, device, dtype):
        time.sleep(float(os.environ.get("DRILL_LOAD_S", "0")))
        self.spec = spec

    def encode_video(self, frames, valid=None):
        if log := os.environ.get("DRILL_WORK_LOG"):
            with open(log, "a") as file:
                file.write(f"encode {os.getpid()} {len(frames)}\n")
        self._wait()
        time.sleep(float(os.environ.get("DRILL_ENCODE_S", "0")) * len(frames))
        edge = self.spec.clip.tensor[0][1] // 4
        # Every 8th pixel: means of all would be the encoder's cost.
        fields = frames[:, :, ::8, ::8].mean(axis=1, dtype=np.float32)
        small = fields.reshape(len(frames), 4, edge // 8, 4, edge // 8, 3).mean(axis=(2, 4))
        vectors = np.zeros((len(frames), self.spec.dim), np.float32)
        vectors[:, :48] = small.reshape(len(frames), 48) + 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def _wait(self):
        go, deadline = os.environ.get("DRILL_GO"), time.monotonic() + _PATIENCE_S
        while go and not os.path.exists(go) and time.monotonic() < deadline:
            time.sleep(0.05)

    def encode_text(self, texts):
        raise ValueError("it has no text tower")
