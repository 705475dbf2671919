"""A command with all that it starts: found and killed by pid, also what has outlived it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MARK = "TEST_FAMILY"


@dataclass(frozen=True)
class Member:
    """A process. words: its command line, or the title that it has given itself."""

    pid: int
    words: str


class Family:
    """Started on creation. Whatever inherits its environment belongs to it, whoever its parent is
    by then: Ray's processes too, which are in sessions of their own.
    """

    def __init__(
        self, words: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._mark = f"{_MARK}={uuid.uuid4().hex}"
        name, _, value = self._mark.partition("=")
        self.log = log
        # Else a title that a process gives itself is written over its environment.
        self.environment = {**os.environ, **(environment or {}), name: value, "SPT_NOENV": "1"}
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                words,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def members(self) -> list[Member]:
        """Those that are alive, the command itself included."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit() and self._is_member(int(entry)):
                with contextlib.suppress(OSError):
                    words = Path("/proc", entry, "cmdline").read_bytes().replace(b"\0", b" ")
                    found.append(Member(int(entry), words.decode(errors="replace").strip()))
        return found

    def _is_member(self, pid: int) -> bool:
        try:
            environment = Path("/proc", str(pid), "environ").read_bytes()
        except OSError:
            return False
        return self._mark.encode() in environment.split(b"\0")

    def kill(self, pid: int) -> bool:
        """SIGKILL to a member; False where it is none, or none any more."""
        if not self._is_member(pid):
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return True
        return False

    def wait(self, seconds: float) -> int:
        """The exit code of the command. Raises AssertionError, with its last words, where it takes
        longer.
        """
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not done after {seconds:g} s: {self.said()}") from None

    def wait_gone(self, seconds: float, but: Sequence[str] = ()) -> list[Member]:
        """Wait for them to be gone, but for those with such words; returns those that are not."""
        deadline = time.monotonic() + seconds
        while True:
            left = [m for m in self.members() if not any(words in m.words for words in but)]
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.1)

    def end(self) -> None:
        """Kill them all, and those that they start meanwhile."""
        deadline = time.monotonic() + 30
        while (left := self.members()) and time.monotonic() < deadline:
            for member in left:
                self.kill(member.pid)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.1)
        self.process.wait(5)

    def said(self, most: int = 3000) -> str:
        """The end of what was printed, by all commands that share the log."""
        return self.log.read_text(errors="replace")[-most:]
