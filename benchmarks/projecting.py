"""`python benchmarks/milvus.py`: the same rows into a fresh collection, in several ways in turn."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import machine, search
from tests.helpers.milvus_server import MilvusServer
from vidembed.config import LoadConfig
from vidembed.loading import load
from vidembed.store.milvus import Collection
from vidembed.store.projection import Projection, collection_spec
from vidembed.store.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vidembed.store.milvus import CollectionSpec

_DIM = 512
# Of the bare loops: what one request of vidembed has of such rows.
_BATCH = 4000
_TITLES = {
    "ready": "bare loop of upserts, rows ready in memory",
    "bare": "bare loop of upserts, rows from Parquet",
    "send": "vidembed's projection, one writer",
    "2 writers": "vidembed's projection, 2 writers",
    "4 writers": "vidembed's projection, 4 writers",
    "load": "`vidembed load`, every key asked for afterwards",
    "bulk": "`vidembed load --bulk`, every key asked for afterwards",
}


class Bench:
    """A run, a server, and each way to bring the one into the other: seconds, into `name`."""

    def __init__(self, run: Run, uri: str, stage: Path) -> None:
        self.run, self.uri, self.stage = run, uri, stage
        self.ways: dict[str, Callable[[str], float]] = {
            "ready": self.ready,
            "bare": self.bare,
            "send": self.send,
            "2 writers": lambda name: self.writers(name, 2),
            "4 writers": lambda name: self.writers(name, 4),
            "load": lambda name: self.load(name, bulk=False),
            "bulk": lambda name: self.load(name, bulk=True),
        }
        self._rows: list[list[dict[str, Any]]] = []

    def spec(self, name: str) -> CollectionSpec:
        config = LoadConfig.make({"run": self.run.uri, "milvus": self.uri, "collection": name})
        return collection_spec(self.run, config, name)

    def measure(self, way: str) -> float:
        """In rows a second. Raises RuntimeError where rows are missing afterwards."""
        name = f"bench_{uuid.uuid4().hex[:12]}"
        if way not in ("load", "bulk"):
            Projection.begin(self.run, self.uri, self.spec(name)).close()
        rows = sum(len(table) for _, table in self.run.iterate(["id"]))
        seconds = self.ways[way](name)
        with contextlib.closing(Collection(self.uri, name)) as collection:
            if (found := collection.count()) != rows:
                raise RuntimeError(f"{way}: {found} of {rows} rows")
            collection.drop()
        return rows / seconds

    def ready(self, name: str) -> float:
        self._rows = self._rows or list(self._batches())
        return self._upsert(name, iter(self._rows))

    def bare(self, name: str) -> float:
        return self._upsert(name, self._batches())

    def _upsert(self, name: str, batches: Iterator[list[dict[str, Any]]]) -> float:
        from pymilvus import MilvusClient

        client = MilvusClient(uri=self.uri)
        begin = time.perf_counter()
        for batch in batches:
            client.upsert(name, batch)
        seconds = time.perf_counter() - begin
        client.close()
        return seconds

    def _batches(self) -> Iterator[list[dict[str, Any]]]:
        for _, table in self.run.iterate():
            rows = table.drop_columns(["source_state"])
            for at in range(0, len(rows), _BATCH):
                yield rows.slice(at, _BATCH).to_pylist()

    def send(self, name: str) -> float:
        with contextlib.closing(Projection(self.run, self.uri, name)) as projection:
            begin = time.perf_counter()
            projection.catch_up()
            return time.perf_counter() - begin

    def writers(self, name: str, count: int) -> float:
        """As the write tasks of a job: each process takes its share of the parts."""
        words = [sys.executable, "-m", "benchmarks.projecting", self.run.uri, self.uri, name]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started = [
            subprocess.Popen([*words, str(k), str(count)], cwd=machine.ROOT, **pipes)
            for k in range(count)
        ]
        for process in started:
            process.stdout.readline()
        begin = time.perf_counter()
        for process in started:
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in started:
            process.stdout.readline()
        seconds = time.perf_counter() - begin
        codes = [process.wait() for process in started]
        if any(codes):
            raise RuntimeError(f"writers ended with {codes}")
        return seconds

    def load(self, name: str, *, bulk: bool) -> float:
        words = {"run": self.run.uri, "milvus": self.uri, "collection": name}
        more = {"bulk": True, "stage": str(self.stage)} if bulk else {}
        begin = time.perf_counter()
        load(LoadConfig.make({**words, **more}))
        return time.perf_counter() - begin


def writer(words: list[str]) -> None:
    """One of several writers: says that it is ready, and waits for a line."""
    uri, milvus, name, k, count = words
    run = Run.open(uri)
    with contextlib.closing(Projection(run, milvus, name)) as projection:
        projection.collection.fields()
        print("ready", flush=True)
        sys.stdin.readline()
        for part in run.parts()[int(k) :: int(count)]:
            projection.send(part)
        print("done", flush=True)


def main() -> None:
    options = _options()
    about = _about(options)
    place = Path(tempfile.mkdtemp(prefix="vidembed-milvus-"))
    try:
        search.generate(place / "run", options)
        with _server(options, place) as uri:
            bench = Bench(Run.open(str(place / "run")), uri, options.stage or place / "stage")
            found = _measured(bench, options)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / f"milvus-{about['date']}{'-short' if options.short else ''}"
    text = markdown(about, found)
    target.with_suffix(".md").write_text(text)
    record = {**about, "rows_per_second": found, "ratio_to_ready": _ratios(found)}
    target.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    print(text)
    print(f"written: {target}.json and {target}.md")


def _measured(bench: Bench, options: argparse.Namespace) -> dict[str, list[float]]:
    ways = [way for way in bench.ways if way != "bulk" or not options.milvus or options.stage]
    found: dict[str, list[float]] = {way: [] for way in ways}
    bench.measure("send")
    for k in range(options.repeats):
        # Another one begins each round: what a server does of one is felt by the next.
        for way in ways[k % len(ways) :] + ways[: k % len(ways)]:
            found[way].append(bench.measure(way))
            print(f"{way}: {found[way][-1]:,.0f} rows/s", flush=True)
    return found


@contextlib.contextmanager
def _server(options: argparse.Namespace, place: Path) -> Iterator[str]:
    if options.milvus:
        yield options.milvus
        return
    (place / "milvus").mkdir()
    with MilvusServer(place / "milvus") as server:
        yield server.uri


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/milvus.py", description="Rows a second into Milvus."
    )
    say = parser.add_argument
    say("--rows", type=int, help="[60,000; short 12,000]")
    say("--part-rows", type=int, default=2000, help="rows of a part")
    say("--repeats", type=int, help="rounds [5; short 2]")
    say("--short", action="store_true")
    say("--milvus", help="a server that runs, in place of one of the package `milvus`")
    say("--stage", type=Path, help="where that server reads files for its import")
    say("--note", default="", help="for the record")
    say("--out", type=Path, default=machine.ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    options.rows = options.rows or (12_000 if options.short else 60_000)
    options.repeats = options.repeats or (2 if options.short else 5)
    options.dim = _DIM
    return options


def _about(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": machine.commit(),
        "cpu": machine.cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "load": f"{os.getloadavg()[0]:.1f}",
        "versions": {"Python": platform.python_version()}
        | {name: version(name) for name in ("pymilvus", "pyarrow")}
        | ({} if options.milvus else {"milvus": version("milvus")}),
        "rows": options.rows,
        "dim": _DIM,
        "part_rows": options.part_rows,
        "repeats": options.repeats,
        "note": options.note,
    }


def _ratios(found: dict[str, list[float]]) -> dict[str, float]:
    """Medians of the rounds' ratios to the bare loop whose rows are ready."""
    return {
        way: statistics.median(a / b for a, b in zip(rates, found["ready"], strict=True))
        for way, rates in found.items()
    }


