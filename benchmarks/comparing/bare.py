"""The limit: vidembed's own decoder and encoder in one loop, without a data flow around them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.comparing.null_encoder import Zeros
from benchmarks.comparing.peers import common
from benchmarks.memory import OwnMemory
from vidembed.clips import ClipSpec, Resize, Sampling, Segmentation
from vidembed.decode.child import answer
from vidembed.decode.limits import Limits
from vidembed.decode.protocol import Request, Share

_SPEC = ClipSpec(
    sampling=Sampling(kind="uniform", count=common.FRAMES),
    resize=Resize(short_side=common.SIDE, crop=common.SIDE),
)


def main() -> None:
    options = common.options()
    if options.processes > 1:
        raise SystemExit(_side_by_side(options))
    encoder = _encoder(options.encoder, options.weights)
    limits, memory = Limits(), OwnMemory()
    vectors = []
    for at in range(0, len(options.paths), common.BATCH):
        clips = []
        for path in options.paths[at : at + common.BATCH]:
            request = Request(path, None, None, (Share(_SPEC),), Segmentation(), "auto")
            said = answer(request, limits, memory)  # type: ignore[arg-type]
            if said.kind:
                raise SystemExit(f"{path}: {said.kind}: {said.message}")
            clips.append(memory.pixels[0][0])
        vectors.append(encoder.encode_video(np.stack(clips)))
    common.write(options.out, options.paths, np.concatenate(vectors))


def _side_by_side(options: Any) -> int:
    """A process for each share of the list, with one thread of torch each; the worst exit code."""
    running = []
    for k in range(options.processes):
        share = options.out / f"list-{k}.txt"
        share.write_text("".join(f"{path}\n" for path in options.paths[k :: options.processes]))
        words = [
            "--list", str(share), "--out", str(options.out / str(k)),
            "--encoder", options.encoder, "--weights", options.weights,
            "--interval", str(options.interval), "--every", str(options.every),
        ]  # fmt: skip
        command = [sys.executable, "-m", "benchmarks.comparing.bare", *words]
        running.append(subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}))
    return max(abs(process.wait()) for process in running)


def _encoder(name: str, weights: str) -> Any:
    if name == "null":
        return Zeros(Zeros.describe(), "cpu", None)
    from vidembed.encode import registry

    return registry.load(registry.describe("clip4clip", weights), "cpu", machine.cpu_dtype())


if __name__ == "__main__":
    main()
