"""Faults that a decode child is made to have: named by the environment variable
VIDEMBED_DECODE_DRILL as `tests.helpers.drills:by_name`.
"""

from __future__ import annotations

import ctypes
import os
import time


def by_name(uri: str) -> None:
    """Hang, crash, bloat or litter where the address asks for it; note every call in a log, and
    take DRILL_SLOW_S seconds longer.
    """
    if log := os.environ.get("DRILL_LOG"):
        with open(log, "a") as file:
            file.write(f"{os.getpid()}\n")
    if log := os.environ.get("DRILL_WORK_LOG"):
        with open(log, "a") as file:
            file.write(f"decode {os.getppid()} {uri}\n")
    time.sleep(float(os.environ.get("DRILL_SLOW_S", "0")))
    for word, fault in _FAULTS.items():
        if word in os.path.basename(uri):
            fault()


def _hang() -> None:
    # In native code and with Python's lock held: no signal handler, no thread gets a turn.
    ctypes.PyDLL(None).sleep(600)


def _crash() -> None:
    ctypes.string_at(0)


def _crash_once() -> None:
    marker = os.environ["DRILL_LOG"] + ".crashed"
    if not os.path.exists(marker):
        with open(marker, "w"):
            pass
        _crash()


def _bloat() -> None:
    held = []
    for _ in range(24):
        held.append(bytearray(os.urandom(1)) * (64 << 20))
        time.sleep(0.02)
    time.sleep(600)


def _litter() -> None:
    """What a download leaves when its process is killed, then a hang."""
    import tempfile

    with open(os.path.join(tempfile.mkdtemp(), "half-a-video"), "wb") as file:
        file.write(bytes(1 << 20))
    _hang()


_FAULTS = {
    "hang": _hang,
    "crashonce": _crash_once,
    "crashalways": _crash,
    "bloat": _bloat,
    "litter": _litter,
}
