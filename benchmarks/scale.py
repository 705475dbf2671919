"""A manifest of N videos through the real job, with stages that cost nearly nothing.

    python benchmarks/scale.py --videos 10_000_000 [--out FOLDER] [--kill-at 0.6] [--note TEXT]

What carries the rows is the product's: manifest, what is pending, Ray Data, the write stage, parts,
survey, report. Only decode and encode are the benchmark's own (`scaling/stages.py`). The driver is
killed with SIGKILL once, at --kill-at of the rows, and the same command goes on. Everything is
watched from outside; at the end each video is looked for in the parts by pyarrow alone. In
--out are the manifest and the run: at 10 million videos some 4 GB.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import machine
from benchmarks.scaling import manifest, report
from benchmarks.scaling.check import check, in_order
from benchmarks.scaling.watch import Job

RESULTS = machine.ROOT / "benchmarks" / "results"
# Of fewer videos the cost of each is not to be told from that of starting.
_PUBLISHED = 200_000


def main() -> None:
    options = _options()
    folder = Path(options.out).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    videos = folder / f"manifest-{options.videos}.parquet"
    if not videos.exists():
        manifest.write(videos, options.videos)
    run, log = folder / "run", folder / "log.txt"
    shutil.rmtree(run, ignore_errors=True)
    load = os.getloadavg()[0]
    attempts = []
    gone_s = None
    if options.kill_at:
        job = Job(videos, run, log, options.set)
        code = job.watch(int(options.kill_at * options.videos), options.every)
        if code is not None:
            raise SystemExit(f"it ended, with {code}, before it was killed: see {log}")
        gone_s = job.kill()
        attempts.append(job.plain())
    job = Job(videos, run, log, options.set)
    code = job.watch(None, options.every)
    attempts.append(job.plain())
    if code != 0:
        raise SystemExit(f"it ended with {code}: see {log}")
    began = time.monotonic()
    found = check(run, options.videos)
    result = {
        "about": _about(options, load),
        "attempts": attempts,
        "gone_s": gone_s,
        "again": _again(videos, run, log, options),
        "report": json.loads((run / "report.json").read_text()),
        "check": found | {"seconds": round(time.monotonic() - began, 1)},
    }
    _write(result, Path(options.results))
    if not in_order(found):
        raise SystemExit("the run is not in order")


def _again(videos: Path, run: Path, log: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The command once more, where all is done: what it takes to see that."""
    job = Job(videos, run, log, options.set)
    job.watch(None, 1.0)
    return job.plain()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=200_000)
    there = str(Path(tempfile.gettempdir()) / "vidembed-scale")
    parser.add_argument("--out", default=there, help="a folder of its own [default: %(default)s]")
    parser.add_argument("--kill-at", type=float, default=0.6, help="share of the rows; 0: never")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between samples")
    parser.add_argument(
        "--set", action="append", default=[], help="an option of the job, NAME=VALUE"
    )
    parser.add_argument("--results", default=str(RESULTS))
    parser.add_argument("--note", default="", help="a word on what else the machine did")
    return parser.parse_args()


def _about(options: argparse.Namespace, load: float) -> dict[str, Any]:
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": machine.commit(),
        "cpu": machine.cpu(),
        "cores": os.cpu_count(),
        "memory_gib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        "load_before": load,
        "python": platform.python_version(),
        "ray": metadata.version("ray"),
        "pyarrow": metadata.version("pyarrow"),
        "videos": options.videos,
        "kill_at": options.kill_at,
        "options": options.set,
        "note": options.note,
    }


def _write(result: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    short = "-short" * (result["about"]["videos"] < _PUBLISHED)
    name = folder / f"scale-{result['about']['date']}{short}"
    name.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    text = report.markdown(result)
    name.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
