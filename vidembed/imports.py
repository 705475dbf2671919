"""How a process imports much at once."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def unswept() -> Iterator[None]:
    """Have Python's collector leave alone all that is imported meanwhile: it would go through it
    dozens of times, and again when the process ends, and free nothing. A third of a second of CPU
    for torch. What the process has made so far is left alone too, and cycles in it are not freed.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was:
            gc.enable()
