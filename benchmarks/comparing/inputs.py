"""What everybody is given: the same clips, the same bad ones among them, the same weights."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import av

from benchmarks.decoding import inputs as drawn

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.decoding.inputs import Clip


@dataclass(frozen=True, slots=True, kw_only=True)
class Clips:
    """interval, every: from one frame to the next where 12 are taken of a clip, in seconds and in
    frames; of the mean over all clips.
    """

    clips: list[Clip]
    interval: float
    every: int

    @property
    def seconds(self) -> float:
        """The mean length of a clip."""
        return sum(clip.frames / clip.fps for clip in self.clips) / len(self.clips)


def clips(folder: Path | None, cache: Path) -> Clips:
    """Those of a folder, or drawn ones: H.264 of 240p, 10 s, three lengths of a GOP."""
    if folder:
        found, _ = drawn.folder(folder)
    else:
        found = drawn.draw(cache, [("h264", "240p", gop) for gop in (12, 48, 250)])
    if not found:
        raise SystemExit(f"{folder} holds no videos")
    last = [(clip.frames - 1) / (drawn.COUNT - 1) for clip in found]
    seconds = [step / clip.fps for step, clip in zip(last, found, strict=True)]
    return Clips(
        clips=found,
        # A little less, so that rounding does not cost the last frame.
        interval=0.999 * sum(seconds) / len(found),
        every=max(1, int(sum(last) / len(found))),
    )


def copies(clips: Clips, count: int, folder: Path) -> list[Path]:
    """`count` files of their own, the clips in turn: nobody decodes one file twice."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    made = []
    for k in range(count):
        clip = clips.clips[k % len(clips.clips)]
        made.append(folder / f"{k:05d}.{clip.path.rsplit('.', 1)[1]}")
        shutil.copyfile(clip.path, made[-1])
    return made


def bad(clips: Clips, folder: Path) -> list[Path]:
    """Four files that cannot be embedded whole, named by what is wrong with them."""
    whole = folder / "whole.mp4"
    _index_first(clips.clips[0].path, whole)
    data = whole.read_bytes()
    broken = {
        "empty": b"",
        "web-page": b"<!doctype html><title>404 Not Found</title>" * 20,
        # All frames are in the index, and half of them in the file.
        "cut-in-half": data[: len(data) // 2],
        "no-index": data[data.index(b"mdat") - 4 :],
    }
    whole.unlink()
    for name, content in broken.items():
        (folder / f"{name}.mp4").write_bytes(content)
    return [folder / f"{name}.mp4" for name in broken]


def _index_first(source: str, target: Path) -> None:
    """Copy a video's packets into an MP4 whose index precedes them."""
    options = {"movflags": "faststart"}
    with av.open(source) as given, av.open(str(target), "w", options=options) as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(given.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                made.mux(packet)


def weights(cache: Path) -> str:
    """A folder of CLIP ViT-B/32 as transformers writes it, drawn from a seed."""
    folder = cache / "weights"
    found = folder / "clip4clip"
    if not (found / "model.safetensors").exists():
        # They load torch, which has no place in the process that measures others.
        from benchmarks.encoding import seeds
        from vidembed.encode import registry

        shutil.rmtree(folder, ignore_errors=True)
        seeds.weights(registry.entry("clip4clip"), folder)
    return str(found)
