"""Real runs of a few videos, for what no stage by itself tells: start-up, and how well stages and
Ray share a machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from vidembed import schema, sources
from vidembed.addresses import scheme
from vidembed.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vidembed.config import EmbedConfig


@dataclass(frozen=True, slots=True)
class Trial:
    """One run. wall_s: of the whole command; working_s: of these, from the first video's begin to
    the last part written.
    """

    videos: int
    wall_s: float
    working_s: float


def run(config: EmbedConfig, rows: pa.Table, videos: int, labels: Iterable[str]) -> Trial:
    """`vidembed embed` of so many videos, these over and over, on a Ray of its own, here.

    rows: of the manifest, such that were opened before. Raises RunError where it fails.
    """
    with tempfile.TemporaryDirectory(prefix="vidembed-") as folder:
        manifest = Path(folder, "manifest.parquet")
        pq.write_table(_repeated(rows, videos), manifest)
        uris = rows["uri"].to_pylist()
        options = config.plain() | {
            "manifest": str(manifest),
            "allow_root": _roots(config.allow_root, uris),
            **dict.fromkeys(("id_column", "uri_column", "uri_template")),
        }
        words = Path(folder, "run.yaml")
        known = {name: value for name, value in options.items() if value is not None}
        words.write_text(yaml.safe_dump(known), encoding="utf-8")
        began = time.perf_counter()
        _embed(words)
        wall = time.perf_counter() - began
    return Trial(videos, wall, _working(config.out, labels))


def _repeated(rows: pa.Table, count: int) -> pa.Table:
    table = rows.select(schema.MANIFEST.names).take(pa.array(np.arange(count) % len(rows)))
    return table.set_column(0, "video_id", pa.array([f"trial-{k}" for k in range(count)]))


def _roots(given: Sequence[str], uris: Iterable[str]) -> list[str]:
    """Where the videos lie: the rows are those of a manifest that might open them, and this one is
    elsewhere.
    """
    found = dict.fromkeys(given)
    for uri in uris:
        if sources.is_local(uri):
            found[os.path.dirname(sources.local_path(uri))] = None
            continue
        host = uri.partition("://")[2].partition("/")[0]
        root = f"{scheme(uri)}://{host}/"
        # What holds a password cannot be a root, and needs none where it is public.
        if sources.shown(root) == root:
            found[root] = None
    return list(found)


def _embed(words: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-m", "vidembed", "embed", "--config", str(words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise RunError(
            f"a trial run of some videos of the sample failed: {last.removeprefix('vidembed: ')} "
            f"(--start-up SECONDS with --efficiency F does without trial runs)"
        )


def _working(out: str, labels: Iterable[str]) -> float:
    label = next(iter(labels))
    place = sources.join(out, label) if label else out
    report = json.loads(sources.read_whole(sources.join(place, "report.json")))
    return float(report["verdict"]["working_s"])
