"""Frames that a job has scaled and cropped already go into the network as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vidembed.clips import ClipSpec, Resize, Sampling
from vidembed.encode.base import LoadedEncoder
from vidembed.encode.spec import EncoderSpec
from vidembed.pixels import prepare


class Corner(LoadedEncoder):
    """A video's vector is the colour of its upper left corner."""

    def clip_vectors(self, frames, valid):
        return torch.from_numpy(frames[:, :, 0, 0].astype(np.float32)).mean(dim=1)


@pytest.fixture
def encoder():
    resize = Resize(short_side=16, crop=8, interpolation="bilinear")
    spec = EncoderSpec(
        name="corner",
        dim=3,
        clip=ClipSpec(sampling=Sampling(kind="uniform", count=2), resize=resize),
        metric="L2",
        context_length=0,
        weights="",
        digest="0",
        architecture="corner",
    )
    return Corner(spec, torch.device("cpu"), torch.float32)


def test_a_frame_scaled_to_more_than_its_crop_is_cropped_once(encoder):
    row = np.arange(32, dtype=np.uint8) * 8
    frames = np.broadcast_to(row[:, None, None], (1, 2, 32, 32, 3)).copy()
    prepared = prepare(frames[0], encoder.spec.clip.resize)[None]
    found = encoder.encode_video(frames)
    assert np.array_equal(found, encoder.encode_video(prepared))
    assert np.array_equal(found[0], prepared[0, 0, 0, 0])
