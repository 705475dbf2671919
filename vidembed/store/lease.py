"""Who may write a run: one job at a time.

On a file system the operating system keeps the lock (flock), and gives it up with the process,
however that ends. On an object store the holder renews a lease in `RUN/lease.json`; a lease that
nobody has renewed for a while, by the clock of whoever waits, is taken over. Clocks of two machines
are never compared, so that none of them has to be right.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vidembed import sources
from vidembed.errors import BusyError, VidembedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LOCAL = ".lock"
_REMOTE = "lease.json"
_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds from one renewal to the next, after which a lease that is not renewed is free, and
    for which a new one is looked at again before it counts.
    """

    renew_s: float = 10.0
    free_s: float = 45.0
    settle_s: float = 2.0


PACE = Pace()

# What this job holds already: a round holds its run, and each of its steps would too. A thread of
# somebody else's job in this process does not inherit it.
_held: ContextVar[frozenset[str]] = ContextVar("held", default=frozenset())


@contextmanager
def held(uri: str, say: Callable[[str], None], pace: Pace = PACE) -> Iterator[None]:
    """Hold the run at `uri` while the block runs; within a block that holds it, this is nothing.

    say: is told, in a sentence, why this takes a while. Raises BusyError where another job holds
    it.
    """
    name = sources.absolute(uri)
    if name in _held.get():
        yield
        return
    with _locked(uri, say, pace):
        token = _held.set(_held.get() | {name})
        try:
            yield
        finally:
            _held.reset(token)


@contextmanager
def _locked(uri: str, say: Callable[[str], None], pace: Pace) -> Iterator[None]:
    if sources.is_local(uri):
        descriptor = _lock(sources.local_path(uri))
        if descriptor is not None:
            try:
                yield
            finally:
                # Not by closing alone: a child that is being started has it open for a moment more.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
                os.close(descriptor)
            return
    lease = _Lease(sources.join(uri, _REMOTE), pace)
    lease.take(say)
    try:
        yield
    finally:
        lease.give_back()


def _lock(folder: str) -> int | None:
    """An open file that is locked; None where the file system has no locks."""
    os.makedirs(folder, exist_ok=True)
    # Not inherited: a worker that outlives the driver must not keep the run locked.
    descriptor = os.open(os.path.join(folder, _LOCAL), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 4096).decode(errors="replace").strip()
        os.close(descriptor)
        raise BusyError(_busy(folder, holder or "another job")) from None
    except OSError as error:
        os.close(descriptor)
        if error.errno in _UNSUPPORTED:
            return None
        raise
    # Only a word for whoever finds it locked: a full disk has no room even for that.
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, _who(_now()).encode())
    return descriptor


class _Lease:
    def __init__(self, uri: str, pace: Pace) -> None:
        self._uri, self._pace = uri, pace
        self._token = uuid.uuid4().hex
        self._since = _now()
        self._beat = 0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, say: Callable[[str], None]) -> None:
        there = self._read()
        if there is not None:
            who = str(there.get("holder", "another job"))
            say(
                f"{self._uri} says that {who} is writing this run; waiting {self._pace.free_s:g} s "
                f"for a sign of life"
            )
            deadline = time.monotonic() + self._pace.free_s
            while time.monotonic() < deadline:
                time.sleep(min(1.0, self._pace.renew_s / 4))
                now = self._read()
                if now is None:
                    break
                if now != there:
                    raise BusyError(_busy(self._uri.rpartition("/")[0], who))
        self._write()
        # Two that find it free at once both write; the later one's stays.
        time.sleep(self._pace.settle_s)
        if (self._read() or {}).get("token") != self._token:
            raise BusyError(_busy(self._uri.rpartition("/")[0], "another job"))
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def give_back(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        # One that cannot be removed now is free after a while.
        with suppress(OSError, VidembedError):
            if (self._read() or {}).get("token") == self._token:
                sources.remove(self._uri)

    def _renew(self) -> None:
        while not self._over.wait(self._pace.renew_s):
            try:
                if (self._read() or {}).get("token") != self._token:
                    # Taken over, after a silence of ours: the run's attempt is another's now, and
                    # the write stage refuses what still comes from here.
                    return
                self._write()
            except (OSError, VidembedError):
                continue

    def _write(self) -> None:
        self._beat += 1
        record = {"holder": _who(self._since), "token": self._token, "beat": self._beat}
        sources.write_whole(self._uri, json.dumps(record).encode())

    def _read(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(sources.read_whole(self._uri))
        except FileNotFoundError:
            return None
        except ValueError:
            return {}
        return found


def _who(since: str) -> str:
    """For people: nobody goes by the time, which is that of the holder's clock."""
    return f"process {os.getpid()} on {socket.gethostname()} (since {since})"


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())


def _busy(uri: str, holder: str) -> str:
    return (
        f"{uri} is being written by {holder}: one job at a time may write a run. Wait for it, stop "
        f"it, or name another --out"
    )
