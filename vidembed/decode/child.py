"""The process that decodes, and that may hang, crash or bloat: `python -m vidembed.decode.child`.

It reads requests on standard input and answers on the file descriptor that was standard output,
until its input ends. It imports neither torch nor ray. Its parent kills it when it takes too long.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vidembed import sources
from vidembed.decode.filling import Filled, Filling
from vidembed.decode.protocol import Answer, ClipFacts, Effort, receive, send
from vidembed.decode.shared import SharedFrames
from vidembed.decode.video import Visit, plan_clips
from vidembed.errors import ClipError

if TYPE_CHECKING:
    from vidembed.decode.limits import Limits
    from vidembed.decode.protocol import Request, Share
    from vidembed.decode.video import ClipPlan, Video
    from vidembed.pixels import Pixels

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, memory, disk = map(int, sys.argv[1:])
    _die_with(parent)
    # Whatever a library prints must not end up between two answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), "rb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    limits: Limits = receive(requests)
    drill = _drill()
    shared = SharedFrames(memory, disk)
    send(answers, "ready")
    while True:
        try:
            request: Request = receive(requests)
        except EOFError:
            return
        if drill is not None:
            drill(request.uri)
        send(answers, answer(request, limits, shared))


def answer(request: Request, limits: Limits, shared: SharedFrames) -> Answer:
    """Decode one video; what is wrong with it is part of the answer."""
    shown = sources.shown(request.uri)
    try:
        return _decode(request, limits, shared)
    except ClipError as error:
        return Answer(kind=error.kind, message=error.message)
    except MemoryError:
        return Answer(kind="TooLarge", message=f"{shown}: out of memory while decoding")
    except OSError as error:
        return Answer(kind="ReadFailed", message=f"{shown}: {error}")
    except Exception as error:  # noqa: BLE001 - whatever damaged data makes a library raise
        return Answer(
            kind="DecoderCrash", message=f"{shown}: {type(error).__name__} in the decoder: {error}"
        )


def _decode(request: Request, limits: Limits, shared: SharedFrames) -> Answer:
    def fill(video: Video) -> Answer:
        parts = [_Part(share, _plans(video, request, share)) for share in request.shares]
        pixels, on_disk = shared.writable([part.tensor for part in parts])
        for part, place in zip(parts, pixels, strict=True):
            part.begin(place)
        wanted = sum(_fill(video, request, some) for some in _by_aspect(parts, video))
        return Answer(
            clips=tuple(part.facts for part in parts),
            segments=parts[0].segments,
            duration_s=video.facts.duration_s,
            fps=video.facts.fps,
            on_disk=on_disk,
            effort=Effort(
                wanted=wanted,
                decoded=video.decoded,
                counted=video.facts.index is None,
                on_gpu=video.on_gpu,
            ),
        )

    cpu = time.process_time()
    samplings = [share.spec.sampling.kind for share in request.shares]
    visit = Visit.to(samplings, request.decoder, limits, request.access)
    found = visit.of(request.uri, fill)
    effort = replace(
        found.effort,
        read_bytes=visit.fetched,
        read_s=visit.waited,
        cpu_s=time.process_time() - cpu,
    )
    return replace(found, effort=effort, source_state=visit.state)


class _Part:
    """One share of a request on its way: the clips to make, where they go, and what came."""

    def __init__(self, share: Share, plans: list[ClipPlan]) -> None:
        self.spec = share.spec
        self.segments = len(plans)
        self.plans = {k: plan for k, plan in enumerate(plans) if k not in share.skip}
        self.tensor = share.tensor(len(self.plans))
        self.clips: list[Filled] = []
        self.size = (0, 0)

    def begin(self, pixels: Pixels) -> None:
        self.clips = [
            Filled(plan.indices, place, self.spec.resize)
            for plan, place in zip(self.plans.values(), pixels, strict=True)
        ]

    @property
    def facts(self) -> tuple[ClipFacts, ...]:
        height, width = self.size
        return tuple(
            ClipFacts(k, plan.start_s, plan.end_s, clip.clean, len(clip.indices), width, height)
            for (k, plan), clip in zip(self.plans.items(), self.clips, strict=True)
        )


def _plans(video: Video, request: Request, share: Share) -> list[ClipPlan]:
    window = (request.start_s, request.end_s)
    try:
        return plan_clips(video.facts, share.spec.sampling, request.segmentation, window)
    except ClipError as error:
        raise ClipError(error.kind, f"{video.path}: {error.message}") from error


def _by_aspect(parts: list[_Part], video: Video) -> list[list[_Part]]:
    """The parts that want their frames alike, so that they are read together."""
    if video.facts.pixel_aspect == 1:
        return [parts]
    aspects = dict.fromkeys(part.spec.aspect for part in parts)
    return [[part for part in parts if part.spec.aspect == aspect] for aspect in aspects]


def _fill(video: Video, request: Request, parts: list[_Part]) -> int:
    """Read the frames that these parts want into all their clips; returns how many those are."""
    filling = Filling([clip for part in parts for clip in part.clips])
    aspect = parts[0].spec.aspect
    for index, frame in video.read(filling.wanted, request.decoder, aspect, request.device):
        filling.take(index, frame)
        filling.check(video.path, request.min_frames)
    filling.mend()
    for part in parts:
        part.size = filling.size
    return len(filling.wanted)


def _die_with(parent: int) -> None:
    """A child that hangs in native code must not outlive a parent that was killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    # Ctrl-C at a terminal reaches the whole process group; stopping us is our parent's affair.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _drill() -> Any:
    """A function that is called with each address before it is decoded, for fault drills: the
    environment variable VIDEMBED_DECODE_DRILL names it as `module:function`.
    """
    name = os.environ.get("VIDEMBED_DECODE_DRILL")
    if not name:
        return None
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


if __name__ == "__main__":
    main()
