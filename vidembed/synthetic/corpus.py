"""Write a synthetic corpus: H.264 files and the manifest that describes them."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from vidembed.synthetic.captions import caption
from vidembed.synthetic.codec import write_video
from vidembed.synthetic.render import render
from vidembed.synthetic.scenes import Split, sample_scenes

COLUMNS = (
    "video_id",
    "uri",
    "caption",
    "color",
    "shape",
    "motion",
    "background",
    "pattern",
    "split",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusFormat:
    """How the clips of a corpus are filmed."""

    height: int = 120
    """Pixels; even, because yuv420p halves it."""
    width: int = 160
    seconds: tuple[float, float] = (2.0, 4.0)
    """Each clip's duration is drawn from this range."""
    fps: tuple[int, ...] = (12, 15, 20, 24, 25)
    """Each clip's frame rate is one of these."""
    crf: int = 20
    """x264's constant rate factor; lower is nearer to the drawn pixels."""


def write_corpus(
    folder: str | Path,
    count: int,
    seed: int,
    split: Split = "held_out",
    form: CorpusFormat | None = None,
) -> Path:
    """Write `count` clips of distinct scenes below `folder`; return the path of manifest.csv.

    The manifest's `uri` is relative to it. Equal arguments give equal pixels and captions. The
    manifest is written last: where it is, all its files are.
    """
    form = form or CorpusFormat()
    folder = Path(folder)
    videos = folder / "videos"
    videos.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, str]] = []
    for index, scene in enumerate(sample_scenes(count, seed, split)):
        rng = np.random.default_rng([seed, index])
        fps = int(rng.choice(form.fps))
        frames = max(2, round(rng.uniform(*form.seconds) * fps))
        words = caption(scene, rng)
        name = f"{split}_{seed}_{index:05d}"
        pixels = render(scene, frames, form.height, form.width, rng)
        write_video(videos / f"{name}.mp4", pixels, fps, form.crf)
        row = {"video_id": name, "uri": f"videos/{name}.mp4", "caption": words, "split": split}
        rows.append(row | asdict(scene))
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return manifest
