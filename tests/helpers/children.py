"""The child processes of this one."""

from __future__ import annotations

import contextlib
from pathlib import Path


def children() -> set[int]:
    """Living and dead-but-unreaped ones, by pid."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        # A thread may end while we look.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found
