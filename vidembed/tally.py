"""What a stage says about itself while it works: counts and seconds, to whoever listens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One batch of one stage on one worker.

    began: Unix time; seconds: how long the worker was busy with it. videos and clips count what
    came out well; failures what did not, by class. thumbnails: (id, JPEG) of a few clips.
    effort: further counts of the stage's own, to be added up.
    """

    stage: str
    worker: str
    began: float
    seconds: float
    videos: float = 0
    clips: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    thumbnails: tuple[tuple[str, bytes], ...] = ()
    effort: dict[str, int] = field(default_factory=dict)


def encode_stage(label: str) -> str:
    """The stage of the encoder `label`; that of one that is alone is `encode`."""
    return f"encode {label}" if label else "encode"


class Tally(Protocol):
    """Takes events; must not block and must not fail the work that it counts."""

    def __call__(self, event: Event) -> None: ...


def silent(event: Event) -> None:
    """The tally of one who does not listen."""
