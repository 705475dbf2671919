"""Exact search over the vectors of a run: time and memory, beside faiss where it is installed.

    python benchmarks/search.py [--rows N] [--dim N] [--part-rows N] [--short] [--folder DIR]

A run of N random vectors is generated (kept in --folder, and used again if it is there). Each case
is measured in one process of its own, whose peak of memory is its resident set as the system counts
it. `cold`: the first query of a process, `from disk` with the files put out of the page cache
before. `warm`: the median of further queries, whose vectors are in memory.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import machine

RESULTS = machine.ROOT / "benchmarks" / "results"
LABELS = [f"label {k}" for k in range(50)]
TOP = 10

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidembed.query import Index


def main() -> None:
    options = _options()
    if options.case:
        print(json.dumps(CASES[options.case](options)))
        return
    place = _run(options)
    if not place.joinpath("complete").exists():
        generate(place, options)
    found = {}
    for case in CASES:
        if case.startswith("faiss") and not _has_faiss():
            continue
        found[case] = _in_a_process_of_its_own(case, options)
        print(case, json.dumps(found[case]), flush=True)
    if not options.short or options.out != RESULTS:
        _write(options, found)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--part-rows", type=int, default=8192, help="rows of a part")
    parser.add_argument("--repeats", type=int, default=15, help="queries of which it is the median")
    parser.add_argument("--short", action="store_true", help="20,000 rows; not to be kept")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results go")
    parser.add_argument("--folder", default=str(Path(tempfile.gettempdir()) / "vidembed-search"))
    parser.add_argument("--note", default="", help="a line about the machine, for the results")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.short:
        options.rows, options.repeats = 20_000, 5
    return options


def _run(options: argparse.Namespace) -> Path:
    return Path(options.folder) / f"{options.rows}-{options.dim}-{options.part_rows}"


def generate(place: Path, options: argparse.Namespace) -> None:
    """A run of random unit vectors: four segments a video, a label and a title."""
    from vidembed import schema
    from vidembed.clips import ClipSpec, Resize, Sampling
    from vidembed.store.run import Run

    clip = ClipSpec(
        sampling=Sampling(kind="uniform", count=12), resize=Resize(short_side=224, crop=224)
    )
    identity = {
        "encoder": "clip4clip",
        "architecture": "random",
        "weights": "0" * 64,
        "clip": clip.describe(),
    }
    record = {
        "identity": identity,
        "fingerprint": "f" * 16,
        "weights": "",
        "metric": "COSINE",
        "dim": options.dim,
    }
    run = Run.create_or_resume(str(place), record)
    draw = np.random.default_rng(0)
    metadata = pa.schema([pa.field("label", pa.string()), pa.field("title", pa.string())])
    for at in range(0, options.rows, options.part_rows):
        numbers = range(at, min(at + options.part_rows, options.rows))
        run.write_part("embeddings", _part(numbers, draw, schema.embeddings(options.dim, metadata)))
    place.joinpath("complete").touch()


def _part(numbers: range, draw: np.random.Generator, layout: pa.Schema) -> pa.Table:
    dim = layout.field("embedding").type.list_size
    vectors = draw.standard_normal((len(numbers), dim), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = len(numbers)
    columns: dict[str, Any] = {
        "id": [f"videos/{n // 4:08d}.mp4#{n % 4}" for n in numbers],
        "video_id": [f"videos/{n // 4:08d}.mp4" for n in numbers],
        "segment": [n % 4 for n in numbers],
        "segments": [4] * rows,
        "start_s": [4.0 * (n % 4) for n in numbers],
        "end_s": [4.0 * (n % 4) + 4 for n in numbers],
        "uri": [f"s3://bucket/videos/{n // 4:08d}.mp4" for n in numbers],
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim),
        "frames": [12] * rows,
        "duration_s": [16.0] * rows,
        "fps": [25.0] * rows,
        "source_state": [f"{n * 7919 % 10**7}-{n // 4}" for n in numbers],
        "width": [1280] * rows,
        "height": [720] * rows,
        "label": [LABELS[n // 4 % len(LABELS)] for n in numbers],
        "title": [f"the title of video {n // 4}" for n in numbers],
    }
    return pa.table([pa.array(columns[f.name], f.type) for f in layout], schema=layout)


# Cases


def command(options: argparse.Namespace) -> dict[str, Any]:
    """`vidembed search --id` from start to end: a new process, no encoder to load."""
    words = ["search", "--id", "videos/00000003.mp4#1", "--run", str(_run(options)), "--json"]
    python = [sys.executable, "-m", "vidembed", *words]

    def searched() -> None:
        subprocess.run(python, check=True, stdout=subprocess.DEVNULL, cwd=machine.ROOT)

    searched()
    found = {"seconds": _median([_timed(searched) for _ in range(3)])}
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return found | {"peak_mib": round(peak / 1024)}


def from_disk(options: argparse.Namespace) -> dict[str, Any]:
    _out_of_the_cache(options)
    return _first(options, memory=0)


def streamed(options: argparse.Namespace) -> dict[str, Any]:
    """Nothing is kept: each query reads the run."""
    return _first(options, memory=0)


def kept(options: argparse.Namespace) -> dict[str, Any]:
    """Vectors stay in memory; further queries, and what else can be asked."""
    found = _first(options, memory=None)
    with _opened(options, memory=None) as index:
        queries = _queries(options)
        index.search(vector=queries[0])

        def median(search: Callable[[Any], Any]) -> float:
            search(queries[0])
            return _median([_timed(lambda q=q: search(q)) for q in queries])  # type: ignore[misc]

        ids = [hit.id for hit in index.search(vector=queries[0], top=TOP)]
        found["warm"] = median(lambda q: index.search(vector=q, top=TOP))
        found["warm_top_1000"] = median(lambda q: index.search(vector=q, top=1000))
        found["warm_by_video"] = median(lambda q: index.search(vector=q, group_by="video"))
        found["warm_filter"] = median(
            lambda q: index.search(vector=q, filter="label == 'label 7' and start_s < 5")
        )
        found["warm_id"] = median(lambda _: index.search(id="videos/00000003.mp4"))
        found["get_10"] = median(lambda _: index.get(ids))
    return found | {"peak_mib": _peak()}


def faiss_flat(options: argparse.Namespace) -> dict[str, Any]:
    """faiss.IndexFlatIP over the same vectors: what it takes to fill and to ask it."""
    import faiss

    from vidembed.store.run import Run

    def filled() -> Any:
        index = faiss.IndexFlatIP(options.dim)
        for _, table in Run.open(str(_run(options))).iterate(["embedding"]):
            column = table["embedding"].combine_chunks()
            index.add(np.asarray(column.flatten()).reshape(-1, options.dim))
        return index

    begun = time.perf_counter()
    index = filled()
    index.search(_queries(options)[:1], TOP)
    first = time.perf_counter() - begun
    warm = [_timed(lambda q=q: index.search(q[None], TOP)) for q in _queries(options)]  # type: ignore[misc]
    return {"first": round(first, 3), "warm": _median(warm), "peak_mib": _peak()}


CASES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "command": command,
    "from disk": from_disk,
    "streamed": streamed,
    "kept": kept,
    "faiss": faiss_flat,
}


def _opened(options: argparse.Namespace, memory: int | None) -> Index:
    import vidembed

    return vidembed.open(str(_run(options)), memory=memory)


def _first(options: argparse.Namespace, memory: int | None) -> dict[str, Any]:
    (query,) = _queries(options)[:1]
    begun = time.perf_counter()
    with _opened(options, memory) as index:
        index.search(vector=query, top=TOP)
        first = time.perf_counter() - begun
        again = _timed(lambda: index.search(vector=query, top=TOP))
    return {"first": round(first, 3), "second": round(again, 4), "peak_mib": _peak()}


def _queries(options: argparse.Namespace) -> Any:
    draw = np.random.default_rng(1)
    found = draw.standard_normal((options.repeats, options.dim), dtype=np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def _out_of_the_cache(options: argparse.Namespace) -> None:
    for file in _run(options).glob("embeddings/*.parquet"):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _timed(function: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def _median(seconds: list[float]) -> float:
    return round(statistics.median(seconds), 4)


def _peak() -> int:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _has_faiss() -> bool:
    import importlib.util

    return importlib.util.find_spec("faiss") is not None


def _in_a_process_of_its_own(case: str, options: argparse.Namespace) -> dict[str, Any]:
    words = ["rows", "dim", "part_rows", "repeats", "folder"]
    flags = [f"--{word.replace('_', '-')}={getattr(options, word)}" for word in words]
    python = [sys.executable, "-m", "benchmarks.search", f"--case={case}", *flags]
    done = subprocess.run(python, check=True, stdout=subprocess.PIPE, cwd=machine.ROOT)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _write(options: argparse.Namespace, found: dict[str, dict[str, Any]]) -> None:
    about = {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "rows": options.rows,
        "dim": options.dim,
        "part_rows": options.part_rows,
        "machine": f"{machine.cpu()}, {len(os.sched_getaffinity(0))} cores",
        "commit": machine.commit(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("numpy", "pyarrow")},
        "note": options.note,
    }
    if "faiss" in found:
        about["versions"]["faiss-cpu"] = metadata.version("faiss-cpu")
    base = options.out / f"search-{about['date']}-cpu"
    base.with_suffix(".json").write_text(json.dumps({"about": about, "results": found}, indent=1))
    base.with_suffix(".md").write_text(_page(about, found))
    print(base.with_suffix(".md"))


def _page(about: dict[str, Any], found: dict[str, dict[str, Any]]) -> str:
    kept, faiss = found["kept"], found.get("faiss")
    size = about["rows"] * about["dim"] * 4 / 2**20
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    rows = [
        ("`vidembed search --id`, start to end", found["command"], "seconds"),
        ("first query of a process, files not in the page cache", found["from disk"], "first"),
        ("first query of a process, nothing kept", found["streamed"], "first"),
        ("each further one, nothing kept", found["streamed"], "second"),
        ("first query of a process, vectors kept", kept, "first"),
        ("further query, top 10", kept, "warm"),
        ("… top 1000", kept, "warm_top_1000"),
        ('… `group_by="video"`', kept, "warm_by_video"),
        ("… `filter=\"label == 'label 7' and start_s < 5\"`", kept, "warm_filter"),
        ("… `id=`, a video of four segments", kept, "warm_id"),
        ("`get` of ten ids", kept, "get_10"),
    ]
    if faiss:
        rows += [
            ("faiss `IndexFlatIP`: read the run, add, first query", faiss, "first"),
            ("faiss `IndexFlatIP`: further query, top 10", faiss, "warm"),
        ]
    lines = [
        f"# Exact search, {about['date']}",
        "",
        f"{about['rows']:,} random unit vectors of {about['dim']} dimensions ({size:,.0f} MiB) in "
        f"parts of {about['part_rows']:,} rows; {about['machine']}, Python {about['python']}, "
        f"{versions}; vidembed at `{about['commit']}`. {about['note']}".rstrip(),
        "",
        "`python benchmarks/search.py`. Medians; the peak is the resident set of the process.",
        "",
        "| what | seconds | peak MiB |",
        "| --- | ---: | ---: |",
        *(f"| {what} | {case[key]:.3f} | {case['peak_mib']:,} |" for what, case, key in rows),
    ]
    if faiss:
        warm, first = kept["warm"] / faiss["warm"], kept["first"] / faiss["first"]
        said = f"faiss's time in the same run: a further query {warm:.2f}, a first one {first:.2f}."
        lines += ["", f"As a share of {said}"]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
