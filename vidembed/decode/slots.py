"""Frames that may move: which of a video's frames, near those that `uniform` takes, cost least."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from vidembed.decode.facts import PacketIndex


def nearest_keyframes(
    index: PacketIndex, targets: NDArray[np.int64], first: int, last: int
) -> NDArray[np.int64] | None:
    """For each target the nearest keyframe among the frames [first, last); None without any."""
    keys = np.sort(index.frame[index.keyframe])
    keys = keys[(keys >= first) & (keys < last)]
    if not len(keys):
        return None
    after = np.minimum(np.searchsorted(keys, targets), len(keys) - 1)
    before = np.maximum(after - 1, 0)
    closer = targets - keys[before] <= keys[after] - targets
    return np.where(closer & (keys[before] <= targets), keys[before], keys[after])


def cheapest(
    index: PacketIndex, targets: NDArray[np.int64], first: int, last: int
) -> NDArray[np.int64]:
    """For each of the ascending `targets` a frame of [first, last) within half its slot, such that
    all of them together cost least. A slot is the distance between targets.

    The cost is the number of pictures that are decoded, and for each frame the square of its move,
    half a slot being 1. Of the slots whose frames are decoded from the same keyframe on, only the
    last one decides how much is decoded; the others have the nearest picture that is decoded
    anyway. Which slots those are is chosen, going through all of them.
    """
    slots = list(_slots(index, targets, first, last))
    chosen = []
    stop = 0
    for slot, (start, is_last) in zip(reversed(slots), _shared_out(slots), strict=True):
        way = slot[start]
        at = way.cheapest if is_last else way.decoded_anyway(stop)
        if is_last:
            stop = int(way.packets[at])
        chosen.append(int(way.frames[at]))
    # Neighbours may have a frame in common, and the one before it.
    found: NDArray[np.int64] = np.maximum.accumulate(np.array(chosen[::-1], np.int64))
    return found


@dataclass(frozen=True, slots=True)
class _Way:
    """The frames of a slot that are decoded from one keyframe on, all of them arrays of equal
    length. moved: the square of each one's move; pictures: how many are decoded for it.
    """

    frames: NDArray[np.int64]
    packets: NDArray[np.int64]
    lone: NDArray[np.bool_]
    moved: NDArray[np.float64]
    pictures: NDArray[np.int64]

    @property
    def cheapest(self) -> int:
        """Of the frames, where no later slot goes on from the same keyframe."""
        return int(np.argmin(self.pictures + self.moved))

    def decoded_anyway(self, stop: int) -> int:
        """Of the frames, where all that others refer to is decoded up to the packet `stop`."""
        costs = self.moved + np.where(self.packets > stop, self.pictures, self.lone)
        return int(np.argmin(costs))

    @property
    def cost(self) -> float:
        return float((self.pictures + self.moved).min())

    @property
    def cost_on_the_way(self) -> float:
        return float((self.moved + self.lone).min())


def _slots(
    index: PacketIndex, targets: NDArray[np.int64], first: int, last: int
) -> Iterator[dict[int, _Way]]:
    """Of each target, by the packet of the keyframe: the ways to a frame of its slot."""
    all_frames = np.arange(first, last)
    all_packets, all_starts = index.position[first:last], index.starts(all_frames)
    lone = np.zeros(len(index.pts), bool) if index.lone is None else index.lone
    needed = np.concatenate([[0], np.cumsum(~lone)])
    all_pictures = needed[all_packets] - needed[all_starts] + 1
    half = (targets[-1] - targets[0]) / max(1, len(targets) - 1) / 2
    for target in targets.tolist():
        low = max(math.ceil(target - half), first)
        slot = slice(low - first, min(math.floor(target + half) + 1, last) - first)
        frames, packets, starts = all_frames[slot], all_packets[slot], all_starts[slot]
        moved = ((frames - target) / max(half, 1.0)) ** 2
        ways = {}
        for start in _worth_a_look(frames, starts, packets, target):
            own = starts == start
            ways[start] = _Way(
                frames[own], packets[own], lone[packets[own]], moved[own], all_pictures[slot][own]
            )
        yield ways


def _worth_a_look(
    frames: NDArray[np.int64], starts: NDArray[np.int64], packets: NDArray[np.int64], target: int
) -> set[int]:
    """The keyframes from which other slots may be decoded too, and the one nearest to the target:
    whatever a slot holds between these costs no less.
    """
    keys = packets == starts
    found = {int(starts[0]), int(starts[-1])}
    if keys.any():
        found.add(int(starts[keys][np.argmin(np.abs(frames[keys] - target))]))
    return found


def _shared_out(slots: Sequence[dict[int, _Way]]) -> Iterator[tuple[int, bool]]:
    """From the last slot to the first one: from which keyframe it is decoded, and whether it is the
    last one that is. The least sum of all costs, by dynamic programming over the slots.
    """
    ended: dict[int, float] = {}
    going_on: dict[int, float] = {}
    before: list[dict[int, int]] = []
    for slot in slots:
        # Either the slot in front goes on from the same keyframe, or it ends with the cheapest.
        other = min(ended, key=ended.__getitem__, default=-1)
        paid = {}
        before.append({})
        for start in slot:
            shared, apart = going_on.get(start, math.inf), ended.get(other, 0.0)
            before[-1][start] = start if shared <= apart else other
            paid[start] = min(shared, apart)
        ended = {start: paid[start] + way.cost for start, way in slot.items()}
        going_on = {start: paid[start] + way.cost_on_the_way for start, way in slot.items()}
    start, is_last = min(ended, key=ended.__getitem__), True
    for came_from in reversed(before):
        yield start, is_last
        is_last = came_from[start] != start
        start = came_from[start]
