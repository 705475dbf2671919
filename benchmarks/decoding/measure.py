"""Who takes how long: one process a contender, all of them in turn on every clip, again and again.

CPU time is the difference over one call within a process that has made the same call before. A
fresh process per call would measure imports and page faults that vary more than what is measured,
and torch's import alone outweighs a video; one process for all would let decord's libraries lend
their symbols to the others'. The rounds are outermost and the order within each is shuffled, so
that whatever else the machine does hits all alike; ratios are taken within a round.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.decoding import contenders, inputs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from benchmarks.decoding.inputs import Clip

_DEADLINE_S = 300
# Whose frames the others' are compared with: the first of these that is there.
_REFERENCES = ("ffmpeg", "PyAV loop")
# Above this mean difference (of 255), a frame is another frame; below, another colour conversion.
_OTHER_FRAME = 6.0


@dataclass(slots=True)
class Result:
    """Of one contender on one clip.

    cpu, wall: seconds of each round; problem: why it has none.
    difference: mean absolute difference (of 255) of its frames to the reference's; None where they
    are other frames by design. wrong: how many of its frames are not those that they should be.
    shown: the numbers of its frames. start_up: seconds of each round's CPU time that were taken
    off.
    """

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    problem: str | None = None
    difference: float | None = None
    wrong: int = 0
    shown: list[int] = field(default_factory=list)
    start_up: float = 0.0

    @property
    def is_sound(self) -> bool:
        """Right frames, and times of which less than half was taken off."""
        return bool(self.cpu) and not self.wrong and self.start_up < statistics.median(self.cpu)


class Process:
    """A contender in a process of its own, begun again after a death."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.absent: str | None = None
        self._start()

    def read(self, clip: Clip, *, keep: bool) -> dict[str, Any]:
        """`cpu` and `wall` in seconds, and where kept `frames` and `claimed`; or `problem`."""
        try:
            self._pipe.send((clip, keep))
            if self._pipe.poll(_DEADLINE_S):
                answer: dict[str, Any] = self._pipe.recv()
                return answer
            problem = f"not done within {_DEADLINE_S} s"
        except (EOFError, OSError):
            problem = "its process died"
        self.close()
        self._start()
        return {"problem": problem}

    def close(self) -> None:
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(self.name, theirs), daemon=True)
        self._process.start()
        theirs.close()
        try:
            self.absent = self._pipe.recv()
        except EOFError:
            self.absent = "its process dies at the start"


def _serve(name: str, pipe: Any) -> None:
    # What libraries say of damaged files is in the results, where it matters.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        read = contenders.build(name)
    except (ImportError, OSError, RuntimeError) as error:
        pipe.send(_said(error))
        return
    pipe.send(None)
    while True:
        clip, keep = pipe.recv()
        gc.collect()
        cpu, wall = contenders.cpu_seconds(), time.perf_counter()
        try:
            frames, claimed = read(clip)
        except Exception as error:  # noqa: BLE001 - whatever a peer raises is its result
            pipe.send({"problem": _said(error, clip)})
            continue
        cpu, wall = contenders.cpu_seconds() - cpu, time.perf_counter() - wall
        answer = {"cpu": max(1e-4, cpu - read.start_up), "wall": wall, "start_up": read.start_up}
        pipe.send(answer | ({"frames": frames, "claimed": claimed} if keep else {}))
        del frames


def _said(error: Exception, clip: Clip | None = None) -> str:
    """In one line that names no folder of this machine."""
    text = str(error).replace(clip.path, clip.name) if clip else str(error)
    lines = text.strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:160]}"


def measure(
    clips: list[Clip], names: Iterable[str], repeats: int
) -> tuple[dict[str, dict[str, Result]], dict[str, str]]:
    """Results by clip and contender, and why contenders are absent by name.

    The first round is not counted: it warms up, and what it returns is compared.
    """
    everybody = [Process(name) for name in names]
    absent = {p.name: p.absent for p in everybody if p.absent}
    present = [p for p in everybody if not p.absent]
    results: dict[str, dict[str, Result]] = {}
    try:
        for clip in clips:
            results[clip.name] = _first_round(clip, present)
        order = random.Random(0)
        for k in range(repeats):
            print(f"round {k + 1} of {repeats}", flush=True)
            for clip in clips:
                for process in order.sample(present, len(present)):
                    _once(results[clip.name][process.name], process, clip)
    finally:
        for process in present:
            process.close()
    return results, absent


def _once(result: Result, process: Process, clip: Clip) -> None:
    if result.problem:
        return
    answer = process.read(clip, keep=False)
    result.problem = answer.get("problem")
    if not result.problem:
        result.cpu.append(answer["cpu"])
        result.wall.append(answer["wall"])
        result.start_up = answer["start_up"]


def _first_round(clip: Clip, present: list[Process]) -> dict[str, Result]:
    """Warms up and checks what comes back."""
    results: dict[str, Result] = {}
    reference: NDArray[np.uint8] | None = None
    by_name = {process.name: process for process in present}
    first = [by_name.pop(name) for name in _REFERENCES if name in by_name]
    for process in [*first, *by_name.values()]:
        answer = process.read(clip, keep=True)
        results[process.name] = result = Result(problem=answer.get("problem"))
        if result.problem:
            continue
        frames, claimed = answer["frames"], answer["claimed"]
        if reference is None:
            reference = frames
        _compare(result, clip, frames, claimed, reference)
    return results


def _compare(
    result: Result,
    clip: Clip,
    frames: NDArray[np.uint8],
    claimed: NDArray[np.int64],
    reference: NDArray[np.uint8],
) -> None:
    same = np.array_equal(claimed, clip.wanted)
    result.shown = claimed.tolist()
    if frames.shape[1:] != reference.shape[1:]:
        result.wrong = len(frames)
        result.shown = [-1] * len(frames)
        return
    if clip.generated:
        result.shown = [inputs.number(frame) for frame in frames]
        result.wrong = int((np.array(result.shown) != claimed).sum())
    if same:
        off = [_difference(a, b) for a, b in zip(frames, reference, strict=True)]
        result.difference = float(np.mean(off))
        if not clip.generated:
            result.wrong = int((np.array(off) > _OTHER_FRAME).sum())


def _difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.abs(one.astype(np.int16) - other).mean())
