"""The record of a comparison as JSON, and its tables as Markdown."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.comparing.contenders import EVERYBODY, LIMIT, OURS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.comparing.contenders import Encoder
    from benchmarks.comparing.measure import Bad, Result

TARGETS = {"uniform": 1.2, "fast": 2.0}
_ENCODERS: dict[Encoder, str] = {"null": "null encoder", "clip": "CLIP ViT-B/32"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All that was measured. absent: why contenders are, by name."""

    about: dict[str, Any]
    results: dict[str, dict[Encoder, Result]]
    absent: dict[str, str]
    bad: dict[str, Bad]

    def best_peer(self, encoder: Encoder) -> str | None:
        """Whose clip costs least."""
        able = {
            who: statistics.median(by[encoder].per_clip)
            for who, by in self.results.items()
            if who not in (*OURS, LIMIT) and encoder in by and by[encoder].per_clip
        }
        # What so few clips do not tell from nothing is no cost.
        able = {who: cost for who, cost in able.items() if cost > 0}
        return min(able, key=lambda who: able[who], default=None)

    def ratios(self, who: str, other: str | None, encoder: Encoder) -> list[float]:
        """Round by round: the cost of a clip of `who` as a share of the other's."""
        found = [self.results.get(name or "", {}).get(encoder) for name in (who, other)]
        mine, theirs = ([] if result is None else result.per_clip for result in found)
        return [a / b for a, b in zip(mine, theirs, strict=False) if a > 0 and b > 0]

    def cheaper(self, who: str, encoder: Encoder) -> list[float]:
        """Round by round: how many times cheaper a clip is than with the best peer."""
        return [1 / ratio for ratio in self.ratios(who, self.best_peer(encoder), encoder)]


def record(run: Run) -> dict[str, Any]:
    return {
        **run.about,
        "absent": run.absent,
        "results": {
            who: {encoder: _numbers(run, who, encoder, result) for encoder, result in by.items()}
            for who, by in run.results.items()
        },
        "best_peer": {encoder: run.best_peer(encoder) for encoder in _ENCODERS},
        "bad_files": {who: asdict(bad) for who, bad in run.bad.items()},
    }


def _numbers(run: Run, who: str, encoder: Encoder, result: Result) -> dict[str, Any]:
    found = asdict(result)
    if result.per_clip:
        found["cpu_s_per_clip"] = statistics.median(result.per_clip)
        found["cpu_s_start_up"] = statistics.median(result.start_up)
        found["peak_mib"] = result.peak_mib
        cheaper, limit = run.cheaper(who, encoder), run.ratios(who, LIMIT, encoder)
        found["times_cheaper_than_best_peer"] = statistics.median(cheaper) if cheaper else None
        found["of_the_bare_loops"] = statistics.median(limit) if limit else None
    return found


def markdown(run: Run) -> str:
    about = run.about
    versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
    parts = [
        f"# Embedding beside others, {about['date']}\n",
        (
            f"vidembed at `{about['commit']}`, in turn on one machine ({about['cpu']}, "
            f"{about['cores']} cores; load at the start {about['load']}). {versions}.\n"
        ),
        about["note"] + "\n" if about["note"] else "",
        f"`python benchmarks/peers.py {about['words']}`\n".replace(" `", "`"),
        (
            f"{about['clips']}. CPU time is user and system time of the whole command, of all its "
            "processes. A run of few clips and one of many, round by round, tell what a clip costs "
            "from what comes before the first. Everybody decodes with one thread a video, scales "
            "the short side to 224 (bicubic), crops, and encodes with the same code and the same "
            "weights, drawn from a seed; clip-video-encode and Daft scale in their own way. The "
            "bare loops are vidembed's own decoder and encoder in one process, with no data flow "
            "around them: the limit of `uniform`. Peak memory is the largest sum of the processes' "
            "proportional set sizes.\n"
        ),
        "".join(f"- Left out: {_title(who)}: {why}\n" for who, why in run.absent.items()),
        *(_section(run, encoder) for encoder in _ENCODERS if _has(run, encoder)),
        _bad(run) if run.bad else "",
    ]
    return "\n".join(part for part in parts if part)


def _has(run: Run, encoder: Encoder) -> bool:
    return any(encoder in by for by in run.results.values())


def _section(run: Run, encoder: Encoder) -> str:
    best = run.best_peer(encoder)
    rows, problems = [], []
    for who, by in run.results.items():
        result = by.get(encoder)
        if result is None:
            continue
        if result.problem:
            problems.append(f"- {_title(who)}: {result.problem}\n")
        if result.per_clip:
            rows.append(_row(run, who, encoder, result))
    heads = [
        "who", "frames", "CPU-ms a clip", "clips a CPU-second", "times cheaper than the best peer",
        "share of the bare loops",
        "start-up, CPU-s", "wall-ms a clip", "peak MiB", "processes",
    ]  # fmt: skip
    few, many, rounds = _lengths(run, encoder)
    about = (
        f"{few} and {many} clips, {rounds} rounds: medians, least and most in brackets. The best "
        f"peer is {_title(best) if best else 'nobody'}.\n\n"
    )
    name = _ENCODERS[encoder] + (f", {run.about['dtype']}" if encoder == "clip" else "")
    head = f"## {name[0].upper()}{name[1:]}\n\n"
    return head + about + table(heads, rows) + ("\n" + "".join(problems) if problems else "")


def _lengths(run: Run, encoder: Encoder) -> tuple[int, int, int]:
    results = [by[encoder] for by in run.results.values() if encoder in by]
    return results[0].few, results[0].many, max(len(result.rounds) for result in results)


def _row(run: Run, who: str, encoder: Encoder, result: Result) -> list[str]:
    cost = statistics.median(result.per_clip)
    return [
        _title(who),
        EVERYBODY[who].frames,
        _spread([1000 * s for s in result.per_clip], "{:.0f}"),
        f"{1 / cost:.2f}" if cost > 0 else "–",
        _spread(run.cheaper(who, encoder), "{:.2f}"),
        _spread(run.ratios(who, LIMIT, encoder), "{:.2f}"),
        _spread(result.start_up, "{:.1f}"),
        f"{1000 * statistics.median(result.wall_per_clip):.0f}",
        f"{result.peak_mib:,.0f}",
        str(result.processes),
    ]


def _bad(run: Run) -> str:
    rows = []
    for who, bad in run.bad.items():
        ending = f"{bad.code}" + f" ({bad.said.partition(': ')[2]})" * bool(bad.code)
        rows.append([
            _title(who),
            ending.replace("|", "/"),
            f"{bad.good} of {bad.of}",
            ", ".join(name.removesuffix(".mp4") for name in bad.as_whole) or "none",
            f"{len(bad.named)} of {bad.of_bad}",
        ])  # fmt: skip
    heads = ["who", "exit code", "sound clips embedded", "bad files embedded as if whole", "named"]
    about = (
        "Four files that cannot be embedded whole in the middle of the list, with the null "
        "encoder: an empty one, a web page, a video cut in half, one without its index.\n\n"
    )
    return "## With bad files\n\n" + about + table(heads, rows)


def _title(who: str) -> str:
    return EVERYBODY[who].title


def _spread(values: list[float], form: str) -> str:
    if not values:
        return "–"
    middle = form.format(statistics.median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({form.format(min(values))}–{form.format(max(values))})"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(heads), *(list(row) for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