def markdown(about: dict[str, Any], found: dict[str, list[float]]) -> str:
    versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
    ratios = _ratios(found)
    rows = [
        f"| {_TITLES[way]} | {statistics.median(rates):,.0f} ({min(rates):,.0f}–{max(rates):,.0f}) "
        f"| {ratios[way]:.2f} |"
        for way, rates in found.items()
    ]
    lines = [
        f"# Into Milvus, {about['date']}",
        "",
        f"{about['rows']:,} rows of {about['dim']} dimensions in parts of {about['part_rows']:,}, "
        f"into a fresh collection each time, with the server on the same machine ({about['cpu']}, "
        f"{about['cores']} cores; load at the start {about['load']}); {versions}; vidembed at "
        f"`{about['commit']}`. {about['note']}".rstrip(),
        "",
        (
            f"`python benchmarks/milvus.py`. {about['repeats']} rounds in turn: medians, least and "
            "most in brackets; the ratios are of a round."
        ),
        "",
        "| what | rows/s | of the bare loop's, rows ready |",
        "| --- | ---: | ---: |",
        *rows,
    ]
    if "bulk" in found:
        pairs = zip(found["bulk"], found["load"], strict=True)
        ratio = statistics.median(a / b for a, b in pairs)
        lines += ["", f"`load --bulk` brings {ratio:.2f} times the rows of `load` in a second."]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    writer(sys.argv[1:])
