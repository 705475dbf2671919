"""A bad day of an object store: a proxy before a real server, whose answers go wrong at random."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass

from tests.helpers.http import SLOW_DOWN, FaultyProxy


@dataclass(frozen=True)
class Weather:
    """Shares of all requests. cut: answers that break off in the middle; dropped: requests that
    are never answered, half of them after the server has done what they ask for.
    """

    slow_down: float = 0.05
    dropped: float = 0.04
    cut: float = 0.04
    late: float = 0.1
    late_s: float = 1.0


class RoughProxy(FaultyProxy):
    """Passes requests on, but for a share of them. counts: what was done to how many."""

    def __init__(self, origin: str, weather: Weather, seed: int) -> None:
        super().__init__(origin)
        self.weather = weather
        self.counts: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def answer(self, handler, fault):
        kind, where = self._draw()
        if kind == "late":
            time.sleep(where * self.weather.late_s)
        if kind == "slow_down":
            self._swallow(handler)
            return handler.reply(SLOW_DOWN.status, SLOW_DOWN.headers, SLOW_DOWN.body)
        if kind == "dropped":
            if where < 0.5:
                self._swallow(handler)
            else:
                self.pass_on(handler)
            handler.close_connection = True
            return None
        status, headers, body = self.pass_on(handler)
        cut = int(where * len(body)) if kind == "cut" and body else None
        return handler.reply(status, headers, body, cut)

    def _draw(self) -> tuple[str, float]:
        with self._lock:
            at, where = self._random.random(), self._random.random()
            for kind in ("slow_down", "dropped", "cut", "late"):
                at -= getattr(self.weather, kind)
                if at < 0:
                    break
            else:
                kind = "passed"
            self.counts[kind] += 1
        return kind, where

    def _swallow(self, handler) -> None:
        handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
