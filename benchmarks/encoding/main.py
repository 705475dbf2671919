"""`python benchmarks/encoders.py`: one encoder after the other, one table at the end."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers

from benchmarks import machine
from benchmarks.encoding import inputs, measure, seeds
from benchmarks.encoding.report import Result, Run, markdown, record
from vidembed.encode import registry
from vidembed.errors import VidembedError

if TYPE_CHECKING:
    from vidembed.encode.entry import Entry

_ROOT = Path(__file__).resolve().parents[2]
_DTYPES: tuple[registry.Dtype, ...] = ("float32", "bfloat16", "float16")


def main(words: list[str] | None = None) -> None:
    options = _options(words)
    about = _about(options)
    peak = measure.peak(options.device)
    print(f"bfloat16 matrices: {peak / 1e12:.3g} TFLOP/s", flush=True)
    results = []
    for row in registry.ENTRIES.values():
        if not options.only or row.name in options.only:
            left_out = row.name in options.leave_out
            results.append(
                Result(name=row.name, problem="left out of this run")
                if left_out
                else _one(row, options)
            )
            _write(Run(about=about, peak=peak, results=results), options)
    print(markdown(Run(about=about, peak=peak, results=results)))


def _one(row: Entry, options: argparse.Namespace) -> Result:
    """One encoder; why it was not measured is part of the result."""
    result = Result(name=row.name, stated_gmacs=row.gmacs)
    given: str | None = dict(options.weights).get(row.name)
    try:
        with tempfile.TemporaryDirectory(prefix="vidembed-bench-") as folder:
            path = given if given or row.shipped else seeds.weights(row, Path(folder))
            result.origin = "real" if given else "shipped" if row.shipped else "seeded"
            _measure(row, path, result, options)
    except (seeds.NoSeedError, VidembedError) as error:
        result.problem = str(error)
        print(f"{row.name}: {error}", flush=True)
    return result


def _measure(row: Entry, path: str | None, result: Result, options: argparse.Namespace) -> None:
    spec = registry.describe(row.name, path)
    result.parameters = seeds.parameters(path) if path else None
    result.frames, result.crop = spec.clip.sampling.total, spec.clip.resize.crop
    clips = inputs.clips(spec.clip, options.count, options.clips)
    reference = None
    for compiled in (False, True) if options.compile else (False,):
        for dtype in options.dtypes:
            way = measure.Way(
                device=options.device,
                dtype=dtype,
                compiled=compiled,
                quick=options.device == "cpu" and options.short,
            )
            timing, vectors, macs = measure.run(spec, clips, options.batches, way)
            if dtype == "float32" and not compiled:
                reference = vectors
            if vectors is not None and reference is not None:
                timing.cosines = measure.cosines(vectors, reference)
            result.gmacs = result.gmacs or macs
            result.timings.append(timing)
            rate = f"{timing.best[1]:.3g} clips/s" if timing.best else timing.problem
            print(f"{row.name} {dtype}{' compiled' * compiled}: {rate}", flush=True)


def _write(run: Run, options: argparse.Namespace) -> None:
    """After each encoder: what breaks later takes nothing away."""
    options.out.mkdir(parents=True, exist_ok=True)
    on_cpu = "-cpu" * (options.device == "cpu")
    short = "-short" * options.short
    target = options.out / f"encoders-{run.about['date']}{short}{on_cpu}"
    target.with_suffix(".md").write_text(markdown(run))
    target.with_suffix(".json").write_text(json.dumps(record(run), indent=1) + "\n")


def _options(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/encoders.py", description="Speed and precision of the encoders."
    )
    say = parser.add_argument
    say("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    say("--weights", nargs="+", type=_named, default=[], metavar="NAME=PATH", help="real weights")
    say("--clips", type=Path, help="a folder of .npy, uint8 RGB [frames, height, width, 3]")
    say("--only", nargs="+", choices=list(registry.ENTRIES), help="these encoders")
    say("--leave-out", nargs="+", choices=list(registry.ENTRIES), default=[], metavar="NAME")
    say(
        "--dtypes",
        nargs="+",
        choices=_DTYPES,
        help="[all; on a CPU float32, and bfloat16 if it has that]",
    )
    say("--batches", nargs="+", type=int, help="batch sizes, in clips [1 4 16 64; on a CPU 1]")
    say("--count", type=int, help="clips that types are compared on [16; on a CPU 4]")
    say("--compile", action=argparse.BooleanOptionalAction, help="also by torch.compile [on CUDA]")
    say("--short", action="store_true", help="2 clips, no compilation, few batch sizes")
    say("--note", default="", help="for the record")
    say("--out", type=Path, default=_ROOT / "benchmarks" / "results")
    options = parser.parse_args(words)
    on_gpu, short = options.device == "cuda", options.short
    on_cpu = tuple(dict.fromkeys(("float32", machine.cpu_dtype())))
    options.dtypes = options.dtypes or (_DTYPES if on_gpu else on_cpu)
    options.batches = options.batches or (([1, 16] if short else [1, 4, 16, 64]) if on_gpu else [1])
    options.count = options.count or (2 if short else 16 if on_gpu else 4)
    if options.compile is None:
        options.compile = on_gpu and not short
    return options


def _named(word: str) -> tuple[str, str]:
    name, equals, path = word.partition("=")
    if not equals or name not in registry.ENTRIES:
        raise argparse.ArgumentTypeError(f"expected NAME=PATH, NAME one of the table, got {word!r}")
    return name, path


def _about(options: argparse.Namespace) -> dict[str, Any]:
    origin = "from files" if options.clips else "drawn"
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": machine.commit(),
        "machine": _machine(options.device),
        "device": options.device,
        "load": f"{os.getloadavg()[0]:.1f}",
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "Python": platform.python_version(),
        },
        "threads": torch.get_num_threads(),
        "batches": options.batches,
        "clips": f"Clips: {options.count}, {origin}",
        "short": options.short,
        "note": options.note,
    }


def _machine(device: str) -> str:
    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    threads = torch.get_num_threads()
    return (
        f"{machine.cpu()}, {os.cpu_count()} cores, {threads} thread{'s' * (threads != 1)} of torch"
    )
