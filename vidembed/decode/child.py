"""The process that decodes, and that may hang, crash or bloat: `python -m vidembed.decode.child`.

It reads requests on standard input and answers on the file descriptor that was standard output,
until its input ends. It imports neither torch nor ray. Its parent kills it when it takes too long.
"""

from __future__ import annotations

import ctypes
import importlib
import mmap
import os
import signal
import sys
import tempfile
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from vidembed.decode.probe import probe
from vidembed.decode.protocol import Answer, ClipFacts, receive, send
from vidembed.decode.video import local_copy, plan_clips, read_indices
from vidembed.errors import ClipError
from vidembed.pixels import prepare_frame

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidembed.decode.protocol import Limits, Request
    from vidembed.decode.video import ClipPlan

# Beyond this, frames go to disk: a video of a thousand segments must not fill the memory.
_IN_MEMORY = 256 << 20
_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent = int(sys.argv[1])
    _die_with(parent)
    # Whatever a library prints must not end up between two answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), "rb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    limits: Limits = receive(requests)
    drill = _drill()
    with SharedFile() as shared:
        send(answers, "ready")
        while True:
            try:
                request: Request = receive(requests)
            except EOFError:
                return
            if drill is not None:
                drill(request.uri)
            send(answers, answer(request, limits, shared))


def answer(request: Request, limits: Limits, shared: SharedFile) -> Answer:
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


def _decode(request: Request, path: str, limits: Limits, shared: SharedFile) -> Answer:
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
    clips = shared.reserve(len(todo), request.spec.shape)
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
        path=shared.path,
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


class SharedFile:
    """A file that parent and child map: in memory where it fits, else in the temporary folder."""

    def __init__(self) -> None:
        self.path = ""
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()

    def reserve(self, clips: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Writable uint8 [clips, *shape] at the start of the file."""
        size = clips * int(np.prod(shape))
        if size == 0:
            return np.empty((0, *shape), np.uint8)
        if size > self._size or self._size > _IN_MEMORY:
            self._drop()
            self._make(size)
        with open(self.path, "r+b") as file:
            buffer = mmap.mmap(file.fileno(), size)
        return np.frombuffer(buffer, np.uint8).reshape(clips, *shape)

    def _make(self, size: int) -> None:
        memory = size <= _IN_MEMORY and os.path.isdir("/dev/shm")
        for place in ["/dev/shm"] * memory + [tempfile.gettempdir()]:
            folder = tempfile.TemporaryDirectory(prefix="vidembed-", dir=place)
            path = os.path.join(folder.name, "clips")
            try:
                # Reserve the blocks now: a full /dev/shm would otherwise end in a bus error at
                # the first write beyond it. Containers often have only 64 MB there.
                with open(path, "wb") as file:
                    _allocate(file.fileno(), size)
            except OSError:
                folder.cleanup()
                continue
            self._folder, self.path, self._size = folder, path, size
            return
        raise ClipError("TooLarge", f"no room for {size:,} bytes of frames in the temporary folder")

    def _drop(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
        self._folder, self.path, self._size = None, "", 0


def _allocate(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)


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
