"""The exact ranking of `vidembed evaluate` at size: time and memory, beside a bare product.

    python benchmarks/evaluate.py [--videos N] [--queries N] [--dim N] [--folder DIR] [--note TEXT]
    python benchmarks/evaluate.py --short

A run of N random vectors in many parts is generated (kept in --folder, and used again if it is
there), and a run of the videos to search with. `vidembed evaluate` ranks all videos for each query,
by its command, in a Ray session of its own. Beside it the same product of matrices alone, by numpy
in blocks and with as many threads as there are cores, whose results are thrown away. Some queries
are ranked again by brute force in double precision.

Memory is summed over the command and all that it starts: of pages that several of them hold, each
counts its share (PSS), and none is counted twice.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import machine

RESULTS = machine.ROOT / "benchmarks" / "results"
_PART = 20_000
_LABELS = 10_000
_CHECKED = 20
_MARK = "VIDEMBED_BENCHMARK"


def main() -> None:
    options = _options()
    if options.bare:
        print(json.dumps(bare(options.videos, options.queries, options.dim)))
        return
    folder = Path(options.folder) / f"{options.videos}-{options.queries}-{options.dim}"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        generate(folder / "gallery", options.videos, options.dim, seed=0)
        generate(folder / "queries", options.queries, options.dim, seed=1)
        (folder / "complete").touch()
    alone = _bare(options)
    job = evaluate(folder, options.block_megabytes)
    checked = check(folder, min(_CHECKED, options.queries))
    found = {
        "about": _about(options),
        "bare": alone,
        "job": job,
        "checked": checked,
        "files_mib": sum(f.stat().st_size for f in (folder / "gallery").rglob("*.parquet")) / 2**20,
    }
    print(markdown(found))
    if not options.short:
        name = RESULTS / f"evaluate-{found['about']['date']}-cpu"
        name.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
        name.with_suffix(".md").write_text(markdown(found))
    if checked["differ"]:
        sys.exit("some ranks differ from brute force")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--block-megabytes", type=int, default=256)
    parser.add_argument("--folder", default=str(Path(tempfile.gettempdir()) / "vidembed-evaluate"))
    parser.add_argument("--note", default="", help="a word on what else the machine did")
    parser.add_argument("--short", action="store_true", help="some seconds, and nothing is kept")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.short:
        options.videos, options.queries = 20_000, 500
    return options


def generate(folder: Path, videos: int, dim: int, seed: int) -> None:
    """A run of so many unit vectors at random; each video has one of ten thousand labels."""
    from tests.helpers import runs
    from vidembed import schema
    from vidembed.store.run import Run

    run = Run.create_or_resume(str(folder), runs.record(dim=dim))
    wanted = schema.vectors(dim, pa.schema([pa.field("label", pa.string())]))
    rng = np.random.default_rng(seed)
    for first in range(0, videos, _PART):
        count = min(_PART, videos - first)
        vectors = rng.standard_normal((count, dim), np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        names = pa.array([f"{'gq'[seed]}{k:07}" for k in range(first, first + count)])
        labels = pa.array([f"label {k % _LABELS}" for k in range(first, first + count)])
        given: dict[str, Any] = {
            "id": names,
            "video_id": names,
            "uri": names,
            "segment": pa.array(np.zeros(count, np.int32)),
            "segments": pa.array(np.ones(count, np.int32)),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim),
            "label": labels,
        }
        columns = [given.get(f.name, pa.nulls(count, f.type)) for f in wanted]
        run.commit(pa.table(columns, schema=wanted))


def evaluate(folder: Path, block_megabytes: int) -> dict[str, Any]:
    """The command, in a Ray session of its own: seconds, and the memory of all that it starts."""
    words = [sys.executable, "-m", "vidembed", "evaluate", str(folder / "gallery")]
    words += ["--query-run", str(folder / "queries"), "--directions", "video_to_video"]
    words += ["--out", str(folder / "evaluation"), "--examples", "0"]
    words += ["--block-megabytes", str(block_megabytes)]
    mark = uuid.uuid4().hex
    environment = {**os.environ, _MARK: mark, "PYTHONPATH": str(machine.ROOT), "SPT_NOENV": "1"}
    environment.pop("OMP_NUM_THREADS", None)
    began = time.perf_counter()
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
    peaks: dict[str, float] = {}
    while process.poll() is None:
        _measure(mark, peaks)
        time.sleep(0.5)
    seconds = time.perf_counter() - began
    if process.returncode:
        sys.exit(f"vidembed evaluate ended with {process.returncode}")
    result = json.loads((folder / "evaluation" / "evaluation.json").read_text())
    return {
        "seconds": seconds,
        "seconds_inside": result["seconds"],
        "queries": result["video_to_video"]["queries"],
        "gallery": result["video_to_video"]["gallery"],
        **peaks,
    }


def _measure(mark: str, peaks: dict[str, float]) -> None:
    """Keep the most that all processes had together, and the most that one of a kind had, MiB."""
    now = {"pss_mib": 0.0}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            if f"{_MARK}={mark}".encode() not in (entry / "environ").read_bytes():
                continue
            share = _field(entry / "smaps_rollup", "Pss:")
            now["pss_mib"] += share
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            kind = "worker" if words.startswith("ray::") else "other of Ray"
            kind = "driver" if "vidembed evaluate" in words else kind
            name = f"largest {kind}, rss_mib"
            now[name] = max(now.get(name, 0.0), _field(entry / "status", "VmRSS:"))
    for name, value in now.items():
        peaks[name] = max(peaks.get(name, 0.0), value)


def _field(path: Path, name: str) -> float:
    line = next(line for line in path.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def _bare(options: argparse.Namespace) -> dict[str, Any]:
    words = [sys.executable, __file__, "--bare", "--videos", str(options.videos)]
    words += ["--queries", str(options.queries), "--dim", str(options.dim)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(os.cpu_count())}
    said = subprocess.run(words, env=environment, check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(said.stdout.splitlines()[-1])
    return found


def bare(videos: int, queries: int, dim: int) -> dict[str, Any]:
    """All products, a block of the gallery after the other; nothing is read, counted or kept."""
    rng = np.random.default_rng(0)
    rows = min(8192, videos)
    asked = rng.standard_normal((min(4096, queries), dim), np.float32)
    block = rng.standard_normal((rows, dim), np.float32)
    out = np.empty((len(asked), rows), np.float32)
    began = time.perf_counter()
    for a in range(0, videos, rows):
        for b in range(0, queries, len(asked)):
            some, part = min(len(asked), queries - b), min(rows, videos - a)
            np.matmul(asked[:some], block[:part].T, out=out[:some, :part])
    return {"seconds": time.perf_counter() - began}


def check(folder: Path, count: int) -> dict[str, Any]:
    """Rank and ties of some queries by brute force in float64 beside those of the command."""
    from vidembed import retrieval
    from vidembed.store.run import Run

    rows = pq.read_table(folder / "evaluation" / "evaluation.parquet")
    at = np.linspace(0, len(rows) - 1, count).astype(int)
    some = rows.select(["query_id", "label", "rank", "ties", "top"]).take(pa.array(at)).to_pylist()
    asked = Run.open(str(folder / "queries")).read(["video_id", "embedding"])
    places = {name: k for k, name in enumerate(asked["video_id"].to_pylist())}
    vectors = retrieval.matrix(asked["embedding"])
    queries = vectors[[places[row["query_id"]] for row in some]].astype(np.float64)
    scores, names, labels = [], [], []
    for _, table in Run.open(str(folder / "gallery")).iterate(["video_id", "label", "embedding"]):
        part = retrieval.matrix(table["embedding"]).astype(np.float64)
        scores.append(np.stack([(part * query).sum(axis=1) for query in queries]))
        names += table["video_id"].to_pylist()
        labels += table["label"].to_pylist()
    whole, label = np.concatenate(scores, axis=1), np.array(labels)
    differ = 0
    for row, values in zip(some, whole, strict=True):
        best = values[label == row["label"]].max()
        rank, ties = 1 + (values > best).sum(), (values == best).sum() - 1
        top = [names[k] for k in np.argsort(-values, kind="stable")[: len(row["top"])]]
        differ += (row["rank"], row["ties"], row["top"]) != (rank, ties, top)
    return {"queries": count, "differ": int(differ)}


def _about(options: argparse.Namespace) -> dict[str, Any]:
    import ray

    return {
        **machine.about(),
        "pyarrow": pa.__version__,
        "numpy": np.__version__,
        "ray": ray.__version__,
        "videos": options.videos,
        "queries": options.queries,
        "dim": options.dim,
        "block_megabytes": options.block_megabytes,
        "note": options.note,
    }


def markdown(found: dict[str, Any]) -> str:
    about, job, alone = found["about"], found["job"], found["bare"]
    where = f"on {about['cpu']}, {about['cores']} cores, load at the end {about['load']:.1f}"
    versions = ", ".join(f"{name} {about[name]}" for name in ("python", "numpy", "pyarrow", "ray"))
    products = about["videos"] * about["queries"] * about["dim"]
    checked = found["checked"]
    size = (
        f"{about['videos']:,} random unit vectors of {about['dim']} numbers in a run of "
        f"{found['files_mib']:,.0f} MiB, {about['queries']:,} queries, `--block-megabytes "
        f"{about['block_megabytes']}`: {products:.2g} products of two numbers.\n"
    )
    everything = "all processes together, Ray's object store and its own processes too"
    told = (
        f"Of {checked['queries']} queries, ranked again by brute force in double precision, "
        f"{checked['differ']} have another rank, other ties or other first results."
    )
    lines = [
        f"# Evaluating exactly, {about['date']}\n",
        f"vidembed at `{about['commit']}`, {where}; {versions}.\n",
        *([about["note"] + "\n"] if about["note"] else []),
        size,
        "| | seconds | 10⁹ products/s |",
        "| --- | --- | --- |",
        _speed("numpy's product alone, all cores", alone["seconds"], products),
        _speed("`vidembed evaluate`, start to end", job["seconds"], products),
        "",
        "| memory at its peak | MiB |",
        "| --- | --- |",
        f"| {everything} | {job['pss_mib']:,.0f} |",
        *(
            f"| {name.removesuffix(', rss_mib')}, resident | {job[name]:,.0f} |"
            for name in sorted(job)
            if name.endswith("rss_mib")
        ),
        "",
        told,
    ]
    return "\n".join(lines) + "\n"


def _speed(what: str, seconds: float, products: float) -> str:
    return f"| {what} | {seconds:.1f} | {products / seconds / 1e9:.1f} |"


if __name__ == "__main__":
    main()
