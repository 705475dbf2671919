"""Options that are more than a number: how many actors, how many failures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ActorRange:
    """How many actors a pool has: from `least` to `most`."""

    least: int
    most: int

    @classmethod
    def parse(cls, value: object) -> ActorRange | None:
        if value is None or isinstance(value, ActorRange):
            return value
        first, _, second = str(value).partition(":")
        try:
            least = int(first)
            most = int(second) if second else least
        except ValueError:
            raise ValueError("expected MIN or MIN:MAX") from None
        if not 1 <= least <= most:
            raise ValueError("expected 1 <= MIN <= MAX")
        return cls(least, most)

    def __str__(self) -> str:
        return str(self.least) if self.least == self.most else f"{self.least}:{self.most}"


@dataclass(frozen=True, slots=True)
class Limit:
    """How many of all may be so: a count, or a percentage."""

    count: int | None
    percent: float | None

    @classmethod
    def parse(cls, value: object) -> Limit:
        if isinstance(value, Limit):
            return value
        text = str(value).strip()
        try:
            if text.endswith("%"):
                percent = float(text[:-1])
                if not 0 <= percent <= 100:
                    raise ValueError
                return cls(None, percent)
            count = int(text)
            if count < 0:
                raise ValueError
            return cls(count, None)
        except ValueError:
            raise ValueError("expected a count or a percentage up to 100%") from None

    def exceeded(self, found: int, total: int) -> bool:
        if self.count is not None:
            return found > self.count
        assert self.percent is not None
        return found * 100 > self.percent * total

    def __str__(self) -> str:
        return str(self.count) if self.count is not None else f"{self.percent:g}%"
