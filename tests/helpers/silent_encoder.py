"""An encoder of videos only, of one's own: `tests.helpers.silent_encoder:Silent`."""

from __future__ import annotations

from dataclasses import replace

from vidembed.encode import registry


class Silent:
    """The tiny encoder without its text tower."""

    @classmethod
    def describe(cls, weights, preset):
        return replace(registry.describe("clip4clip-tiny"), context_length=0)

    def __init__(self, spec, device, dtype):
        self._inner = registry.load(registry.describe("clip4clip-tiny"), "cpu", "float32")
        self.spec = spec

    def encode_video(self, frames, valid=None):
        return self._inner.encode_video(frames, valid)

    def encode_text(self, texts):
        raise ValueError("it has no text tower")
