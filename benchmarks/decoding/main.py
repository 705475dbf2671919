"""`python benchmarks/decode.py`, within the environment that it has made."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import machine
from benchmarks.decoding import contenders, inputs
from benchmarks.decoding.handover import hand_over
from benchmarks.decoding.measure import measure
from benchmarks.decoding.report import Run, markdown, record
from benchmarks.decoding.vectors import cosines

if TYPE_CHECKING:
    from benchmarks.decoding.handover import HandOver
    from benchmarks.decoding.inputs import Clip

_ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    options = _options()
    clips: list[Clip] = []
    refused: dict[str, str] = {}
    for folder in options.videos:
        found, bad = inputs.folder(folder)
        clips += found
        refused |= bad
    if not options.no_generated:
        clips += inputs.generate(options.cache, short=options.short)
    if not clips:
        raise SystemExit(f"no videos to measure: {refused or 'none were named'}")
    repeats = options.repeats or (3 if options.short else 7)
    names = contenders.names(short=options.short)
    about = _about(names, repeats, options.note, refused)
    results, absent = measure(clips, names, repeats)
    print("hand-over and vectors", flush=True)
    able = [clip for clip in clips if _is_read(results[clip.name])]
    run = Run(
        about=about,
        clips=clips,
        results=results,
        absent=absent,
        handed_over=_hand_over(able, repeats),
        cosines=_cosines(able),
    )
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / f"decode-{about['date']}{'-short' if options.short else ''}"
    text = markdown(run)
    target.with_suffix(".md").write_text(text)
    target.with_suffix(".json").write_text(json.dumps(record(run), indent=1) + "\n")
    print(text)
    print(f"written: {target}.json and {target}.md")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/decode.py",
        description="CPU time of decoding 12 frames of a video: vidembed beside others.",
    )
    say = parser.add_argument
    say("--videos", nargs="+", type=Path, default=[], help="folders of real clips")
    say("--no-generated", action="store_true", help="those clips alone")
    say("--note", default="", help="what the clips are, for the record")
    say("--short", action="store_true", help="4 generated clips, 3 rounds, fewer combinations")
    say("--repeats", type=int, help="rounds (7; with --short 3)")
    say("--out", type=Path, default=_ROOT / "benchmarks" / "results")
    say("--cache", type=Path, required=True, help="where environment and clips are kept")
    return parser.parse_args()


def _about(names: list[str], repeats: int, note: str, refused: dict[str, str]) -> dict[str, Any]:
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": machine.commit(),
        "cpu": machine.cpu(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "load": f"{os.getloadavg()[0]:.1f}",
        "versions": _versions(),
        "contenders": names,
        "repeats": repeats,
        "note": note,
        "refused": refused,
    }


def _is_read(by: dict[str, Any]) -> bool:
    result = by.get("vidembed uniform auto")
    return result is not None and not result.problem


def _cosines(clips: list[Clip]) -> dict[str, dict[str, float | str]] | str:
    try:
        return cosines(clips)
    except (ImportError, OSError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"


def _hand_over(clips: list[Clip], repeats: int) -> HandOver | str:
    try:
        return hand_over(clips, repeats)
    except Exception as error:  # noqa: BLE001 - its failure must not cost the other results
        return f"{type(error).__name__}: {error}"


def _versions() -> dict[str, str]:
    found = {}
    for package in ("av", "decord2", "torchcodec", "torch", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if command := shutil.which("ffmpeg"):
        run = subprocess.run([command, "-version"], capture_output=True, text=True, check=False)
        found["ffmpeg"] = run.stdout.split()[2]
    return found


if __name__ == "__main__":
    main()
