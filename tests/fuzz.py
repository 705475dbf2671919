"""Thousands of broken videos through a real decode worker: `python -m tests.fuzz --cases 50000`.

A case is named by the seed and its number; `--only 1234` runs one of them, `--keep DIR` keeps the
files of those that crashed, timed out or broke a promise.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tests.helpers.damage import SUFFIXES, damaged
from tests.helpers.videos import frame_numbers, write_video
from vidembed.clips import ClipSpec, Resize, Sampling, Segmentation
from vidembed.decode.limits import Limits
from vidembed.decode.protocol import Request, Share
from vidembed.decode.worker import DecodeWorker
from vidembed.errors import FAILURES, ClipError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vidembed.decode.protocol import Answer

LIMITS = Limits(seconds=10.0, memory_bytes=1 << 30, file_bytes=1 << 30)
FRAMES = 24
BASES = {
    "h264.mp4": {"b_frames": 2},
    "h264.mkv": {"b_frames": 2},
    "hevc.mp4": {"codec": "hevc", "b_frames": 2},
    "vp9.webm": {"codec": "vp9"},
    "av1.mp4": {"codec": "av1"},
    "mpeg4.avi": {"codec": "mpeg4", "b_frames": 1},
    "h264.ts": {"b_frames": 2, "audio": True},
    "fragmented.mp4": {"b_frames": 2, "options": {"movflags": "frag_keyframe+empty_moov"}},
}
_RESIZE = Resize(short_side=64, crop=64)
UNIFORM = ClipSpec(sampling=Sampling(kind="uniform", count=6), resize=_RESIZE)
OTHERS = (
    ClipSpec(sampling=Sampling(kind="fps", count=6, fps=4.0), resize=_RESIZE),
    ClipSpec(sampling=Sampling(kind="clip4clip", count=6, pad="mask"), resize=_RESIZE),
    ClipSpec(sampling=Sampling(kind="fast", count=6), resize=_RESIZE),
    ClipSpec(sampling=Sampling(kind="keyframes", count=6), resize=_RESIZE, aspect="display"),
)


@dataclass
class Report:
    """outcomes: how often which base ended how. named: cases whose fate a reader wants to look up.
    broken: promises that were not kept.
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    named: dict[str, list[str]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def name(self, kind: str, what: str) -> None:
        self.named.setdefault(kind, []).append(what)

    def lines(self) -> Iterable[str]:
        kinds = sorted({kind for _, kind in self.outcomes})
        yield "".join(f"{word:>15}" for word in ("", *kinds))
        for base in sorted({base for base, _ in self.outcomes}):
            counts = (self.outcomes[base, kind] for kind in kinds)
            yield "".join(f"{word:>15}" for word in (base, *counts))
        yield f"slowest case: {self.slowest:.1f} s"
        for kind, cases in self.named.items():
            yield f"{kind}: {len(cases)}"
            yield from (f"  {case}" for case in cases)
        yield f"broken promises: {len(self.broken)}"
        yield from (f"  {case}" for case in self.broken)


class Fuzz:
    """The undamaged files and a worker that survives the damaged ones."""

    def __init__(self, folder: Path, seed: int, keep: Path | None = None) -> None:
        self.folder, self.seed, self.keep = folder, seed, keep
        self.files = {
            name: write_video(folder / name, frames=FRAMES, size=(96, 72), gop=8, **given)
            for name, given in BASES.items()
        }
        self.data = {name: path.read_bytes() for name, path in self.files.items()}
        self.worker = DecodeWorker(LIMITS)
        self.report = Report()
        self.clean = {name: self._decode(path) for name, path in self.files.items()}

    def close(self) -> None:
        self.worker.close()

    def _decode(self, path: Path) -> np.ndarray:
        _, (pixels,) = self.worker.decode(_request(path))
        return pixels[0].copy()

    def check(self, number: int) -> None:
        """One case; what it breaks is in the report."""
        rng = np.random.default_rng([self.seed, number])
        name = list(self.data)[number % len(self.data)]
        other = self.data[str(rng.choice(list(self.data)))]
        done, data = damaged(rng, self.data[name], other)
        suffix = Path(name).suffix if rng.random() < 0.9 else str(rng.choice(SUFFIXES))
        path = self.folder / f"case-{number}{suffix}"
        path.write_bytes(data)
        request = _any_request(rng, path)
        label = f"{self.seed}/{number} {name} {done} ({len(data)} bytes, {_words(request)})"
        began = time.monotonic()
        try:
            answer, (pixels,) = self.worker.decode(request)
        except ClipError as error:
            outcome = self._failed(error, path, label)
        except Exception as error:  # noqa: BLE001
            self.report.broken.append(f"{label}: {error!r}")
            outcome = "broken"
        else:
            outcome = self._answered(request, answer, pixels, self.clean[name], label)
        took = time.monotonic() - began
        self.report.slowest = max(self.report.slowest, took)
        if took > LIMITS.seconds + 2:
            self.report.broken.append(f"{label}: took {took:.1f} s")
        self.report.outcomes[name, outcome] += 1
        if self.keep is not None and outcome in ("DecoderCrash", "Timeout", "broken"):
            path.rename(self.keep / path.name)
        else:
            path.unlink()

    def _failed(self, error: ClipError, path: Path, label: str) -> str:
        if error.kind not in FAILURES or path.name not in error.message:
            self.report.broken.append(f"{label}: {error}")
        if error.kind in ("DecoderCrash", "Timeout", "TooLarge"):
            self.report.name(error.kind, f"{label}: {error.message}")
        return error.kind

    def _answered(
        self, request: Request, answer: Answer, pixels: np.ndarray, clean: np.ndarray, label: str
    ) -> str:
        if pixels.shape != (len(answer.clips[0]), *request.shares[0].spec.shape):
            self.report.broken.append(f"{label}: pixels {pixels.shape} for {len(answer.clips[0])}")
            return "broken"
        if not _is_plain(request):
            return "answer"
        found, expected = frame_numbers(pixels[0]), frame_numbers(clean)
        if -1 in found:
            self.report.name("spoilt pictures", f"{label}: {found}")
            return "spoilt"
        if found != expected:
            self.report.name("other frames", f"{label}: {found}")
            return "other frames"
        if _stain(pixels[0], clean) > 24:
            self.report.name("stained pictures", f"{label}: by {_stain(pixels[0], clean):.0f}")
            return "stained"
        return "answer"

    def check_that_it_still_works(self, number: int) -> None:
        name = list(self.files)[number // 100 % len(self.files)]
        if not np.array_equal(self._decode(self.files[name]), self.clean[name]):
            self.report.broken.append(f"after {number}: {name} decodes to other pixels")


def _request(path: Path, spec: ClipSpec = UNIFORM, **given) -> Request:
    plain = {"start_s": None, "end_s": None, "segmentation": Segmentation(), "decoder": "auto"}
    return Request(uri=str(path), shares=(Share(spec),), **plain | given)


def _any_request(rng: np.random.Generator, path: Path) -> Request:
    """Mostly the ordinary one; at times in segments, a window, another sampling or decoder, or with
    half of the frames.
    """
    given = {"decoder": str(rng.choice(["auto"] * 7 + ["pyav"] * 2 + ["decord"]))}
    if rng.random() < 0.15:
        given["segmentation"] = Segmentation(seconds=0.25)
    if rng.random() < 0.1:
        given |= {"start_s": 0.25, "end_s": 0.75}
    if rng.random() < 0.1:
        given["min_frames"] = 0.5
    spec = OTHERS[int(rng.integers(len(OTHERS)))] if rng.random() < 0.2 else UNIFORM
    return _request(path, spec, **given)


def _is_plain(request: Request) -> bool:
    return (
        request.shares[0].spec is UNIFORM
        and request.segmentation.seconds is None
        and request.start_s is None
    )


def _words(request: Request) -> str:
    words = [request.decoder, request.shares[0].spec.sampling.kind]
    words += ["segments"] if request.segmentation.seconds else []
    words += ["window"] if request.start_s is not None else []
    words += ["half"] if request.min_frames < 1 else []
    return " ".join(words)


def _stain(frames: np.ndarray, clean: np.ndarray) -> float:
    """The largest difference between the means of 8 x 8 pixels."""
    gap = frames.astype(int) - clean.astype(int)
    n, height, width, _ = gap.shape
    means = gap.reshape(n, height // 8, 8, width // 8, 8, 3).mean(axis=(2, 4, 5))
    return float(np.abs(means).max())


def run(folder: Path, cases: Iterable[int], seed: int, keep: Path | None = None) -> Report:
    fuzz = Fuzz(folder, seed, keep)
    try:
        for number in cases:
            fuzz.check(number)
            if number % 100 == 99:
                fuzz.check_that_it_still_works(number)
    finally:
        fuzz.close()
    return fuzz.report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int)
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    if given.keep is not None:
        given.keep.mkdir(parents=True, exist_ok=True)
    cases = range(given.cases) if given.only is None else [given.only]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        report = run(Path(folder), cases, given.seed, given.keep)
    print("\n".join(report.lines()))
    return bool(report.broken)


if __name__ == "__main__":
    sys.exit(main())
