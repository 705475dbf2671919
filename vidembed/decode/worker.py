"""The parent of one decode child: deadline, memory cap, recycling, and what a death means."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import tempfile
import time
from typing import IO, TYPE_CHECKING

from vidembed.addresses import shown
from vidembed.decode.limits import Limits
from vidembed.decode.protocol import Answer, receive, send
from vidembed.decode.shared import SharedFrames
from vidembed.errors import ClipError, RunError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidembed.decode.protocol import Request
    from vidembed.pixels import Pixels

_START_SECONDS = 120.0
_STARTS = 3
_POLL_SECONDS = 0.05
# A fresh process after this many videos: decoders leak, and nobody else would notice.
RECYCLE_AFTER = 1000


def _silent(_why: str) -> None:
    pass


class DecodeWorker:
    """Decodes one video at a time in a process that can be killed. Not thread-safe.

    The child starts with the first request and again after each death; restarted is told why.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        recycle_after: int = RECYCLE_AFTER,
        restarted: Callable[[str], None] = _silent,
    ) -> None:
        self.limits = limits or Limits()
        self._restarted = restarted
        self._ended = ""
        self._recycle_after = recycle_after
        self._child: _Child | None = None
        self._served = 0

    def decode(self, request: Request) -> tuple[Answer, list[Pixels]]:
        """All clips of a video, and of each share their pixels [clips, frames, height, width, 3],
        of the type that its encoder wants.

        The pixels are a view that is valid until the next call. Raises ClipError; `Timeout`,
        `DecoderCrash` and `TooLarge` after the child has been killed or has died.
        """
        if self._served >= self._recycle_after:
            self.close()
            self._ended = "recycled"
        child = self._running()
        self._served += 1
        try:
            send(child.requests, request)
            answer = self._wait(child, request.uri)
        except (BrokenPipeError, EOFError) as error:
            # The pipe closes a moment before the process is gone, and says how it went.
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(1.0)
            self._kill("died")
            how = _manner_of_death(child.process.returncode)
            raise ClipError(
                "DecoderCrash", f"{shown(request.uri)}: the decoder process died ({how})"
            ) from error
        if answer.kind is not None:
            raise ClipError(answer.kind, answer.message or "")
        tensors = [
            share.tensor(len(clips))
            for share, clips in zip(request.shares, answer.clips, strict=True)
        ]
        return answer, child.frames.readable(tensors, on_disk=answer.on_disk)

    @property
    def pid(self) -> int | None:
        """Of the child, for those who look at what it uses; None where there is none now."""
        return self._child.process.pid if self._child is not None else None

    def close(self) -> None:
        """End the child: by closing its input, and by force if that does not help."""
        child, self._child = self._child, None
        if child is not None:
            child.end(patience_s=2.0)

    def _kill(self, why: str) -> None:
        self._ended = why
        child, self._child = self._child, None
        if child is not None:
            child.end(patience_s=0.0)

    def _running(self) -> _Child:
        if self._child is not None:
            if self._child.process.poll() is None:
                return self._child
            self._kill("died between two videos")
        # One that is killed while it starts says nothing of the next: an import that fails does.
        for _ in range(_STARTS):
            if (child := self._started()) is not None:
                if why := self._ended:
                    self._ended = ""
                    self._restarted(why)
                return child
        raise RunError(
            "the decode process does not start; `python -c 'import vidembed.decode.child'` in the "
            "environment of the workers says why"
        )

    def _started(self) -> _Child | None:
        """A child that is ready; None where it ended, or said nothing for too long."""
        self._child = child = _Child()
        self._served = 0
        try:
            send(child.requests, self.limits)
            if select.select([child.answers], [], [], _START_SECONDS)[0]:
                receive(child.answers)
                return child
        except (EOFError, BrokenPipeError):
            pass
        self._kill("died while it started")
        return None

    def _wait(self, child: _Child, uri: str) -> Answer:
        deadline = time.monotonic() + self.limits.seconds
        while not select.select([child.answers], [], [], _POLL_SECONDS)[0]:
            if time.monotonic() > deadline:
                self._kill("killed: deadline")
                raise ClipError(
                    "Timeout",
                    f"{shown(uri)}: not decoded within {self.limits.seconds:g} s "
                    "(--decode-timeout)",
                )
            if _resident_bytes(child.process.pid) > self.limits.memory_bytes:
                self._kill("killed: memory")
                raise ClipError(
                    "TooLarge",
                    f"{shown(uri)}: decoding it took more than {self.limits.memory_bytes:,} bytes "
                    "of memory (--decode-memory)",
                )
        answer: Answer = receive(child.answers)
        return answer


class _Child:
    """One child process with all that is its own: pipes, shared files, a temporary folder.

    The folder is the parent's to remove, for a child that is killed leaves there what it fetched.
    """

    def __init__(self) -> None:
        self.frames = SharedFrames.create()
        self._folder = tempfile.TemporaryDirectory(prefix="vidembed-", ignore_cleanup_errors=True)
        words = map(str, (os.getpid(), *self.frames.descriptors))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vidembed.decode.child", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment() | {"TMPDIR": self._folder.name},
            pass_fds=self.frames.descriptors,
        )

    @property
    def requests(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def answers(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def end(self, patience_s: float) -> None:
        """Close its input, wait so long for it to go, then kill it; leaves nothing behind."""
        with contextlib.suppress(OSError):
            self.requests.close()
        try:
            if not patience_s:
                self.process.kill()
            self.process.wait(patience_s or None)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.answers.close()
        self.frames.close()
        self._folder.cleanup()


def _manner_of_death(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit status {code}"


# One thread each for whatever the libraries would start: the pool scales by processes.
_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# For glibc: frames are taken from memory that it has, instead of from the kernel each time, which
# clears every page of them. It learns to, but only after a large block was freed. Bytes; the first
# is the largest that it takes.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}


def _environment() -> dict[str, str]:
    path = os.pathsep.join(p for p in sys.path if p)
    return {**_MALLOC, **os.environ, **_THREADS, "PYTHONPATH": path}


def _resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 where the platform does not tell (not Linux)."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * _page_size()
    except (OSError, IndexError, ValueError):
        return 0


def _page_size() -> int:
    return int(os.sysconf("SC_PAGE_SIZE"))
