"""Which frames of a window make a clip: arithmetic on a video's facts, no decoder needed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from vidembed.decode.slots import cheapest, nearest_keyframes

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from vidembed.clips import Sampling
    from vidembed.decode.facts import VideoFacts

    Rule = Callable[[Sampling, VideoFacts, int, int], NDArray[np.int64]]


BLACK = -1
"""In the place of a frame's index: a black frame."""


def sample(sampling: Sampling, facts: VideoFacts, first: int, last: int) -> NDArray[np.int64]:
    """Frame indices of the clip over the frames [first, last) of a video, ascending in each window.

    `sampling.total` of them; fewer only where there are fewer and `pad` is `mask`. A frame may
    occur twice where `pad` is `repeat`; where it is `black`, BLACK stands for the frames that are
    missing. The window must not be empty.
    """
    if last <= first:
        raise ValueError(f"an empty window: frames [{first}, {last})")
    if sampling.seconds is None:
        return _window(sampling, facts, first, last)
    if sampling.placement == "grid":
        return _windows_of_grid(sampling, facts, first, last)
    begin = float(facts.times[first])
    end = _end(facts, last)
    found = []
    for start in sampling.starts(begin, end):
        if sampling.kind == "ffmpeg_fps":
            stop = min(end, start + sampling.seconds)
            indices = _ffmpeg_grid(sampling, facts, first, last, start, stop)
            found.append(_filled(sampling, indices))
            continue
        least, most = facts.between(start, min(start + sampling.seconds, end))
        # Between two frames there is none that begins: the one that is showing.
        least = max(first, min(least, last - 1))
        found.append(_window(sampling, facts, least, max(least + 1, min(most, last))))
    return np.concatenate(found)


def _window(sampling: Sampling, facts: VideoFacts, first: int, last: int) -> NDArray[np.int64]:
    indices = _RULES[sampling.kind](sampling, facts, first, last)
    if len(indices) > sampling.count:
        indices = indices[spread(len(indices), sampling.count)]
    return _filled(sampling, indices)


def _windows_of_grid(
    sampling: Sampling, facts: VideoFacts, first: int, last: int
) -> NDArray[np.int64]:
    # As torchvision: a slot that the video does not fill counts only where slots are whole frames.
    step = facts.fps / sampling.fps
    whole = abs(step - round(step)) < 1e-6
    slots = math.ceil((last - first) / step - 1e-6) if whole else int((last - first) / step + 1e-6)
    points = facts.times[first] + np.arange(max(1, slots)) / sampling.fps
    grid = np.searchsorted(facts.times[first:last], points + 1e-6, side="right") + first - 1
    starts = spread(max(1, len(grid) - sampling.count + 1), sampling.windows)
    return np.concatenate([_filled(sampling, grid[at : at + sampling.count]) for at in starts])


def _filled(sampling: Sampling, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    missing = sampling.count - len(indices)
    if missing and sampling.pad != "mask":
        filler = indices[-1:] if sampling.pad == "repeat" else np.array([BLACK])
        indices = np.concatenate([indices, np.repeat(filler, missing)])
    return indices


def spread(n: int, count: int) -> NDArray[np.int64]:
    """`int(linspace(0, n - 1, count))`: the uniform rule, truncating.

    >>> spread(300, 4).tolist(), spread(2, 4).tolist()
    ([0, 99, 199, 299], [0, 0, 0, 1])
    """
    return np.linspace(0, n - 1, count).astype(np.int64)


def _uniform(sampling: Sampling, facts: VideoFacts, first: int, last: int) -> NDArray[np.int64]:
    return first + spread(last - first, sampling.count)


def _nearest(sampling: Sampling, facts: VideoFacts, first: int, last: int) -> NDArray[np.int64]:
    return first + np.arange(sampling.count, dtype=np.int64) * (last - first) // sampling.count


def _first(sampling: Sampling, facts: VideoFacts, first: int, last: int) -> NDArray[np.int64]:
    # Fewer frames than count are each repeated before the next one comes, and cut off at count.
    times = -(-sampling.count // (last - first))
    return first + np.arange(sampling.count, dtype=np.int64) // times


def _fps(sampling: Sampling, facts: VideoFacts, first: int, last: int) -> NDArray[np.int64]:
    # The frame on screen at each point of the grid: the last one that began at or before it.
    times = facts.times[first:last]
    grid = np.arange(times[0], times[-1] + 1e-6, 1.0 / sampling.fps)
    return first + np.searchsorted(times, grid + 1e-6, side="right").astype(np.int64) - 1


def _ffmpeg_fps(sampling: Sampling, facts: VideoFacts, first: int, last: int) -> NDArray[np.int64]:
    begin = float(facts.times[first])
    return _ffmpeg_grid(sampling, facts, first, last, begin, _end(facts, last))


def _ffmpeg_grid(
    sampling: Sampling, facts: VideoFacts, first: int, last: int, start: float, stop: float
) -> NDArray[np.int64]:
    """What `ffmpeg -ss start -t (stop - start)` and its filter `fps` make of the frames
    [first, last), at most `count`: the clock is 0 at `start`, between two frames as well, and a
    frame that began before it is not read.
    """
    least = max(first, min(facts.between(start, stop)[0], last - 1))
    # Times are rounded to the grid, half up. In front of the first frame's point stands that
    # point's frame, where ffmpeg writes a constant rate.
    points = np.floor((facts.times[least:last] - start) * sampling.fps + 0.5 + 1e-6)
    count = min(sampling.count, max(1, int((stop - start) * sampling.fps + 0.5 + 1e-6)))
    grid = np.maximum(np.arange(count), points[0])
    found: NDArray[np.int64] = least + np.searchsorted(points, grid, side="right") - 1
    return found


def _end(facts: VideoFacts, last: int) -> float:
    """Where the frames [0, last) end, in seconds."""
    return float(facts.times[last]) if last < facts.n_frames else facts.duration_s


def _clip4clip(sampling: Sampling, facts: VideoFacts, first: int, last: int) -> NDArray[np.int64]:
    # The extractor of ArrowLuo/CLIP4Clip floors the frame rate (29.97 becomes 29), so that its
    # "one frame a second" drifts from real seconds. The published numbers were made this way.
    fps = max(1, int(facts.fps))
    rate = max(1, int(sampling.fps))
    offsets = np.arange(0, fps, max(1, fps // rate))[:rate]
    seconds = np.arange(0, last - first, fps)
    indices = (seconds[:, None] + offsets[None, :]).ravel()
    return first + indices[indices < last - first].astype(np.int64)


def _fast(sampling: Sampling, facts: VideoFacts, first: int, last: int) -> NDArray[np.int64]:
    exact = _uniform(sampling, facts, first, last)
    return exact if facts.index is None else cheapest(facts.index, exact, first, last)


def _keyframes(sampling: Sampling, facts: VideoFacts, first: int, last: int) -> NDArray[np.int64]:
    exact = _uniform(sampling, facts, first, last)
    found = None if facts.index is None else nearest_keyframes(facts.index, exact, first, last)
    return _fast(sampling, facts, first, last) if found is None else found


_RULES: dict[str, Rule] = {
    "uniform": _uniform,
    "nearest": _nearest,
    "first": _first,
    "fps": _fps,
    "ffmpeg_fps": _ffmpeg_fps,
    "clip4clip": _clip4clip,
    "fast": _fast,
    "keyframes": _keyframes,
}
