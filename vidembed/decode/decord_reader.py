"""Frames through decord, for the files for which it is proven right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import decord
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from vidembed.decode.facts import VideoFacts

_BATCH = 16


class DecordDisagreesError(Exception):
    """decord cannot read this file, or sees other frames in it than its packets say."""


def read(
    path: str, facts: VideoFacts, wanted: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield (index, upright RGB uint8 [height, width, 3]) for the ascending distinct `wanted`.

    Raises DecordDisagreesError before the first frame where number or times of its frames differ
    from the container's packets: edit lists, several video streams and some AVI files are read
    wrongly without any error otherwise.
    """
    # At this level it says where it conceals damage, which it does at the usual level in silence.
    decord.logging.set_level(decord.logging.INFO)
    try:
        # num_threads=1: the pool scales by processes; 0 means "all" and fails on some VP9 files.
        reader = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)
        _check(reader, facts, wanted)
        for begin in range(0, len(wanted), _BATCH):
            indices = wanted[begin : begin + _BATCH].tolist()
            frames = reader.get_batch(indices).asnumpy()
            yield from zip(indices, frames, strict=True)
    except (decord.DECORDError, RuntimeError, IndexError) as error:
        raise DecordDisagreesError(str(error)) from error
    finally:
        decord.logging.set_level(decord.logging.ERROR)


# In MPEG-TS a seek leads it anywhere, in AVI it takes the order of decoding for that of showing.
_CONTAINERS = frozenset({"mov", "matroska"})


def _check(reader: decord.VideoReader, facts: VideoFacts, wanted: NDArray[np.int64]) -> None:
    if facts.container not in _CONTAINERS:
        raise DecordDisagreesError(f"{facts.container}: it may misplace frames there")
    if facts.open_gop:
        # It seeks to the keyframe and then counts frames, of which the decoder drops the first.
        raise DecordDisagreesError("an open GOP, after whose keyframes it miscounts")
    if len(reader) != facts.n_frames:
        raise DecordDisagreesError(f"{len(reader)} frames where the packets say {facts.n_frames}")
    times = reader.get_frame_timestamp(wanted)[:, 0] - reader.get_frame_timestamp(0)[0]
    if np.abs(times - facts.times[wanted]).max() > 0.5 / facts.fps:
        raise DecordDisagreesError("its frame times differ from the packets'")
