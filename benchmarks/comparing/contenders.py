"""Who is compared, and by which command; what each has left of its clips when it is done."""

from __future__ import annotations

import csv
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow.parquet as pq

from benchmarks import machine
from benchmarks.comparing import environments
from benchmarks.comparing.peers.common import DTYPE
from benchmarks.machine import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.comparing.inputs import Clips

Encoder = Literal["null", "clip"]
_NULL = "benchmarks.comparing.null_encoder:Zeros"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """title: for people; module: of its script below `benchmarks.comparing`, or none for vidembed,
    whose sampling is `sampling`; frames: which ones it takes, for people.
    """

    name: str
    title: str
    frames: str
    module: str = ""
    sampling: str = ""

    def interpreter(self, cache: Path) -> str:
        """Raises NoEnvironmentError."""
        return environments.python(self.module, cache) if self.module else sys.executable


_INDICES = "12 uniform, exact"
_CLOCK = "by a clock, 12 in the mean"
EVERYBODY = {
    each.name: each
    for each in (
        Contender(name="uniform", title="vidembed `uniform`", frames=_INDICES, sampling="uniform"),
        Contender(
            name="fast",
            title="vidembed `fast`",
            frames="12, each within its slot",
            sampling="fast",
        ),
        Contender(
            name="keyframes",
            title="vidembed `keyframes`",
            frames="12 nearest keyframes",
            sampling="keyframes",
        ),
        Contender(name="bare", title="the bare loops", frames=_INDICES, module="bare"),
        Contender(
            name="plain", title="plain loop, DataLoader", frames=_INDICES, module="peers.plain_loop"
        ),
        Contender(
            name="ray", title="naive Ray Data", frames=_INDICES, module="peers.naive_ray_data"
        ),
        Contender(name="towhee", title="towhee", frames="12 uniform", module="peers.towhee_pipe"),
        Contender(name="daft", title="Daft", frames=_CLOCK, module="peers.daft_frames"),
        Contender(name="curator", title="NeMo Curator", frames=_CLOCK, module="peers.curator"),
        Contender(
            name="clip-video-encode",
            title="clip-video-encode",
            frames="every so many, 12 in the mean",
            module="peers.clip_video_encode",
        ),
    )
}
OURS = ("uniform", "fast", "keyframes")
# Of vidembed's own parts, and nobody's peer: what cannot be undercut.
LIMIT = "bare"


def command(
    who: Contender, interpreter: str, encoder: Encoder, given: Clips, weights: str, place: Path
) -> list[str]:
    """To embed the files that `place` lists (`write_lists`) into `place`/out."""
    if who.module:
        return [
            interpreter, "-m", f"benchmarks.comparing.{who.module}",
            "--list", str(place / "list.txt"), "--out", str(place / "out"),
            "--encoder", encoder, "--weights", weights,
            "--interval", f"{given.interval:.6f}", "--every", str(given.every),
        ]  # fmt: skip
    model = ["--encoder", _NULL]
    if encoder == "clip":
        model = ["--encoder", "clip4clip", "--weights", weights, "--dtype", machine.cpu_dtype()]
    return [
        interpreter, "-m", "vidembed", "embed", str(place / "manifest.csv"),
        "--out", str(place / "out"), *model, "--sampling", who.sampling, "--frames", "12",
        "--progress", "none",
    ]  # fmt: skip


def environment() -> dict[str, str]:
    """As on a machine of one's own: what this process was told of threads and clusters is not."""
    left_out = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VIRTUAL_ENV")
    kept = {k: v for k, v in os.environ.items() if k not in left_out}
    # Without the second, who calls ray.init() would join whatever cluster runs here.
    own = {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": "local", "DO_NOT_TRACK": "1"}
    return kept | own | {DTYPE: machine.cpu_dtype()}


def write_lists(files: list[Path], place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    (place / "list.txt").write_text("".join(f"{file}\n" for file in files))
    with (place / "manifest.csv").open("w", newline="") as target:
        csv.writer(target).writerows([["video_id", "uri"], *([f.name, f] for f in files)])


def rows(place: Path, files: list[Path]) -> set[str]:
    """The names of the files that have a vector, whichever way they were written."""
    out = place / "out"
    found: set[str] = set()
    for part in out.rglob("*.parquet"):
        if "failures" in part.parts:
            continue
        schema = pq.read_schema(part)
        if "embedding" in schema.names:
            ids = pq.read_table(part, columns=["id"])["id"].to_pylist()
            found |= {each.rsplit("/", 1)[-1] for each in ids}
    # clip-video-encode names its arrays by their place in the list.
    found |= {files[int(array.stem)].name for array in out.glob("*.npy")}
    return found


def named(place: Path, log: Path, bad: list[Path]) -> list[str]:
    """Those of the bad files that its output, or what it wrote, says anything of."""
    said = log.read_text(errors="replace")
    for part in (place / "out").rglob("failures/*.parquet"):
        said += " ".join(pq.read_table(part, columns=["video_id"])["video_id"].to_pylist())
    return [file.name for file in bad if file.name in said]
