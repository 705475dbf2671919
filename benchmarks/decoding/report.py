"""The record of a run as JSON, and its tables as Markdown."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.decoding.contenders import PEERS
from benchmarks.decoding.inputs import COUNT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.decoding.handover import HandOver
    from benchmarks.decoding.inputs import Clip
    from benchmarks.decoding.measure import Result

_REFERENCE = "decord"
_OURS = ("vidembed uniform auto", "vidembed fast auto", "vidembed keyframes auto")
# Below so much difference two are called equal: what one run's rounds tell apart.
_EQUAL = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All that was measured. about: of the machine and the run; results: by clip and contender;
    absent: why contenders are, by name; cosines, handed_over: or why they were not measured.
    """

    about: dict[str, Any]
    clips: list[Clip]
    results: dict[str, dict[str, Result]]
    absent: dict[str, str]
    cosines: dict[str, dict[str, float | str]] | str
    handed_over: HandOver | str

    @property
    def everybody(self) -> list[str]:
        return [who for who in self.about["contenders"] if who not in self.absent]

    def ratios(self, clip: Clip, who: str, other: str | None) -> list[float]:
        """CPU time of one as a share of the other's, round by round; empty where one has none."""
        by = self.results[clip.name]
        if who not in by or other is None or other not in by:
            return []
        mine, theirs = by[who].cpu, by[other].cpu
        if len(mine) != len(theirs):
            return []
        return [a / b for a, b in zip(mine, theirs, strict=True)]

    def fastest_peer(self, clip: Clip) -> str | None:
        """Of those that gave the right frames and whose times are sound."""
        by = self.results[clip.name]
        able = [who for who in PEERS if who in by and by[who].is_sound]
        return min(able, key=lambda who: statistics.median(by[who].cpu), default=None)


def record(run: Run) -> dict[str, Any]:
    """As plain values, times in seconds. No folder of this machine is in it."""
    over = run.handed_over
    return {
        **run.about,
        "absent": run.absent,
        "clips": {c.name: {k: v for k, v in asdict(c).items() if k != "path"} for c in run.clips},
        "wanted_frames": {c.name: c.wanted.tolist() for c in run.clips},
        "results": {
            name: {who: _numbers(result) for who, result in by.items()}
            for name, by in run.results.items()
        },
        "cosine_to_uniform": run.cosines,
        "hand_over": over
        if isinstance(over, str)
        else asdict(over) | {"share": over.share, "parent_share": over.parent_share},
    }


def _numbers(result: Result) -> dict[str, Any]:
    found = {k: v for k, v in asdict(result).items() if v not in (None, [])}
    if result.cpu:
        found["cpu_median"] = statistics.median(result.cpu)
        found["cpu_per_wanted_frame"] = found["cpu_median"] / COUNT
        found["cpu_quartiles"] = _quartiles(result.cpu)
    return found


def markdown(run: Run) -> str:
    about = run.about
    versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
    parts = [
        f"# Decoding {COUNT} frames of a video, {about['date']}\n",
        (
            f"vidembed at `{about['commit']}`, {about['repeats']} rounds, one thread each, in turn "
            f"on one machine ({about['cpu']}, {about['cores']} cores; load at the start "
            f"{about['load']}). {versions}.\n"
        ),
        about["note"] + "\n" if about["note"] else "",
        (
            "CPU time is user and system time of one call in a process that is warm; of the ffmpeg "
            f"command its start is subtracted. Everybody is asked for the same {COUNT} frames, but "
            "`fast` and `keyframes` choose their own.\n"
        ),
        "".join(f"- Left out: {who}: {why}\n" for who, why in run.absent.items()),
        "".join(f"- Not a clip: {name}: {why}\n" for name, why in about["refused"].items()),
        "## CPU time as a share of the fastest peer's\n",
        (
            "Below 1 is less than all of decord, PyAV, torchcodec and ffmpeg need. Medians of the "
            "rounds' ratios, quartiles in brackets. The ffmpeg command does not count where its "
            "start outweighs its work.\n"
        ),
        _against_the_fastest(run),
        f"## CPU time as a share of {_REFERENCE}'s\n",
        _against_the_reference(run),
        "## CPU-milliseconds a video on this machine\n",
        f"For scale only: medians, quartiles in brackets; of one frame, {COUNT} times less.\n",
        _milliseconds(run),
        "## Frames\n",
        _findings(run),
        "## Vectors\n",
        _vectors(run.cosines),
        "## Hand-over between the processes\n",
        _hand_over(run.handed_over),
        "## Clips\n",
        _clips(run.clips),
    ]
    return "\n".join(part for part in parts if part)


