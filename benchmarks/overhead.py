"""What the data flow costs: `vidembed embed` over a bare loop of its own decoder and encoder.

    python benchmarks/overhead.py [--clips N] [--clip-clips N] [--rounds N] [--short]

The same drawn clips of 240p and 10 s, the same encoder; the bare loop as one process for each core,
with one thread each. A run of few clips and one of many tell what a clip costs from what comes
before the first, for CPU seconds and for wall time alike. Once with an encoder that returns zeros,
so that the flow has nothing to hide behind, and once with CLIP ViT-B/32.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import machine, tree
from benchmarks.comparing import contenders, inputs

if TYPE_CHECKING:
    from benchmarks.comparing.contenders import Encoder
    from benchmarks.comparing.inputs import Clips
    from benchmarks.tree import Usage

RESULTS = machine.ROOT / "benchmarks" / "results"
TARGETS = {"CPU": 1.05, "busy": 0.9}
# All actors have begun by then, and belong to what comes before the first clip.
_FEW = 100
_TITLES: dict[Encoder, str] = {
    "null": "an encoder that returns zeros",
    "clip": "CLIP ViT-B/32, 12 frames",
}
_LIMIT, _OURS = "the bare loops", "vidembed embed"


def main() -> None:
    options = _options()
    place = Path(tempfile.mkdtemp(prefix="vidembed-overhead-"))
    try:
        found = measure(options, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    _write({"about": _about(options), "encoders": found}, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    say = parser.add_argument
    say("--short", action="store_true", help="400 clips, one round, CLIP not at all")
    say("--clips", type=int, help="the longer run with zeros [2000]")
    say("--clip-clips", type=int, help="the longer run with CLIP; 0 for none [300]")
    say("--rounds", type=int, help="[2]")
    say("--note", default="", help="a word on what else the machine did")
    say("--out", type=Path, default=RESULTS)
    say("--cache", type=Path, default=Path(tempfile.gettempdir()) / "vidembed-bench")
    options = parser.parse_args()
    options.clips = options.clips or (400 if options.short else 2000)
    if options.clip_clips is None:
        options.clip_clips = 0 if options.short else 300
    options.rounds = options.rounds or (1 if options.short else 2)
    if min(n for n in (options.clips, options.clip_clips) if n) <= _FEW:
        parser.error(f"the longer runs must have more than {_FEW} clips")
    return options


def measure(options: argparse.Namespace, place: Path) -> dict[str, Any]:
    """Of each encoder and contender the runs of both lengths, round by round."""
    options.cache.mkdir(parents=True, exist_ok=True)
    given = inputs.clips(None, options.cache.absolute())
    files = inputs.copies(given, max(options.clips, options.clip_clips), place / "clips")
    lengths: dict[Encoder, int] = {"null": options.clips, "clip": options.clip_clips}
    found: dict[str, Any] = {}
    for encoder, many in lengths.items():
        if not many:
            continue
        weights = inputs.weights(options.cache.absolute()) if encoder == "clip" else "none"
        runs: dict[str, list[tuple[Usage, Usage]]] = {_LIMIT: [], _OURS: []}
        stores: list[int] = []
        for _ in range(options.rounds):
            for who, rounds in runs.items():
                pair = [_run(who, encoder, files[:n], given, weights, place) for n in (_FEW, many)]
                rounds.append((pair[0], pair[1]))
            report = json.loads((place / "run" / "out" / "report.json").read_text())
            stores.append(report["object_store"]["peak_bytes"])
        found[encoder] = _summary(runs, many, stores)
    return found


def _run(
    who: str, encoder: Encoder, files: list[Path], given: Clips, weights: str, place: Path
) -> Usage:
    run = place / "run"
    shutil.rmtree(run, ignore_errors=True)
    contenders.write_lists(files, run)
    known = contenders.EVERYBODY["bare" if who == _LIMIT else "uniform"]
    words = contenders.command(known, sys.executable, encoder, given, weights, run)
    if who == _LIMIT:
        words += ["--processes", str(_cores())]
    log = place / "log.txt"
    usage = tree.run(words, cwd=run, env=contenders.environment(), log=log, deadline_s=3600)
    if usage.code or len(contenders.rows(run, files)) != len(files):
        raise SystemExit(f"{who} failed:\n{log.read_text()[-2000:]}")
    said = f"{who}, {encoder}, {len(files)}: {usage.cpu_s:.1f} CPU-s, {usage.wall_s:.1f} s"
    print(said, file=sys.stderr, flush=True)
    return usage


def _summary(
    runs: dict[str, list[tuple[Usage, Usage]]], many: int, stores: list[int]
) -> dict[str, Any]:
    more = many - _FEW
    return {
        "clips": many,
        "object_store_bytes": max(stores),
        "contenders": {
            who: {
                "cpu_s_per_clip": [(b.cpu_s - a.cpu_s) / more for a, b in rounds],
                "wall_s_per_clip": [(b.wall_s - a.wall_s) / more for a, b in rounds],
                "cores_busy": [
                    (b.cpu_s - a.cpu_s) / (b.wall_s - a.wall_s) / _cores() for a, b in rounds
                ],
                "cpu_s_before": [a.cpu_s - _FEW * (b.cpu_s - a.cpu_s) / more for a, b in rounds],
                "peak_mib": max(b.peak_mib for _, b in rounds),
                "ms_per_clip_by_process": _by_process(rounds, more),
            }
            for who, rounds in runs.items()
        },
        "ratio": [
            _slope(ours) / _slope(bare)
            for ours, bare in zip(runs[_OURS], runs[_LIMIT], strict=True)
        ],
    }


def _slope(pair: tuple[Usage, Usage]) -> float:
    return pair[1].cpu_s - pair[0].cpu_s


def _by_process(rounds: list[tuple[Usage, Usage]], more: int) -> dict[str, float]:
    names = dict.fromkeys(name for _, b in rounds for name in b.by_name)
    return {
        name: round(
            1e3 * median(_of(b, name) - _of(a, name) for a, b in rounds) / more,
            2,
        )
        for name in names
    }


def _of(usage: Usage, name: str) -> float:
    return sum(usage.by_name.get(name, []))


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _about(options: argparse.Namespace) -> dict[str, Any]:
    return {
        **machine.about(),
        "dtype": machine.cpu_dtype(),
        "ray": version("ray"),
        "torch": version("torch"),
        "rounds": options.rounds,
        "note": options.note,
    }


def markdown(found: dict[str, Any]) -> str:
    about = found["about"]
    lines = [
        f"# What the data flow costs, {about['date']}\n",
        machine.where(about, "ray", "torch"),
        *([about["note"] + "\n"] if about["note"] else []),
        (
            "Drawn H.264 clips of 240p and 10 s, a keyframe every 12, 48 or 250 frames, 12 frames "
            f"of each by `uniform`; CLIP in {about['dtype']}. "
            "CPU time is user and system time of all processes. What a clip "
            f"costs is the difference of a run of {_FEW} clips and one of many: start-up is not "
            "in it. The bare loops are vidembed's own decoder and encoder, one process for each "
            f"core with one thread each. {about['rounds']} rounds, all of them shown."
        ),
    ]
    for encoder, each in found["encoders"].items():
        lines += _section(_TITLES[encoder], each)
    return "\n".join(lines) + "\n"


def _section(title: str, found: dict[str, Any]) -> list[str]:
    ratio = ", ".join(f"{value:.3f}" for value in found["ratio"])
    store = found["object_store_bytes"] / 1e6
    lines = [
        f"\n## With {title}, {found['clips']:,} clips\n",
        f"`embed` over the bare loops: **{ratio}** (target: {TARGETS['CPU']} at most).\n",
        "| | CPU-ms a clip | wall ms a clip | cores busy | CPU-s before the first | MiB at most |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for who, each in found["contenders"].items():
        cells = (
            _values(each["cpu_s_per_clip"], 1e3, ".1f"),
            _values(each["wall_s_per_clip"], 1e3, ".1f"),
            _values(each["cores_busy"], 1, ".0%"),
            _values(each["cpu_s_before"], 1, ".1f"),
            f"{each['peak_mib']:,.0f}",
        )
        lines.append(f"| {who} | {' | '.join(cells)} |")
    processes = found["contenders"][_OURS]["ms_per_clip_by_process"]
    lines += [
        f"\nThe object store held {store:,.0f} MB at most. CPU-milliseconds of each clip more:\n",
        "| process | ms |",
        "| --- | --- |",
        *(f"| {name} | {ms} |" for name, ms in processes.items()),
    ]
    return lines


def _values(values: list[float], scale: float, form: str) -> str:
    return ", ".join(format(value * scale, form) for value in values)


def _write(found: dict[str, Any], options: argparse.Namespace) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    short = "-short" if options.short else ""
    name = options.out / f"overhead-{found['about']['date']}{short}"
    name.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    name.with_suffix(".md").write_text(markdown(found))
    print(markdown(found))


if __name__ == "__main__":
    main()
