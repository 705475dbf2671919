"""What a job does before its first video, where nearly all is done: time and memory of the driver.

    python benchmarks/resume.py [--rows N] [--part-rows N] [--new N] [--folder DIR] [--note TEXT]

A run of N finished videos is generated (kept in --folder, and used again if it is there), and a
manifest of the same videos and a few new ones. Each step is timed by itself in one process of its
own, whose peak of memory is its resident set as the system counts it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import machine

RESULTS = machine.ROOT / "benchmarks" / "results"
_DIM = 8
_CHUNK = 100_000


def main() -> None:
    options = _options()
    if options.measure:
        print(json.dumps(measure(Path(options.measure))))
        return
    results = []
    for rows, part_rows in options.shapes:
        folder = Path(options.folder) / f"{rows}-{part_rows}"
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            generate(folder, rows, part_rows, options.new)
            (folder / "complete").touch()
        found = _in_a_process_of_its_own(folder)
        found |= {"finished": rows, "parts": -(-rows // part_rows), "new": options.new}
        print(json.dumps(found), flush=True)
        results.append(found)
    _write({"about": _about(options.note), "results": results}, RESULTS)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--part-rows", type=int, default=100_000)
    parser.add_argument("--new", type=int, default=1000)
    parser.add_argument(
        "--small-parts", type=int, default=10_000, help="parts of 100 rows; 0: none"
    )
    parser.add_argument("--folder", default=str(Path(tempfile.gettempdir()) / "vidembed-resume"))
    parser.add_argument("--note", default="", help="a word on what else the machine did")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.shapes = [(options.rows, options.part_rows)]
    if options.small_parts:
        options.shapes.append((100 * options.small_parts, 100))
    return options


def generate(folder: Path, rows: int, part_rows: int, new: int) -> None:
    """A run of `rows` finished videos, and a manifest of them and `new` more."""
    from tests.helpers import runs
    from vidembed.store.run import Run

    run = Run.create_or_resume(str(folder / "run"), runs.record(dim=_DIM))
    manifest = None
    for first in range(0, rows + new, _CHUNK):
        numbers = range(first, min(first + _CHUNK, rows + new))
        table = pa.table({
            "video_id": [f"collection/{k % 97:02d}/video-{k:012d}" for k in numbers],
            "uri": [f"/data/collection/{k % 97:02d}/video-{k:012d}.mp4" for k in numbers],
            "caption": [f"this is video {k}" for k in numbers],
        })  # fmt: skip
        manifest = manifest or pq.ParquetWriter(folder / "manifest.parquet", table.schema)
        manifest.write_table(table)
        done = table.slice(0, max(0, min(len(table), rows - first)))
        for at in range(0, len(done), part_rows):
            run.commit(_vectors(done.slice(at, part_rows)))
        print(f"{first + len(table):,} rows generated", end="\r", file=sys.stderr, flush=True)
    manifest.close()


def _vectors(videos: pa.Table) -> pa.Table:
    from vidembed import schema

    count = len(videos)
    wanted = schema.vectors(_DIM, pa.schema([videos.schema.field("caption")]))
    rng = np.random.default_rng(0)
    flat = pa.array(rng.normal(size=count * _DIM).astype(np.float32))
    given: dict[str, Any] = {name: videos[name] for name in videos.column_names} | {
        "id": videos["video_id"],
        "segment": pa.array(np.zeros(count, np.int32)),
        "segments": pa.array(np.ones(count, np.int32)),
        "embedding": pa.FixedSizeListArray.from_arrays(flat, _DIM),
    }
    columns = [given.get(f.name, pa.nulls(count, f.type)) for f in wanted]
    return pa.table(columns, schema=wanted)


def _in_a_process_of_its_own(folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--measure", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(machine.ROOT)}
    said = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(said.stdout.splitlines()[-1])
    return found


def measure(folder: Path) -> dict[str, Any]:
    """Of each step seconds, of them seconds of computing, and the peak of memory so far, MiB."""
    began, used = time.perf_counter(), time.process_time()
    from vidembed.manifest import open_manifest
    from vidembed.pipeline.pending import Pending
    from vidembed.store.done import survey
    from vidembed.store.run import Run

    steps: dict[str, dict[str, float]] = {}

    def step(name: str) -> None:
        nonlocal began, used
        now, cpu = time.perf_counter(), time.process_time()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        steps[name] = {"seconds": now - began, "cpu_s": cpu - used, "peak_mib": peak}
        began, used = now, cpu

    step("imports")
    manifest = open_manifest(str(folder / "manifest.parquet"))
    step("manifest read and checked")
    run = Run.open(str(folder / "run"))
    before = {"": survey(run)}
    step("finished videos surveyed")
    pending = Pending(manifest, None, before)
    step("pending videos counted")
    window = next(pending.windows(before))
    step("first window at hand")
    assert pending.rows == len(window)
    return {
        "steps": steps,
        "seconds": sum(each["seconds"] for each in steps.values()),
        "cpu_s": sum(each["cpu_s"] for each in steps.values()),
        "peak_mib": max(each["peak_mib"] for each in steps.values()),
        "pending": pending.rows,
    }


def _about(note: str) -> dict[str, Any]:
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": machine.commit(),
        "cpu": machine.cpu(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "pyarrow": pa.__version__,
        "numpy": np.__version__,
        "note": note,
    }


def markdown(found: dict[str, Any]) -> str:
    about = found["about"]
    where = f"on {about['cpu']}, {about['cores']} cores, load at the end {about['load']:.1f}"
    versions = ", ".join(f"{name} {about[name]}" for name in ("python", "pyarrow", "numpy"))
    lines = [
        f"# Resuming a run, {about['date']}\n",
        f"vidembed at `{about['commit']}`, {where}; {versions}.\n",
        *([about["note"] + "\n"] if about["note"] else []),
        "What the driver does before the first video is decoded. CPU seconds are of all threads.\n",
    ]
    for each in found["results"]:
        what = f"{each['finished']:,} finished videos in {each['parts']:,} parts"
        lines += [
            f"## {what}, {each['new']:,} new\n",
            "| step | seconds | CPU seconds | peak of memory so far, MiB |",
            "| --- | --- | --- | --- |",
            *(_row(name, step) for name, step in each["steps"].items()),
            _row("**all**", each) + "\n",
        ]
    return "\n".join(lines)


def _row(name: str, step: dict[str, float]) -> str:
    seconds, cpu, peak = step["seconds"], step["cpu_s"], step["peak_mib"]
    return f"| {name} | {seconds:.1f} | {cpu:.1f} | {peak:,.0f} |"


def _write(found: dict[str, Any], folder: Path) -> None:
    name = folder / f"resume-{found['about']['date']}"
    name.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    name.with_suffix(".md").write_text(markdown(found))
    print(markdown(found))


if __name__ == "__main__":
    main()
