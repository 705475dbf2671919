"""The record of a run as JSON, and its tables as Markdown."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.encoding.measure import Timing

NOT_YET = "not yet measured"
_SPEED = (
    "encoder", "weights", "frames", "GMACs a clip", "dtype", "compiled", "batch", "clips/s",
    "ms a clip", "share of the peak", "GiB at most", "share of the copy",
)  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Result:
    """One encoder. origin: of its weights, `seeded`, `real` or `shipped`; stated_gmacs: what the
    table of encoders says; gmacs: counted for one clip; problem: why it was not measured.
    """

    name: str
    origin: str = ""
    frames: int = 0
    crop: int = 0
    parameters: int | None = None
    stated_gmacs: str = ""
    gmacs: float | None = None
    timings: list[Timing] = field(default_factory=list)
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All that was measured. about: of the machine and the run; peak: FLOP/s of the machine."""

    about: dict[str, Any]
    peak: float
    results: list[Result]


def record(run: Run) -> dict[str, Any]:
    """As plain values; times in seconds, memory in bytes. No folder of this machine is in it."""
    return {
        **run.about,
        "peak_flops": run.peak,
        "encoders": {
            r.name: {k: v for k, v in asdict(r).items() if k != "name"} for r in run.results
        },
    }


def markdown(run: Run) -> str:
    about = run.about
    versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
    on_gpu = about["device"] == "cuda"
    parts = [
        f"# Encoders on {'a GPU' if on_gpu else 'a CPU'}, {about['date']}\n",
        (
            f"vidembed at `{about['commit']}`, on {about['machine']} (load at the start "
            f"{about['load']}). {versions}. {about['clips']}.\n"
        ),
        f"{about['note']}\n" if about["note"] else "",
        (
            f"A product of large bfloat16 matrices reaches {run.peak / 1e12:.3g} TFLOP/s here; "
            "shares are of that. A multiply-add is two operations.\n"
            if on_gpu
            else ""
        ),
        "A clip is what the encoder's default preset has, sampled and scaled already.\n",
        "## Speed\n",
        _table(
            _SPEED,
            [line for result in run.results for line in _speeds(result, run.peak, on_gpu=on_gpu)],
        ),
        "## Distance to float32\n",
        (
            "Cosine of a clip's vector to that of float32 without compilation: the mean over the "
            "clips, and the least. With seeded weights it says that a type works, not how far it "
            "is from float32 with real ones.\n"
        ),
        _table(
            ["encoder", "weights", "dtype", "compiled", "mean", "least"],
            [line for result in run.results for line in _distances(result, on_gpu=on_gpu)],
        ),
        _problems(run.results),
    ]
    return "\n".join(part for part in parts if part)


def _speeds(result: Result, peak: float, *, on_gpu: bool) -> Iterable[list[str]]:
    head = [
        f"`{result.name}`",
        result.origin or "–",
        str(result.frames or "–"),
        _number(result.gmacs),
    ]
    for timing in result.timings:
        yield [*head, *_way(timing), *_speed(timing, result.gmacs, peak if on_gpu else None)]
    if not on_gpu:
        yield [*head, "on CUDA", "", *[NOT_YET] * 6]


def _speed(timing: Timing, gmacs: float | None, peak: float | None) -> list[str]:
    if timing.best is None:
        return ["–"] * 6
    size, rate = timing.best
    share = f"{100 * 2e9 * gmacs * rate / peak:.1f} %" if gmacs and peak else "–"
    memory = f"{timing.peak_bytes / 2**30:.2f}" if timing.peak_bytes else "–"
    largest = max(timing.seconds)
    copied = timing.copy_seconds
    copy = f"{100 * copied / timing.seconds[largest]:.1f} %" if copied else "–"
    return [str(size), f"{rate:.3g}", f"{1000 / rate:.3g}", share, memory, copy]


def _distances(result: Result, *, on_gpu: bool) -> Iterable[list[str]]:
    head = [f"`{result.name}`", result.origin or "–"]
    for timing in result.timings:
        if timing.cosines:
            mean = sum(timing.cosines) / len(timing.cosines)
            yield [*head, *_way(timing), f"{mean:.6f}", f"{min(timing.cosines):.6f}"]
    if not on_gpu:
        yield [*head, "on CUDA", "", NOT_YET, NOT_YET]


def _way(timing: Timing) -> list[str]:
    return [timing.dtype, "yes" if timing.compiled else "no"]


def _problems(results: Sequence[Result]) -> str:
    lines = [f"- `{r.name}`: {r.problem}" for r in results if r.problem]
    lines += [
        f"- `{r.name}`, {t.dtype}{', compiled' if t.compiled else ''}: {t.problem}"
        for r in results
        for t in r.timings
        if t.problem
    ]
    return "## Not measured\n\n" + "\n".join(lines) + "\n" if lines else ""


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
