"""What a person sees while a run works: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from vidembed import log

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidembed.pipeline.monitor import Snapshot

_BAR_EVERY_S = 0.5
_PLAIN_EVERY_S = 10.0
_BAR_WIDTH = 24


def choose(progress: str) -> str:
    """`bar` on a terminal and `plain` elsewhere, where `auto` leaves it open."""
    if progress == "bar" and log.is_json():
        return "plain"
    if progress != "auto":
        return progress
    return "bar" if sys.stderr.isatty() and not log.is_json() else "plain"


def say(sentence: str) -> None:
    """One line for whoever watches, whatever the mode."""
    if not log.said("notice", message=sentence):
        print(sentence, file=sys.stderr, flush=True)


class Progress:
    """Asks `look` for a snapshot now and then, in a thread of its own, and shows it.

    `between` is called at the same pace, for work that follows the run (the projection).
    """

    def __init__(
        self,
        mode: str,
        total: int,
        look: Callable[[], Snapshot | None],
        between: Callable[[], str],
    ) -> None:
        self._mode = choose(mode)
        self._total = total
        self._look = look
        self._between = between
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._console = Console(stderr=True, highlight=False)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        if self._mode == "bar":
            with Live(console=self._console, transient=True, auto_refresh=False) as live:
                self._loop(
                    _BAR_EVERY_S, lambda text: live.update(Text(text, no_wrap=True), refresh=True)
                )
        elif self._mode == "plain":
            self._loop(_PLAIN_EVERY_S, _say_progress)
        else:
            self._loop(_PLAIN_EVERY_S, lambda text: None)

    def _loop(self, every: float, show: Any) -> None:
        # The first line comes soon, so that nobody wonders whether it has started.
        wait = min(every, 2.0)
        while not self._stop.wait(wait):
            wait = every
            snapshot = self._look()
            note = self._between()
            if snapshot is not None:
                show(self._line(snapshot, note))
        if self._mode == "plain" and (last := self._look()) is not None:
            # A run that ends between two lines has its numbers said as well.
            show(self._line(last, self._between()))

    def _line(self, snapshot: Snapshot, note: str) -> str:
        if not snapshot.decoded and not snapshot.failed:
            # Rates are of the work: starting actors and loading weights is no part of it.
            self._began = time.monotonic()
        elapsed = time.monotonic() - self._began
        bar = f"{_bar(snapshot, self._total)} " if self._mode == "bar" else ""
        return bar + describe(snapshot, self._total, elapsed) + note


def _say_progress(line: str) -> None:
    if not log.said("progress", message=line):
        print(line, file=sys.stderr, flush=True)


def _bar(snapshot: Snapshot, total: int) -> str:
    done = (snapshot.videos + snapshot.failed) / max(1, total)
    filled = min(_BAR_WIDTH, int(done * _BAR_WIDTH))
    return "━" * filled + "╌" * (_BAR_WIDTH - filled)


def describe(snapshot: Snapshot, total: int, elapsed: float) -> str:
    """One line: videos done of total, rates, failures, time left, and the bottleneck."""
    done = round(snapshot.videos) + snapshot.failed
    if not done and not snapshot.decoded:
        return f"0/{total:,} videos  starting: actors and weights"
    if not done:
        return f"0/{total:,} videos  {round(snapshot.decoded):,} decoded, none written yet"
    rate = done / max(elapsed, 1e-9)
    clips = snapshot.clips / max(elapsed, 1e-9)
    return (
        f"{done:,}/{total:,} videos  {rate:.1f} videos/s  {clips:.1f} clips/s  "
        f"{snapshot.failed:,} failed  {duration((total - done) / rate)} left  "
        f"bottleneck: {snapshot.bottleneck}{_share(snapshot)}"
    )


def _share(snapshot: Snapshot) -> str:
    share = snapshot.shares.get(snapshot.bottleneck)
    return f" ({share:.0%} busy)" if share is not None else ""


def duration(seconds: float) -> str:
    """For people: `42 s`, `5 min 3 s`, `2 h 10 min`, `3 d 4 h`."""
    s = round(seconds)
    if s < 60:
        return f"{s} s"
    if s < 3600:
        return f"{s // 60} min {s % 60} s"
    if s < 86400:
        return f"{s // 3600} h {s % 3600 // 60} min"
    return f"{s // 86400} d {s % 86400 // 3600} h"
