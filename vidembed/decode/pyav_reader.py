"""Frames through PyAV: slower to drive than decord, and right where decord is not.

One pass in presentation order from the first wanted frame to the last. Damage is noticed:
libavcodec conceals what it cannot decode and says so only in its log.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import av
import av.logging
import numpy as np

from vidembed.decode.probe import open_container, video_stream
from vidembed.errors import ClipError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from vidembed.decode.facts import VideoFacts

# Frames that a decoder may hold back before one is shown, in H.264 and HEVC alike.
_MOST_REORDERED = 16

# Without a level no message is kept, and damage would pass unseen.
av.logging.set_level(av.logging.ERROR)
av.logging.set_skip_repeated(False)
# What is not captured goes to this logger; without a handler Python would print it.
logging.getLogger("libav").addHandler(logging.NullHandler())


def read(
    path: str, facts: VideoFacts, wanted: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield (index, upright RGB uint8 [height, width, 3]) for the ascending distinct `wanted`.

    Raises ClipError `Corrupt` at the first wanted frame that is damaged or missing.
    """
    try:
        yield from _read(path, facts, wanted, seek=True)
    except _SoughtInVainError:
        yield from _read(path, facts, wanted, seek=False)


class _SoughtInVainError(Exception):
    """A seek led past the first wanted frame, or to where it cannot be decoded: containers
    without an index (MPEG-TS) promise nothing.
    """


def _read(
    path: str, facts: VideoFacts, wanted: NDArray[np.int64], *, seek: bool
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    targets = iter(wanted.tolist())
    target = first = next(targets, None)
    seek = seek and facts.pts is not None and bool(first)

    def damage(message: str) -> Exception:
        if seek and target == first:
            return _SoughtInVainError()
        return ClipError("Corrupt", f"{path}: {message}")

    with open_container(path) as container:
        stream = video_stream(container, path)
        # One thread: the pool scales by processes, and messages stay beside their frame.
        stream.codec_context.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        if seek:
            _seek(container, stream, facts, int(wanted[0]))
        for index, frame, damaged in _frames(container, stream, facts, sought=seek):
            if target is None:
                return
            if index > target:
                raise damage(f"frame {target} cannot be decoded")
            if index == target:
                if damaged:
                    raise damage(f"the data around frame {index} is damaged")
                yield index, _upright(frame)
                target = next(targets, None)
    if target is not None:
        raise damage(f"decoding ended before frame {target} of {facts.n_frames}")


def _seek(container: Any, stream: Any, facts: VideoFacts, first: int) -> None:
    # A seek goes by the times of decoding: in an open GOP it may find a keyframe that is shown
    # only after the frame that is wanted.
    start = max(0, first - _MOST_REORDERED) if facts.open_gop else first
    assert facts.pts is not None
    container.seek(int(facts.pts[start]), stream=stream, backward=True)


def _frames(
    container: Any, stream: Any, facts: VideoFacts, *, sought: bool
) -> Iterator[tuple[int, Any, bool]]:
    """(index in presentation order, frame, whether it may be damaged), in that order."""
    counted = 0
    damaged = False
    begun = not sought
    for frames, complaint in _decoded(container, stream):
        for frame in frames:
            # After a seek into the middle of a GOP, some decoders make grey frames without a word.
            begun = begun or bool(frame.key_frame)
            if not begun:
                continue
            if frame.key_frame and not frame.is_corrupt:
                damaged = False
            damaged = damaged or frame.is_corrupt
            yield _index(frame, facts, counted), frame, damaged
            counted += 1
        # What was complained about comes out of the decoder with this packet or after it; all that
        # follows refers to it, until a keyframe makes a fresh start.
        damaged = damaged or complaint


def _decoded(container: Any, stream: Any) -> Iterator[tuple[list[Any], bool]]:
    for packet in container.demux(stream):
        with av.logging.Capture() as messages:
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                frames = []
        yield frames, bool(messages) or (not frames and packet.is_corrupt)


def _index(frame: Any, facts: VideoFacts, counted: int) -> int:
    if facts.pts is None or frame.pts is None:
        return counted
    index = int(np.searchsorted(facts.pts, frame.pts))
    if index < facts.n_frames and facts.pts[index] == frame.pts:
        return index
    # A frame that the index does not know is in front of the window, or is no frame of ours.
    return -1


def _upright(frame: Any) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    turns = (int(frame.rotation) // 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels
