"""Frames by their numbers, as the tests of decoders ask for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidembed.decode.video import damaged, open_video

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np


def read_indices(
    path: str, wanted: np.ndarray, decoder: str = "auto", *, lone: bool = False
) -> Iterator[tuple[int, np.ndarray]]:
    """(index, upright RGB frame) for ascending distinct indices; a damaged one is a ClipError."""
    with open_video(path, lone=lone) as video:
        for index, frame in video.read(wanted, decoder):
            if frame is None:
                raise damaged(path, [index], len(wanted))
            yield index, frame
