"""Frames by their numbers, as the tests of decoders ask for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidembed.decode.video import damaged, open_video

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np


def read_indices(
    path: str, wanted: np.ndarray, decoder: str = "auto", *, thorough: bool = False
) -> Iterator[tuple[int, np.ndarray]]:
    """(index, upright RGB frame) in order of the index; a damaged one is a ClipError."""
    found = []
    with open_video(path, thorough=thorough or decoder not in ("auto", "pyav")) as video:
        for index, frame in video.read(wanted, decoder):
            if frame is None:
                raise damaged(path, [index], len(wanted))
            found.append((index, frame))
    yield from sorted(found, key=lambda pair: pair[0])
