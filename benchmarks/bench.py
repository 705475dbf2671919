"""All benchmarks of what vidembed costs, one after the other, and one table of ratios at the end.

    python benchmarks/bench.py [--full] [--only PART ...] [--videos FOLDER] [--out FOLDER]

Each part is a command of its own, which writes its own dated JSON and Markdown into --out. The
short form takes some minutes and tells whether all is in order: few clips, one round, and no tool
that needs an environment of its own but the decoders. What is published comes from --full, on a
machine that does nothing else. A part that fails is said to have failed, and the others go on; the
exit code is then 1.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import machine, summing

if TYPE_CHECKING:
    from benchmarks.summing import Found

RESULTS = machine.ROOT / "benchmarks" / "results"
CACHE = Path(tempfile.gettempdir()) / "vidembed-bench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """short, full: its words in either form. out: which of them names the folder of results.
    videos: the word that names real clips, where it takes any.
    """

    name: str
    short: tuple[str, ...] = ("--short",)
    full: tuple[str, ...] = ()
    out: str = "--out"
    videos: str = ""


PARTS = (
    Part(name="startup"),
    Part(name="decode", short=("--short", "--repeats", "1"), videos="--videos"),
    Part(
        name="encoders",
        short=("--device", "cpu", "--short", "--only", "clip4clip"),
    ),
    Part(name="overhead"),
    Part(
        name="peers",
        # Those that need no environments of their own, which take minutes and gigabytes to make.
        short=(
            *("--short", "--no-bad", "--null-clips", "160"),
            *("--only", "uniform", "fast", "plain", "ray"),
        ),
        videos="--videos",
    ),
    Part(name="milvus", short=("--short", "--repeats", "1")),
    Part(name="search"),
    Part(
        name="scale",
        short=("--videos", "20000", "--every", "0.5", "--out", "SCRATCH"),
        full=("--videos", "200000", "--out", "SCRATCH"),
        out="--results",
    ),
)


def main() -> int:
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    begin, load = time.monotonic(), os.getloadavg()[0]
    found: list[Found] = []
    minutes: dict[str, float] = {}
    failed: dict[str, str] = {}
    for part in PARTS:
        if options.only and part.name not in options.only:
            continue
        print(f"== {part.name}", flush=True)
        since = time.time()
        code = _run(part, options)
        minutes[part.name] = round((time.time() - since) / 60, 1)
        if code:
            failed[part.name] = f"ended with {code}"
            continue
        for file in sorted(options.out.glob(f"{part.name}-*.json")):
            if file.stat().st_mtime >= since:
                found += summing.summary(part.name, file.name, json.loads(file.read_text()))
    about = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": machine.commit(),
        "cpu": machine.cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "load": f"{load:.1f}",
        "minutes": round((time.monotonic() - begin) / 60, 1),
        "minutes_by_part": minutes,
        "form": "full" if options.full else "short",
        "note": options.note,
    }
    _write(options.out, about, found, failed)
    return 1 if failed else 0


def _run(part: Part, options: argparse.Namespace) -> int:
    words = list(part.full if options.full else part.short)
    if part.videos and options.videos:
        words += [part.videos, str(options.videos)]
    with tempfile.TemporaryDirectory(prefix="vidembed-bench-") as scratch:
        words = [scratch if word == "SCRATCH" else word for word in words]
        script = str(machine.ROOT / "benchmarks" / f"{part.name}.py")
        command = [sys.executable, script, *words, part.out, str(options.out)]
        return subprocess.run(command, check=False, cwd=scratch).returncode


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/bench.py", description=(__doc__ or "").splitlines()[0]
    )
    say = parser.add_argument
    say("--full", action="store_true", help="what is published; an hour")
    say("--only", nargs="+", choices=[part.name for part in PARTS], help="these parts")
    say("--videos", type=Path, help="a folder of real clips, besides or in place of drawn ones")
    say("--note", default="", help="for the record")
    say("--out", type=Path, help="[benchmarks/results; in the short form a temporary folder]")
    options = parser.parse_args()
    options.out = (options.out or (RESULTS if options.full else CACHE / "results")).absolute()
    options.videos = options.videos and options.videos.absolute()
    return options


def _write(out: Path, about: dict[str, Any], found: list[Found], failed: dict[str, str]) -> None:
    full = about["form"] == "full"
    target = out / f"bench-{about['date']}{'' if full else '-short'}"
    results = [each.plain(judged=full) for each in found]
    record = {**about, "failed": failed, "results": results}
    target.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    text = summing.markdown(about, found, failed)
    target.with_suffix(".md").write_text(text)
    print(text)
    print(f"written: {target}.json and {target}.md")


if __name__ == "__main__":
    sys.exit(main())
