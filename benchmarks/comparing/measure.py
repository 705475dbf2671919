"""Runs in turn: everybody once with few clips and once with many, then again.

A run's CPU time is start-up plus a share for each clip. Two lengths tell them apart, round by
round: the slope is what a clip costs, the rest what comes before the first.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks import tree
from benchmarks.comparing import contenders

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.comparing.contenders import Contender, Encoder
    from benchmarks.comparing.inputs import Clips
    from benchmarks.tree import Usage

_DEADLINE_S = 300.0


@dataclass(slots=True)
class Result:
    """Of one contender with one encoder. few, many: how many clips, and each round's usage.

    problem: why there are no more rounds.
    """

    few: int
    many: int
    of_few: list[Usage] = field(default_factory=list)
    of_many: list[Usage] = field(default_factory=list)
    problem: str = ""

    @property
    def rounds(self) -> list[tuple[Usage, Usage]]:
        return list(zip(self.of_few, self.of_many, strict=False))

    @property
    def per_clip(self) -> list[float]:
        """CPU-seconds of one clip more."""
        return [(b.cpu_s - a.cpu_s) / (self.many - self.few) for a, b in self.rounds]

    @property
    def start_up(self) -> list[float]:
        """CPU-seconds of a run of no clips."""
        slopes = zip(self.rounds, self.per_clip, strict=True)
        return [a.cpu_s - slope * self.few for (a, _), slope in slopes]

    @property
    def wall_per_clip(self) -> list[float]:
        return [(b.wall_s - a.wall_s) / (self.many - self.few) for a, b in self.rounds]

    @property
    def peak_mib(self) -> float:
        return max((usage.peak_mib for usage in self.of_few + self.of_many), default=0.0)

    @property
    def processes(self) -> int:
        return max((usage.processes for usage in self.of_few + self.of_many), default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """What came of a list with bad files in it. good, of: rows of the sound files, and how many
    these are; as_whole: bad files that got a vector; named: that are named anywhere; of_bad: all.
    """

    code: int
    good: int
    of: int
    as_whole: list[str]
    named: list[str]
    of_bad: int
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all runs share. few, many: the files of the two lengths."""

    given: Clips
    weights: str
    few: list[Path]
    many: list[Path]
    place: Path
    interpreters: dict[str, str]

    def run(self, who: Contender, encoder: Encoder, files: list[Path]) -> tuple[Usage, set[str]]:
        """One run from an empty folder: its usage, and which files have a vector."""
        place = self.place / "run"
        shutil.rmtree(place, ignore_errors=True)
        contenders.write_lists(files, place)
        words = contenders.command(
            who, self.interpreters[who.name], encoder, self.given, self.weights, place
        )
        usage = tree.run(
            words,
            cwd=place,
            env=contenders.environment(),
            log=self.log,
            deadline_s=_DEADLINE_S,
        )
        return usage, contenders.rows(place, files)

    @property
    def log(self) -> Path:
        return self.place / "log.txt"


def measure(
    bench: Bench, everybody: list[Contender], encoders: dict[Encoder, int], many: dict[Encoder, int]
) -> Iterator[dict[str, dict[Encoder, Result]]]:
    """Results by name and encoder, so far, after each round.

    encoders: how many rounds of each; many: how many clips.
    """
    found: dict[str, dict[Encoder, Result]] = {
        who.name: {encoder: Result(len(bench.few), many[encoder]) for encoder in encoders}
        for who in everybody
    }
    for k in range(max(encoders.values())):
        for encoder, rounds in encoders.items():
            for who in everybody if k < rounds else []:
                result = found[who.name][encoder]
                for files, usages in (
                    (bench.few, result.of_few),
                    (bench.many[: many[encoder]], result.of_many),
                ):
                    if not result.problem:
                        _once(bench, who, encoder, files, result, usages)
        yield found


def _once(
    bench: Bench,
    who: Contender,
    encoder: Encoder,
    files: list[Path],
    result: Result,
    usages: list[Usage],
) -> None:
    usage, rows = bench.run(who, encoder, files)
    if usage.code or len(rows) != len(files):
        result.problem = f"{len(rows)} of {len(files)} rows, {_ending(usage, bench.log)}"
    else:
        usages.append(usage)
    print(
        f"{who.name} {encoder} {len(files)}: {usage.cpu_s:.1f} CPU-s, {usage.wall_s:.1f} s, "
        f"{usage.peak_mib:,.0f} MiB {result.problem}",
        flush=True,
    )


def with_bad_files(bench: Bench, who: Contender, sound: list[Path], broken: list[Path]) -> Bad:
    """The null encoder over a list that has the bad files in its middle."""
    half = len(sound) // 2
    usage, rows = bench.run(who, "null", sound[:half] + broken + sound[half:])
    return Bad(
        code=usage.code,
        good=len(rows & {file.name for file in sound}),
        of=len(sound),
        as_whole=sorted(rows & {file.name for file in broken}),
        named=contenders.named(bench.place / "run", bench.log, broken),
        of_bad=len(broken),
        said=_ending(usage, bench.log),
    )


def _ending(usage: Usage, log: Path) -> str:
    """The exit code, and the last line that names an error; no folder of this machine."""
    if usage.wall_s >= _DEADLINE_S:
        return f"not done within {_DEADLINE_S:.0f} s"
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    errors = [line for line in lines if "Error" in line.split(":")[0] and ":" in line]
    last = (errors or lines or [""])[-1]
    said = re.sub(r"/[^\s'\"]*/", "", last)[:160]
    return f"exit {usage.code}" + (f": {said}" if usage.code else "")
