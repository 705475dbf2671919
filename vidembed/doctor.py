"""What this machine has and lacks; for each lack, what it costs and how to mend it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vidembed import sources
from vidembed.commands.console import console
from vidembed.errors import VidembedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vidembed.config import DoctorConfig

State = Literal["ok", "lacks", "broken"]


@dataclass(frozen=True, slots=True)
class Finding:
    """lacks: something optional is not there; broken: something that jobs need does not work."""

    state: State
    what: str
    found: str
    mend: str = ""


def doctor(options: DoctorConfig) -> int:
    """Print a line for each thing looked at. Exit code 1 where something is broken."""
    findings = list(examine(options))
    marks = {"ok": "ok    ", "lacks": "lacks ", "broken": "BROKEN"}
    out = console()
    for finding in findings:
        out.print(f"{marks[finding.state]}  {finding.what:<12} {finding.found}", markup=False)
        if finding.mend:
            out.print(f"{'':22}{finding.mend}", markup=False)
    broken = sum(f.state == "broken" for f in findings)
    print(f"\n{broken} broken, {sum(f.state == 'lacks' for f in findings)} lacking")
    return 1 if broken else 0


def examine(options: DoctorConfig) -> Iterator[Finding]:
    yield _machine()
    yield _packages()
    yield _torchvision()
    yield _guarded("torch", _gpu)
    yield _guarded("decoders", _decoders)
    yield _shared_memory()
    yield _guarded("ray", _ray)
    yield _guarded("milvus", lambda: _milvus(options.milvus))
    yield _guarded("s3", lambda: _s3(options.s3))
    yield _guarded("weights", lambda: _weights(options.encoder, options.weights))


def _guarded(what: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except Exception as error:  # noqa: BLE001 - whatever breaks is the finding
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Finding("broken", what, text, "the features that need it fail until this works")


def _machine() -> Finding:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("ok", "machine", f"{os.cpu_count()} CPUs, {memory:.0f} GiB, Python {version}")


def _packages() -> Finding:
    needed = ("ray", "torch", "transformers", "pyarrow", "pymilvus", "s3fs", "av", "decord2")
    found, missing = [], []
    for name in needed:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        mend = "install vidembed with its constraints file (README, Install)"
        return Finding("broken", "packages", f"missing: {', '.join(missing)}", mend)
    return Finding("ok", "packages", ", ".join(found))


def _torchvision() -> Finding:
    if importlib.util.find_spec("torchvision") is None:
        return Finding("ok", "torchvision", "absent, as it should be")
    import torch

    if torch.version.cuda is not None:
        return Finding("ok", "torchvision", "present beside a CUDA torch")
    return Finding(
        "broken",
        "torchvision",
        "present beside a CPU torch: its CUDA build stops transformers from importing",
        "pip uninstall torchvision (vidembed does not need it)",
    )


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Finding("ok", "gpu", f"{', '.join(names)} (torch {torch.__version__})")
    smi = shutil.which("nvidia-smi")
    mend = "encoding runs on the CPU, much slower; "
    if smi and torch.version.cuda is None:
        mend += "there is an NVIDIA driver, but this torch is a CPU build: install the CUDA build"
        return Finding("broken", "gpu", f"torch {torch.__version__} sees none", mend)
    return Finding("lacks", "gpu", "none", mend + "fine for trying, tests and small corpora")


def _decoders() -> Finding:
    import numpy as np

    from vidembed.decode.video import read_frames
    from vidembed.synthetic.codec import write_video

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "test.mp4"
        write_video(path, np.zeros((8, 64, 64, 3), np.uint8), 8, 23)
        for decoder in ("decord", "pyav"):
            frames, _ = read_frames(str(path), count=4, decoder=decoder)
            if frames.shape != (4, 64, 64, 3):
                return Finding("broken", "decoders", f"{decoder} returned {frames.shape}")
    from av.codec import codecs_available

    wanted = {"h264": "H.264", "hevc": "HEVC", "vp9": "VP9", "libdav1d": "AV1", "mpeg4": "MPEG-4"}
    have = [label for name, label in wanted.items() if name in codecs_available]
    lacking = [label for name, label in wanted.items() if name not in codecs_available]
    found = f"decord and PyAV decode; codecs {', '.join(have)}"
    if lacking:
        mend = f"videos in {', '.join(lacking)} fail as Unsupported; reinstall av from its wheel"
        return Finding("lacks", "decoders", found, mend)
    return Finding("ok", "decoders", found)


def _shared_memory() -> Finding:
    if not os.path.isdir("/dev/shm"):
        return Finding("lacks", "/dev/shm", "absent: frames go through the temporary folder")
    free = shutil.disk_usage("/dev/shm").free / 2**30
    if free < 2:
        mend = (
            "Ray spills to disk and slows down; start containers with --shm-size of 30% of memory"
        )
        return Finding("lacks", "/dev/shm", f"{free:.2f} GiB free", mend)
    return Finding("ok", "/dev/shm", f"{free:.1f} GiB free")


def _ray() -> Finding:
    address = os.environ.get("RAY_ADDRESS")
    version = importlib.metadata.version("ray")
    if address:
        return Finding("ok", "ray", f"{version}; RAY_ADDRESS={address}: jobs run on that cluster")
    return Finding("ok", "ray", f"{version}; no RAY_ADDRESS: each job starts Ray on this machine")


def _milvus(uri: str | None) -> Finding:
    from vidembed.store.milvus import Collection

    if uri is not None:
        names = Collection(uri, "doctor").collections()
        return Finding("ok", "milvus", f"{uri} answers; collections: {', '.join(names) or 'none'}")
    with tempfile.TemporaryDirectory() as folder:
        collection = Collection(os.path.join(folder, "doctor.db"), "doctor")
        collection.collections()
        collection.close()
    return Finding("ok", "milvus", "Milvus Lite works; --milvus URI tries a server")


def _s3(address: str | None) -> Finding:
    keys = [k for k in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ROLE_ARN") if k in os.environ]
    shared = Path("~/.aws/credentials").expanduser().exists()
    if address is not None:
        count = sum(1 for _ in sources.walk_files(address))
        return Finding("ok", "s3", f"{address}: {count} files")
    if keys or shared:
        where = keys[0] if keys else "~/.aws/credentials"
        return Finding("ok", "s3", f"credentials from {where}; --s3 s3://bucket/prefix tries them")
    mend = "s3:// needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or an instance role"
    return Finding("lacks", "s3", "no credentials in sight", mend)


def _weights(encoder: str | None, weights: str | None) -> Finding:
    from vidembed.encode import registry

    name = encoder or ("clip4clip" if weights else "clip4clip-tiny")
    try:
        spec = registry.describe(name, weights)
    except VidembedError as error:
        return Finding("lacks", "weights", f"{name}: {error}")
    return Finding(
        "ok", "weights", f"{name}: {spec.architecture}, {spec.dim}-d, {spec.digest[:12]}"
    )
