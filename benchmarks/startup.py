"""What starting costs: CPU and wall time of a job of five clips, by process and by phase.

    python benchmarks/startup.py [--clips N] [--times N] [--short] [--note TEXT] [--out FOLDER]

`vidembed embed` with clip4clip-tiny, beside the same encoder in a script of Ray Data as its
documentation has it, and in a plain loop; each in turn, several times. CPU seconds are of all
processes that the command starts, Ray's included, until the last of them is gone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import machine, tree

RESULTS = machine.ROOT / "benchmarks" / "results"
_PHASES = (
    ("Ray: raylet", "Ray is being started"),
    ("worker: decode", "a decode actor is up"),
    ("decode child", "the first video is decoded"),
    ("worker: encode", "an encode actor is up"),
    ("worker: write", "the first part is written"),
)


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="vidembed-startup-") as folder:
        found = measure(Path(folder), options.clips, options.times)
    name = f"startup-{machine.about()['date']}{'-short' * options.short}"
    _write({"about": _about(options), "contenders": found}, options.out / name)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=5)
    parser.add_argument("--times", type=int, help="runs of each [3; short 1]")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--note", default="", help="a word on what else the machine did")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results go")
    options = parser.parse_args()
    options.times = options.times or (1 if options.short else 3)
    return options


def measure(folder: Path, clips: int, times: int) -> dict[str, Any]:
    """Of each contender its runs, and what each process and phase took in the median one."""
    from vidembed.synthetic import write_corpus

    manifest = Path(write_corpus(folder / "corpus", clips, seed=7))
    listed = folder / "list.txt"
    listed.write_text("\n".join(str(p) for p in sorted((folder / "corpus" / "videos").iterdir())))
    script = [sys.executable, "-m"]
    commands = {
        "vidembed embed": [
            *script, "vidembed", "embed", str(manifest), "--encoder", "clip4clip-tiny",
            "--progress", "none", "--out",
        ],
        "naive Ray Data": [*script, "benchmarks.starting.naive_ray", str(listed)],
        "plain loop": [*script, "benchmarks.starting.plain_loop", str(listed)],
    }  # fmt: skip
    runs: dict[str, list[tree.Usage]] = {name: [] for name in commands}
    for turn in range(times):
        for name, command in commands.items():
            out = folder / f"{name.replace(' ', '-')}-{turn}"
            runs[name].append(_run([*command, str(out)], folder))
            print(f"{name}: {runs[name][-1].cpu_s:.1f} CPU s", file=sys.stderr, flush=True)
    return {name: _summary(usages) for name, usages in runs.items()}


def _run(command: list[str], folder: Path) -> tree.Usage:
    left_out = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAY_ADDRESS")
    env = {k: v for k, v in os.environ.items() if k not in left_out}
    log = folder / "log.txt"
    usage = tree.run(command, cwd=folder, env=env | {"PYTHONPATH": str(machine.ROOT)}, log=log)
    if usage.code:
        raise SystemExit(f"{' '.join(command)} failed:\n{log.read_text()[-2000:]}")
    return usage


def _summary(usages: list[tree.Usage]) -> dict[str, Any]:
    middle = sorted(usages, key=lambda each: each.cpu_s)[len(usages) // 2]
    return {
        "cpu_s": [round(each.cpu_s, 2) for each in usages],
        "wall_s": [round(each.wall_s, 2) for each in usages],
        "processes": middle.by_name,
        "phases": {
            what: round(middle.first_seen[name], 2)
            for name, what in _PHASES
            if name in middle.first_seen
        },
    }


def _about(options: argparse.Namespace) -> dict[str, Any]:
    return {
        **machine.about(),
        "ray": version("ray"),
        "torch": version("torch"),
        "clips": options.clips,
        "note": options.note,
    }


def markdown(found: dict[str, Any]) -> str:
    about = found["about"]
    lines = [
        f"# Start-up, {about['date']}\n",
        machine.where(about, "ray", "torch"),
        *([about["note"] + "\n"] if about["note"] else []),
        (
            f"{about['clips']} drawn clips; CPU seconds of all processes; medians, and the "
            f"smallest and largest of the runs.\n"
        ),
        "| | CPU seconds | wall seconds | processes |",
        "| --- | --- | --- | --- |",
    ]
    for name, each in found["contenders"].items():
        count = sum(map(len, each["processes"].values()))
        lines.append(f"| {name} | {_range(each['cpu_s'])} | {_range(each['wall_s'])} | {count} |")
    for name, each in found["contenders"].items():
        lines += [f"\n## {name}: CPU seconds of each process\n", "| process | s |", "| --- | --- |"]
        lines += [f"| {p} | {', '.join(map(str, s))} |" for p, s in each["processes"].items()]
        if each["phases"]:
            phases = "; ".join(f"{what} after {s} s" for what, s in each["phases"].items())
            lines.append(f"\nOf the median run's wall time: {phases}.")
    return "\n".join(lines) + "\n"


def _range(values: list[float]) -> str:
    return f"{median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def _write(found: dict[str, Any], name: Path) -> None:
    name.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    name.with_suffix(".md").write_text(markdown(found))
    print(markdown(found))


if __name__ == "__main__":
    main()
