"""What a stage says about itself while it works: counts and seconds, to whoever listens."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Protocol

# An event a video would be a message a video, and one process that takes them all.
_GATHERED_S = 1.0
_GATHERED = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """What one part of a run holds, or what a collection has taken of it.

    rows: vectors; videos: whole ones, of a video in several parts a share; failed: videos by
    (stage, class). sent: rows that Milvus took; sent_s: seconds of waiting for it.
    """

    rows: int = 0
    videos: float = 0.0
    failed: dict[tuple[str, str], int] = field(default_factory=dict)
    sent: int = 0
    sent_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One batch of one stage on one worker.

    began: Unix time; seconds: how long the worker was busy with it. videos and clips count what
    came out well; failures what did not, by class. thumbnails: (id, JPEG) of a few clips.
    effort: further counts of the stage's own, to be added up. slots: clips that the batch had room
    for. committed: what was written into which run, by its encoder's label. each: the seconds of
    each batch, where the event is a sum of several.
    """

    stage: str
    worker: str
    began: float
    seconds: float
    videos: float = 0
    clips: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    thumbnails: tuple[tuple[str, bytes], ...] = ()
    effort: dict[str, float] = field(default_factory=dict)
    slots: int = 0
    committed: dict[str, Committed] = field(default_factory=dict)
    each: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What of the run `label` a Milvus collection does not have yet. since: Unix time since when
    the oldest of it waits; None where nothing does.
    """

    label: str
    parts: int
    rows: int
    since: float | None


class Tally(Protocol):
    """Takes events; must not block and must not fail the work that it counts."""

    def __call__(self, event: Event, /) -> None: ...


def encode_stage(label: str) -> str:
    """The stage of the encoder `label`; that of one that is alone is `encode`."""
    return f"encode {label}" if label else "encode"


def silent(event: Event) -> None:
    """The tally of one who does not listen."""


class Gathered:
    """A tally for a stage that tells of every row: events are added up, and passed on as one a
    second at most.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._held: list[Event] = []
        self._since = 0.0

    def __call__(self, event: Event, /) -> None:
        if not self._held:
            self._since = time.monotonic()
        self._held.append(event)
        if time.monotonic() - self._since >= _GATHERED_S or len(self._held) >= _GATHERED:
            self.flush()

    def flush(self) -> None:
        """Pass on what is held: before a stage waits for others, and at the end of its work."""
        if self._held:
            held, self._held = self._held, []
            self._tally(_sum(held) if len(held) > 1 else held[0])


def _sum(events: list[Event]) -> Event:
    """One event of what several of one stage and worker say, in their order."""
    failures: Counter[str] = Counter()
    effort: dict[str, float] = {}
    for event in events:
        failures.update(event.failures)
        for name, amount in event.effort.items():
            effort[name] = effort.get(name, 0) + amount
    return replace(
        events[0],
        seconds=sum(event.seconds for event in events),
        videos=sum(event.videos for event in events),
        clips=sum(event.clips for event in events),
        slots=sum(event.slots for event in events),
        failures=dict(failures),
        effort=effort,
        thumbnails=tuple(each for event in events for each in event.thumbnails),
        each=tuple(event.seconds for event in events),
    )
