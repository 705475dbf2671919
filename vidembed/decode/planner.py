"""What to decode: the fewest packets that give the wanted frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidembed.decode.facts import PacketIndex


@dataclass(frozen=True, slots=True)
class Run:
    """Packets `start` to `stop`, both included, decoded in one go from a keyframe on.

    wanted: the frames that are taken from it, in presentation order.
    """

    start: int
    stop: int
    wanted: tuple[int, ...]


def plan(index: PacketIndex, wanted: NDArray[np.int64]) -> list[Run]:
    """The runs that give the ascending distinct frames `wanted`, in order."""
    starts = index.starts(wanted)
    packets = index.position[wanted]
    runs: list[Run] = []
    for start in np.unique(starts):
        members = starts == start
        run = Run(int(start), int(packets[members].max()), tuple(wanted[members].tolist()))
        if runs and run.start <= runs[-1].stop + 1:
            # Nothing lies between them: going on is cheaper than beginning again.
            last = runs.pop()
            run = Run(last.start, max(last.stop, run.stop), last.wanted + run.wanted)
        runs.append(run)
    return runs
