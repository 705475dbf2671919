"""What every scenario has: a corpus, the command, an undisturbed run, the counting at the end."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tests.conftest import ROOT
from tests.helpers.clip_folder import write_clip_folder
from tests.helpers.families import Family
from vidembed.store.milvus import Collection
from vidembed.store.run import Run
from vidembed.synthetic import write_corpus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pyarrow as pa
    from numpy.typing import NDArray

RUN_S = 200.0
"""A run of these few videos that takes longer stands still."""
ENCODER = "tests.helpers.slow_encoder:SlowClip4Clip"
_SAME = 1e-6


@dataclass
class Trial:
    """Videos cut into segments of half a second, so that most are half finished at any moment.

    slow_s: how much longer than usual each takes to decode, and each segment to encode.
    """

    folder: Path
    videos: int = 12
    slow_s: float = 0.1
    say: Callable[[str], None] = print
    _count: int = field(default=0, init=False)

    @cached_property
    def manifest(self) -> Path:
        return write_corpus(self.folder / "corpus", self.videos, seed=7)

    @cached_property
    def weights(self) -> str:
        return str(write_clip_folder(self.folder / "weights"))

    @property
    def undisturbed(self) -> Path:
        """A run that nothing is done to: there as soon as `expected` was asked for."""
        return self.folder / "undisturbed"

    @cached_property
    def expected(self) -> pa.Table:
        """The rows of an undisturbed run, by `id`."""
        with self.embed(self.undisturbed, slow_s=0.0) as family:
            assert family.wait(RUN_S) == 0, family.said()
        return Run.open(str(self.undisturbed)).read().sort_by("id")

    @property
    def environment(self) -> dict[str, str]:
        """What whoever starts decoders for this trial needs, with a log of its own."""
        return {
            "VIDEMBED_DECODE_DRILL": "tests.helpers.drills:by_name",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            # Ray would have its workers wait for everything else on the machine.
            "RAY_worker_niceness": "0",
            **_pace(self.slow_s),
            "DRILL_LOG": str(self.fresh("decoded.log")),
        }

    def fresh(self, name: str) -> Path:
        """A path that nothing is at yet."""
        self._count += 1
        return self.folder / f"{self._count:02}-{name}"

    def embed(
        self,
        out: str | Path,
        *words: str,
        manifest: str | Path | None = None,
        slow_s: float | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Family:
        """`vidembed embed`, started."""
        given = {
            **self.environment,
            **(_pace(slow_s) if slow_s is not None else {}),
            **(environment or {}),
        }
        command = [sys.executable, "-m", "vidembed", "embed", str(manifest or self.manifest)]
        options = ["--out", str(out), "--encoder", ENCODER, "--weights", self.weights]
        return Family(
            [*command, *options, "--segment-seconds", "0.5", "--progress", "plain", *words],
            self.fresh("said.log"),
            given,
        )

    def wait_for_work(self, family: Family, more: int = 1) -> bool:
        """Wait until it has given so many videos to decoders; False where it has ended before."""
        return self.wait_for(family, lambda: decodings(family) >= more)

    def wait_for_parts(self, family: Family, out: Path, more: int = 1) -> bool:
        """Wait until so many more parts were committed; False where it has ended before."""
        then = parts_in(out)
        return self.wait_for(family, lambda: parts_in(out) >= then + more)

    def wait_for(self, family: Family, condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + RUN_S
        while family.process.poll() is None:
            if condition():
                return True
            assert time.monotonic() < deadline, f"it stands still: {family.said()}"
            time.sleep(0.02)
        return False

    def check(self, out: str | Path, milvus: str | None = None, collection: str = "videos") -> str:
        """Each segment is there once, in Parquet and in Milvus, with the undisturbed vectors."""
        run = Run.open(str(out))
        rows = run.read().sort_by("id")
        ids = rows["id"].to_pylist()
        wanted = self.expected["id"].to_pylist()
        assert ids == wanted, _difference(ids, wanted)
        assert len(run.read(kind="failures")) == 0
        expected = vectors(self.expected)
        parquet = float(np.abs(vectors(rows) - expected).max())
        assert parquet <= _SAME
        told = f"{len(ids)} segments, each once; vectors differ by at most {parquet:.1e}"
        if milvus:
            stored = in_milvus(milvus, collection, wanted)
            far = float(np.abs(stored - expected).max())
            assert far <= _SAME
            told += f", in Milvus by {far:.1e}"
        return told


def _pace(seconds: float) -> dict[str, str]:
    return {"DRILL_SLOW_S": str(seconds), "DRILL_ENCODE_S": str(seconds)}


def parts_in(out: Path) -> int:
    return len(list((out / "embeddings").glob("part-*.parquet")))


def decodings(family: Family) -> int:
    """How many videos its decoders were given, those that were tried again included."""
    log = Path(family.environment["DRILL_LOG"])
    return len(log.read_bytes().splitlines()) if log.exists() else 0


def vectors(rows: pa.Table) -> NDArray[np.float32]:
    return np.array(rows["embedding"].to_pylist(), np.float32)


def in_milvus(uri: str, name: str, ids: list[str]) -> NDArray[np.float32]:
    """The vectors of these keys. Raises AssertionError where the collection has others or more."""
    collection = Collection(uri, name, patience_s=90.0)
    try:
        count = collection.count()
        assert count == len(ids), f"{count} rows in Milvus for {len(ids)} segments"
        rows = collection._ask(
            lambda: collection._client.get(name, ids=ids, output_fields=["id", "embedding"])
        )
    finally:
        collection.close()
    found = {row["id"]: row["embedding"] for row in rows}
    assert sorted(found) == sorted(ids), _difference(list(found), ids)
    return np.array([found[key] for key in ids], np.float32)


def _difference(found: list[str], wanted: list[str]) -> str:
    doubled = sorted({key for key in found if found.count(key) > 1})
    lacking = sorted(set(wanted) - set(found))
    return f"doubled: {doubled[:5]} ({len(doubled)}); lacking: {lacking[:5]} ({len(lacking)})"
