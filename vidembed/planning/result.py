"""What a plan says, for people and for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from vidembed.planning.choices import Move

Origin = Literal["measured", "given", "assumed"]
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number that the plan rests on. interval: 95%, of a mean over the sample."""

    name: str
    value: float
    unit: str
    origin: Origin
    interval: Interval | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is expected of one cluster. Intervals: 95%, by what the sample leaves open.

    nodes: by type; limits: videos/s that each part allows, the bottleneck first; next_gain: how
    many times faster the job is when the bottleneck is moved, until `next` binds; flags: that
    `embed` needs besides; cost: in the price file's currency; met: the deadline, if there is one.
    """

    name: str
    nodes: dict[str, int]
    videos_per_s: float
    seconds: float
    seconds_interval: Interval
    cost: float | None
    cost_interval: Interval | None
    bottleneck: str
    next: str
    next_gain: float
    limits: dict[str, float]
    moves: tuple[Move, ...]
    decode_actors: str
    encode_actors: str
    flags: str
    store_bytes: float
    store_limit: float | None
    met: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `vidembed plan` has found.

    here: the outlook for this machine; outlooks: for the clusters that were looked at, the cheapest
    first; cpus_per_gpu: by kind of GPU, how many CPUs keep one busy.
    """

    manifest: str
    videos: int
    sampled: int
    failures: dict[str, int]
    encoders: tuple[str, ...]
    machine: dict[str, Any]
    figures: tuple[Figure, ...]
    here: Outlook
    outlooks: tuple[Outlook, ...]
    cpus_per_gpu: dict[str, float]
    not_measured: tuple[str, ...]
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]
    prices: dict[str, str]
    deadline_hours: float | None
    versions: dict[str, str]
    made: str

    def plain(self) -> dict[str, Any]:
        """As JSON values; what is without a bound is null."""
        found: dict[str, Any] = _finite(asdict(self))
        return found

    def json(self) -> str:
        return json.dumps(self.plain(), indent=2) + "\n"

    def figure(self, name: str) -> Figure:
        return next(figure for figure in self.figures if figure.name == name)

    @property
    def cheapest(self) -> Outlook | None:
        priced = [each for each in self.outlooks if each.cost is not None and each.met is not False]
        return min(priced, key=lambda each: each.cost or 0.0, default=None)

    @property
    def fastest(self) -> Outlook | None:
        return min(self.outlooks, key=lambda each: each.seconds, default=None)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return None
    return value
