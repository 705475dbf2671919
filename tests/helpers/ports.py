"""Free loopback ports."""

from __future__ import annotations

import random
import socket


def free_port(low: int = 20000, high: int = 29999, also: int = 0) -> int:
    """A port that nobody listens on; with `also`, port + also is free too."""
    for _ in range(200):
        port = random.randint(low, high)
        if _free(port) and (not also or _free(port + also)):
            return port
    raise RuntimeError("no free port")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
