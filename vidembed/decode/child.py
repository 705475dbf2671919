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
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vidembed import sources
from vidembed.decode.filling import Filling
from vidembed.decode.protocol import Answer, ClipFacts, Effort, receive, send
from vidembed.decode.shared import SharedFrames
from vidembed.decode.video import Visit, plan_clips
from vidembed.errors import ClipError

if TYPE_CHECKING:
    from vidembed.decode.limits import Limits
    from vidembed.decode.protocol import Request
    from vidembed.decode.video import Video

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
    spec = request.spec

    def fill(video: Video) -> Answer:
        window = (request.start_s, request.end_s)
        try:
            plans = plan_clips(video.facts, spec.sampling, request.segmentation, window)
        except ClipError as error:
            raise ClipError(error.kind, f"{video.path}: {error.message}") from error
        todo = [k for k in range(len(plans)) if k not in request.skip]
        pixels, on_disk = shared.writable(len(todo), spec.shape)
        filling = Filling([plans[k].indices for k in todo], pixels, spec)
        read = video.read(filling.wanted, request.decoder, spec.aspect, request.device)
        for index, frame in read:
            filling.take(index, frame)
            filling.check(video.path, request.min_frames)
        filling.mend()
        clips = tuple(
            ClipFacts(k, plans[k].start_s, plans[k].end_s, filling.clean[c])
            for c, k in enumerate(todo)
        )
        return _answer(video, filling, clips, segments=len(plans), on_disk=on_disk)

    visit = Visit.to(spec.sampling.kind, request.decoder, limits, request.access)
    found = visit.of(request.uri, fill)
    return replace(found, effort=replace(found.effort, read_bytes=visit.fetched))


def _answer(
    video: Video, filling: Filling, clips: tuple[ClipFacts, ...], *, segments: int, on_disk: bool
) -> Answer:
    height, width = filling.size
    return Answer(
        clips=clips,
        segments=segments,
        duration_s=video.facts.duration_s,
        fps=video.facts.fps,
        width=width,
        height=height,
        on_disk=on_disk,
        effort=Effort(
            wanted=len(filling.wanted),
            decoded=video.decoded,
            counted=video.facts.index is None,
            on_gpu=video.on_gpu,
        ),
    )


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
