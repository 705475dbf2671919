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
from typing import TYPE_CHECKING, Any

import numpy as np

from vidembed.decode.probe import probe
from vidembed.decode.protocol import Answer, ClipFacts, receive, send
from vidembed.decode.shared import SharedFrames
from vidembed.decode.video import local_copy, plan_clips, read_indices
from vidembed.errors import ClipError
from vidembed.pixels import prepare_frame

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidembed.decode.protocol import Limits, Request
    from vidembed.decode.video import ClipPlan

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
    try:
        with local_copy(request.uri, limits.file_bytes) as path:
            return _decode(request, path, limits, shared)
    except ClipError as error:
        return Answer(kind=error.kind, message=error.message)
    except MemoryError:
        return Answer(kind="TooLarge", message=f"{request.uri}: out of memory while decoding")
    except OSError as error:
        return Answer(kind="ReadFailed", message=f"{request.uri}: {error}")


def _decode(request: Request, path: str, limits: Limits, shared: SharedFrames) -> Answer:
    if os.path.exists(path) and os.path.getsize(path) > limits.file_bytes:
        raise ClipError("TooLarge", f"{path}: more than {limits.file_bytes:,} bytes")
    facts = probe(path)
    sampling = request.spec.sampling
    window = (request.start_s, request.end_s)
    try:
        plans = plan_clips(facts, sampling, request.segmentation, window)
    except ClipError as error:
        raise ClipError(error.kind, f"{path}: {error.message}") from error
    todo = [k for k in range(len(plans)) if k not in request.skip]
    clips, on_disk = shared.writable(len(todo), request.spec.shape)
    size = _fill(request, path, facts, [plans[k] for k in todo], clips)
    return Answer(
        clips=tuple(
            ClipFacts(k, plans[k].start_s, plans[k].end_s, len(set(plans[k].indices.tolist())))
            for k in todo
        ),
        segments=len(plans),
        duration_s=facts.duration_s,
        fps=facts.fps,
        width=size[1],
        height=size[0],
        on_disk=on_disk,
    )


def _fill(
    request: Request, path: str, facts: Any, plans: list[ClipPlan], clips: NDArray[np.uint8]
) -> tuple[int, int]:
    """Decode each wanted frame once and put it wherever it is wanted; returns height, width."""
    places: dict[int, list[tuple[int, int]]] = {}
    for c, plan in enumerate(plans):
        for t, index in enumerate(plan.indices.tolist()):
            places.setdefault(index, []).append((c, t))
        clips[c, len(plan.indices) :] = 0
    size = (0, 0)
    wanted = np.array(sorted(places), np.int64)
    if not len(wanted):
        return size
    for index, frame in read_indices(path, facts, wanted, request.decoder):
        size = (frame.shape[0], frame.shape[1])
        (c0, t0), *more = places[index]
        prepare_frame(frame, request.spec.resize, clips[c0, t0])
        for c, t in more:
            clips[c, t] = clips[c0, t0]
    return size


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
