"""The scheduling policy of this process, which an encoder of videos changes behind our back."""

from __future__ import annotations

import os
from contextlib import contextmanager


@contextmanager
def kept_ordinary():
    """SVT-AV1, run by root, makes the calling thread a real-time one (SCHED_FIFO 99) for good. All
    that the process starts later would inherit that, and a Ray worker whose threads spin would
    take the machine away from everybody else.
    """
    try:
        yield
    finally:
        if is_real_time():
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def is_real_time() -> bool:
    return hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER
