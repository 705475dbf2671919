"""Where this folder is on the Python path: `time.time` is off by the seconds that the file
JUMPING_CLOCK holds, in every process that inherits it, and jumps when they change.
"""

from __future__ import annotations

import os
import time

_file = os.environ.get("JUMPING_CLOCK")
_true = time.time


def _jumping() -> float:
    try:
        with open(_file) as file:
            return _true() + float(file.read() or 0)
    except (OSError, ValueError):
        return _true()


if _file:
    time.time = _jumping
