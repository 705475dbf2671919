"""What it costs that frames are decoded in a child process: CPU of both beside the same work here.

The child's CPU clock is read from outside (Linux), the parent's is its own.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.memory import OwnMemory

if TYPE_CHECKING:
    from benchmarks.decoding.inputs import Clip


@dataclass(frozen=True, slots=True)
class HandOver:
    """CPU-seconds over all clips, the least of the rounds: others on the machine only add.

    parent, child: of the two, while the worker decodes and its caller reads every frame once.
    alone: the same work, frames read too, within one process and without shared memory.
    """

    parent: float
    child: float
    alone: float

    @property
    def parent_share(self) -> float:
        """Of all CPU time: what the parent spends, nearly all of it on reading the frames."""
        return self.parent / (self.parent + self.child)

    @property
    def share(self) -> float:
        """Of all CPU time: what one process would not have spent. Below 0 is noise."""
        return 1 - self.alone / (self.parent + self.child)


def hand_over(clips: list[Clip], repeats: int) -> HandOver:
    """As a job does it: 12 frames, resized to 224 x 224. Raises ClipError."""
    from vidembed.clips import ClipSpec, Resize, Sampling, Segmentation
    from vidembed.decode.child import answer
    from vidembed.decode.protocol import Request, Share
    from vidembed.decode.worker import DecodeWorker

    sampling = Sampling(kind="uniform", count=12)
    spec = ClipSpec(sampling=sampling, resize=Resize(short_side=224, crop=224))
    memory: Any = OwnMemory()
    worker = DecodeWorker()
    parent, child, alone = [], [], []

    def through_the_child() -> tuple[float, float]:
        # The child lives from the first request on.
        pid = worker._child.process.pid if worker._child else 0
        mine, its = time.process_time(), _cpu_of(pid)
        for request in requests:
            worker.decode(request)[1][0].sum()
        return time.process_time() - mine, _cpu_of(pid) - its

    def here() -> float:
        begin = time.process_time()
        for request in requests:
            said = answer(request, worker.limits, memory)
            if said.kind:
                raise RuntimeError(f"{said.kind}: {said.message}")
            memory.pixels[0].sum()
        return time.process_time() - begin

    shares = (Share(spec),)
    requests = [Request(clip.path, None, None, shares, Segmentation(), "auto") for clip in clips]
    try:
        for request in requests:
            worker.decode(request)
        here()
        for _ in range(repeats):
            mine, its = through_the_child()
            parent.append(mine)
            child.append(its)
            alone.append(here())
    finally:
        worker.close()
    return HandOver(*(min(each) for each in (parent, child, alone)))


def _cpu_of(pid: int) -> float:
    """CPU-seconds of another process: the clock that clock_getcpuclockid(3) names."""
    return time.clock_gettime(~pid << 3 | 2) if pid else 0.0
