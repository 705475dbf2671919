"""The parent of one decode child: deadline, memory cap, recycling, and what a death means."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np

from vidembed.decode.protocol import Answer, Limits, receive, send
from vidembed.errors import ClipError, RunError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidembed.clips import ClipSpec
    from vidembed.decode.protocol import Request

_START_SECONDS = 120.0
_POLL_SECONDS = 0.05
# A fresh process after this many videos: decoders leak, and nobody else would notice.
RECYCLE_AFTER = 1000


class DecodeWorker:
    """Decodes one video at a time in a process that can be killed. Not thread-safe.

    The child starts with the first request and again after each death.
    """

    def __init__(self, limits: Limits | None = None, recycle_after: int = RECYCLE_AFTER) -> None:
        self.limits = limits or Limits()
        self._recycle_after = recycle_after
        self._child: subprocess.Popen[bytes] | None = None
        self._served = 0

    def decode(self, request: Request) -> tuple[Answer, NDArray[np.uint8]]:
        """All clips of a video, and their pixels uint8 [clips, frames, height, width, 3].

        The pixels are a view that is valid until the next call. Raises ClipError; `Timeout`,
        `DecoderCrash` and `TooLarge` after the child has been killed or has died.
        """
        if self._served >= self._recycle_after:
            self.close()
        child = self._running()
        self._served += 1
        try:
            assert child.stdin is not None
            send(child.stdin, request)
            answer = self._wait(child, request.uri)
        except (BrokenPipeError, EOFError) as error:
            raise self._died(child, request.uri) from error
        if answer.kind is not None:
            raise ClipError(answer.kind, answer.message or "")
        return answer, _map(answer, request.spec)

    def close(self) -> None:
        """End the child: by closing its input, and by force if that does not help."""
        child, self._child = self._child, None
        if child is None:
            return
        try:
            if child.stdin is not None:
                child.stdin.close()
            child.wait(timeout=2)
        except (subprocess.TimeoutExpired, OSError):
            child.kill()
            child.wait()
        if child.stdout is not None:
            child.stdout.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        self._child = subprocess.Popen(
            [sys.executable, "-m", "vidembed.decode.child", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
        )
        self._served = 0
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            send(self._child.stdin, self.limits)
            if not select.select([self._child.stdout], [], [], _START_SECONDS)[0]:
                raise EOFError
            receive(self._child.stdout)
        except (EOFError, BrokenPipeError) as error:
            self._kill(self._child)
            raise RunError(
                "the decode process does not start; `python -m vidembed.decode.child 0` in the "
                "environment of the workers says why"
            ) from error
        return self._child

    def _wait(self, child: subprocess.Popen[bytes], uri: str) -> Answer:
        deadline = time.monotonic() + self.limits.seconds
        assert child.stdout is not None
        while not select.select([child.stdout], [], [], _POLL_SECONDS)[0]:
            if time.monotonic() > deadline:
                self._kill(child)
                raise ClipError(
                    "Timeout",
                    f"{uri}: not decoded within {self.limits.seconds:g} s (--decode-timeout)",
                )
            if _resident_bytes(child.pid) > self.limits.memory_bytes:
                self._kill(child)
                raise ClipError(
                    "TooLarge",
                    f"{uri}: decoding it took more than {self.limits.memory_bytes:,} bytes of "
                    "memory (--decode-memory)",
                )
        answer: Answer = receive(child.stdout)
        return answer

    def _died(self, child: subprocess.Popen[bytes], uri: str) -> ClipError:
        self._kill(child)
        code = child.returncode
        how = f"signal {-code}" if code < 0 else f"exit status {code}"
        return ClipError("DecoderCrash", f"{uri}: the decoder process died ({how})")

    def _kill(self, child: subprocess.Popen[bytes]) -> None:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._child = None


def _map(answer: Answer, spec: ClipSpec) -> NDArray[np.uint8]:
    shape = (len(answer.clips), *spec.shape)
    if not answer.clips:
        return np.empty(shape, np.uint8)
    return np.memmap(answer.path, np.uint8, mode="r", shape=shape)


def _environment() -> dict[str, str]:
    # One thread each for whatever the libraries would start: the pool scales by processes.
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **threads, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


def _resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 where the platform does not tell (not Linux)."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * _page_size()
    except (OSError, IndexError, ValueError):
        return 0


def _page_size() -> int:
    return int(os.sysconf("SC_PAGE_SIZE"))
