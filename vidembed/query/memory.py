"""How much memory there is for vectors."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_SHARE = 4
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def usual() -> int:
    """Bytes: a quarter of the machine's memory, or of what a container may use of it."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in _LIMITS:
        # No such file, or the word `max`: no limit.
        with suppress(OSError, ValueError):
            there = min(there, int(Path(limit).read_text(encoding="ascii")))
    return there // _SHARE
