"""`python benchmarks/peers.py`."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import machine
from benchmarks.comparing import inputs, measure
from benchmarks.comparing.contenders import EVERYBODY, LIMIT
from benchmarks.comparing.environments import NoEnvironmentError
from benchmarks.comparing.report import Run, markdown, record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.comparing.contenders import Encoder
    from benchmarks.comparing.inputs import Clips
    from benchmarks.comparing.measure import Bad, Result

    Results = dict[str, dict[Encoder, Result]]

_CACHE = Path(tempfile.gettempdir()) / "vidembed-bench"
# Few enough to be quick; so many that all processes of a job have begun, and belong to its start.
_FEW = 40
# Beside the bad ones.
_SOUND = 16


def main(words: list[str] | None = None) -> None:
    options = _options(words)
    options.cache.mkdir(parents=True, exist_ok=True)
    interpreters, absent = _interpreters(options)
    given = inputs.clips(options.videos, options.cache)
    about = _about(options, given, words)
    place = Path(tempfile.mkdtemp(prefix="vidembed-peers-"))
    try:
        # After each round: what breaks later takes nothing away.
        for results, bad in _measured(options, given, interpreters, place):
            run = Run(about=about, results=results, absent=absent, bad=bad)
            target = _write(run, options)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    print(markdown(run))
    print(f"written: {target}.json and {target}.md")


def _write(run: Run, options: argparse.Namespace) -> Path:
    options.out.mkdir(parents=True, exist_ok=True)
    target: Path = options.out / f"peers-{run.about['date']}{'-short' if options.short else ''}"
    target.with_suffix(".md").write_text(markdown(run))
    target.with_suffix(".json").write_text(json.dumps(record(run), indent=1) + "\n")
    return target


def _measured(
    options: argparse.Namespace, given: Clips, interpreters: dict[str, str], place: Path
) -> Iterator[tuple[Results, dict[str, Bad]]]:
    many: dict[Encoder, int] = {"null": options.null_clips, "clip": options.clip_clips}
    files = inputs.copies(given, max(*many.values(), _FEW), place / "clips")
    bench = measure.Bench(
        given=given,
        weights=inputs.weights(options.cache),
        few=files[:_FEW],
        many=files,
        place=place,
        interpreters=interpreters,
    )
    rounds: dict[Encoder, int] = {"null": options.repeats, "clip": options.clip_repeats}
    everybody = [EVERYBODY[name] for name in interpreters]
    for results in measure.measure(bench, everybody, {k: n for k, n in rounds.items() if n}, many):
        yield results, {}
    if not options.no_bad:
        print("with bad files", flush=True)
        sound = files[:_SOUND]
        broken = inputs.bad(given, place / "clips")
        peers = [who for who in everybody if who.name != LIMIT]
        yield (
            results,
            {who.name: measure.with_bad_files(bench, who, sound, broken) for who in peers},
        )


def _interpreters(options: argparse.Namespace) -> tuple[dict[str, str], dict[str, str]]:
    """Of those that can be had, and why the others cannot."""
    found, absent = {}, {}
    for name in options.only or EVERYBODY:
        try:
            found[name] = EVERYBODY[name].interpreter(options.cache)
        except NoEnvironmentError as error:
            absent[name] = str(error)
            print(f"left out: {name}: {error}", flush=True)
    return found, absent


def _options(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/peers.py",
        description="CPU time, memory and failures of embedding: vidembed beside others.",
    )
    say = parser.add_argument
    say("--videos", type=Path, help="a folder of real clips [drawn ones of 240p]")
    say("--only", nargs="+", choices=list(EVERYBODY), help="these contenders")
    say("--short", action="store_true", help="fewer clips, one round, CLIP not at all")
    say("--null-clips", type=int, help="the longer run with the null encoder [120; short 80]")
    say("--clip-clips", type=int, help="the longer run with CLIP [72]")
    say("--repeats", type=int, help="rounds with the null encoder [2; short 1]")
    say("--clip-repeats", type=int, help="rounds with CLIP [1; short 0]")
    say("--no-bad", action="store_true", help="without the run with bad files")
    say("--note", default="", help="for the record")
    say("--out", type=Path, default=machine.ROOT / "benchmarks" / "results")
    say("--cache", type=Path, default=_CACHE, help="where environments, clips and weights are kept")
    options = parser.parse_args(words)
    short = options.short
    options.null_clips = options.null_clips or (80 if short else 120)
    options.clip_clips = options.clip_clips or 72
    options.repeats = options.repeats or (1 if short else 2)
    if options.clip_repeats is None:
        options.clip_repeats = 0 if short else 1
    if min(options.null_clips, options.clip_clips) <= _FEW:
        parser.error(f"the longer runs must have more than {_FEW} clips")
    options.cache = options.cache.absolute()
    return options


def _about(options: argparse.Namespace, given: Clips, words: list[str] | None) -> dict[str, Any]:
    said = sys.argv[1:] if words is None else words
    kind = f"{len(given.clips)} {'real' if options.videos else 'drawn'} clips"
    sizes = sorted({f"{clip.width}x{clip.height}" for clip in given.clips})
    frames = sum(clip.frames for clip in given.clips) / len(given.clips)
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": machine.commit(),
        "cpu": machine.cpu(),
        "dtype": machine.cpu_dtype(),
        "cores": len(os.sched_getaffinity(0)),
        "load": f"{os.getloadavg()[0]:.1f}",
        "versions": {"Python": platform.python_version()}
        | {name: version(name) for name in ("torch", "transformers", "ray", "av", "decord2")},
        # No folder of this machine.
        "words": " ".join(word if "/" not in word else "FOLDER" for word in said),
        "clips": (
            f"{kind} of {', '.join(sizes)}, {frames:.0f} frames and {given.seconds:.0f} s in the "
            "mean, copied in turn"
        ),
        "note": options.note,
    }