def _against_the_fastest(run: Run) -> str:
    ours = [who for who in _OURS if who in run.everybody]
    rows: list[list[str]] = []
    medians: dict[str, list[float]] = {who: [] for who in ours}
    for clip in run.clips:
        peer = run.fastest_peer(clip)
        cells = [clip.name, peer or "none"]
        for who in ours:
            found = run.ratios(clip, who, peer)
            medians[who] += [statistics.median(found)] if found else []
            cells.append(_spread(found, "{:.2f}"))
        rows.append([*cells, _slower_than(run, clip)])
    rows.append(["**geometric mean**", "", *(_mean(medians[who]) for who in ours), ""])
    return _table(["clip", "fastest peer", *ours, "`uniform` is slower than"], rows)


def _slower_than(run: Run, clip: Clip) -> str:
    """The peers that exact `uniform` loses to by more than noise."""
    found = {who: run.ratios(clip, _OURS[0], who) for who in PEERS}
    right = [who for who, each in found.items() if each and run.results[clip.name][who].is_sound]
    lost = [who for who in right if statistics.median(found[who]) > 1 + _EQUAL]
    return ", ".join(lost) or ("nobody" if right else "–")


def _against_the_reference(run: Run) -> str:
    rows = []
    medians: dict[str, list[float]] = {who: [] for who in run.everybody}
    for clip in run.clips:
        cells = [clip.name]
        for who in run.everybody:
            found = run.ratios(clip, who, _REFERENCE)
            medians[who] += [statistics.median(found)] if found else []
            cells.append(f"{statistics.median(found):.2f}" if found else "–")
        rows.append(cells)
    rows.append(["**geometric mean**", *(_mean(medians[who]) for who in run.everybody)])
    return _table(["clip", *run.everybody], rows)


def _milliseconds(run: Run) -> str:
    rows = []
    for clip in run.clips:
        by = run.results[clip.name]
        times = ([1000 * t for t in by[who].cpu] if who in by else [] for who in run.everybody)
        rows.append([clip.name, *(_spread(each, "{:.0f}") for each in times)])
    return _table(["clip", *run.everybody], rows)


def _findings(run: Run) -> str:
    """What was not right; and the largest difference among what was."""
    lines, most = [], 0.0
    for clip in run.clips:
        for who, result in run.results[clip.name].items():
            if result.problem:
                lines.append(f"- {clip.name}: {who}: {result.problem}")
            elif -1 in result.shown:
                lines.append(f"- {clip.name}: **{who}: another shape** (not upright?)")
            elif result.wrong:
                lines.append(f"- {clip.name}: **{who}: {result.wrong} of {COUNT} wrong frames**")
            else:
                most = max(most, result.difference or 0.0)
    lines.append(
        "- Otherwise the frames are those that they should be; their mean absolute difference to "
        f"the reference's (ffmpeg's where it ran) is at most {most:.2f} of 255."
    )
    return "\n".join(lines) + "\n"


def _vectors(cosines: dict[str, dict[str, float | str]] | str) -> str:
    if isinstance(cosines, str):
        return f"Not measured: {cosines}\n"
    rows = []
    for sampling, by in cosines.items():
        found = {name: c for name, c in by.items() if isinstance(c, float)}
        if not found:
            rows.append([sampling, "0", "–", next(iter(by.values()), "–"), ""])
            continue
        worst = min(found, key=lambda name: found[name])
        mean = statistics.mean(found.values())
        rows.append([sampling, str(len(found)), f"{mean:.4f}", f"{found[worst]:.4f}", worst])
    about = (
        "Cosine to the vector of exact `uniform`: EfficientNet-lite0 with its ImageNet weights, "
        "mean of 12 frame features, normalised.\n\n"
    )
    return about + _table(["sampling", "clips", "mean", "worst", "worst clip"], rows)


def _hand_over(found: HandOver | str) -> str:
    if isinstance(found, str):
        return f"Not measured: {found}\n"
    return (
        f"Frames decoded in the child process and read by its parent: {100 * found.share:.1f} % of "
        f"the CPU time is more than one process needs for the same; the parent, which reads every "
        f"frame, spends {100 * found.parent_share:.1f} % of it.\n"
    )


def _clips(clips: list[Clip]) -> str:
    rows = [
        [
            c.name,
            c.codec,
            f"{c.width}x{c.height}",
            f"{c.fps:.4g}",
            str(c.frames),
            f"{c.frames / max(1, c.keyframes):.0f}",
            f"{c.size * 8 * c.fps / c.frames / 1e6:.2f}",
        ]
        for c in clips
    ]
    heads = ["clip", "codec", "size", "frames/s", "frames", "frames a keyframe", "Mbit/s"]
    return _table(heads, rows)


def _mean(found: list[float]) -> str:
    return f"**{statistics.geometric_mean(found):.2f}**" if found else "–"


def _quartiles(values: list[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def _spread(values: list[float], form: str) -> str:
    if not values:
        return "–"
    low, high = _quartiles(values)
    middle = form.format(statistics.median(values))
    return f"{middle} ({form.format(low)}–{form.format(high)})"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(heads), *(list(row) for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
