"""CLIP4Clip at a pace: an encoder of one's own, `tests.helpers.slow_encoder:SlowClip4Clip`."""

from __future__ import annotations

import os
import time

from vidembed.encode import registry


class SlowClip4Clip:
    """CLIP4Clip on a CPU, wherever it is: it takes DRILL_LOAD_S seconds to load and DRILL_ENCODE_S
    for each vector, so that they come one by one.
    """

    @classmethod
    def describe(cls, weights, preset):
        return registry.describe("clip4clip", weights, preset)

    def __init__(self, spec, device, dtype):
        time.sleep(float(os.environ.get("DRILL_LOAD_S", "0")))
        plain = registry.describe("clip4clip", spec.weights, None)
        self._inner = registry.load(plain, "cpu", "float32")
        self.spec = spec

    def encode_video(self, frames, valid=None):
        if log := os.environ.get("DRILL_WORK_LOG"):
            with open(log, "a") as file:
                file.write(f"encode {os.getpid()} {len(frames)}\n")
        time.sleep(float(os.environ.get("DRILL_ENCODE_S", "0")) * len(frames))
        return self._inner.encode_video(frames, valid)

    def encode_text(self, texts):
        return self._inner.encode_text(texts)
