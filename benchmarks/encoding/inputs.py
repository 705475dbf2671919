"""Clips as the encode stage gets them: sampled, scaled and cropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tests.goldens import seeded
from vidembed.pixels import prepare

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from vidembed.clips import ClipSpec


def clips(spec: ClipSpec, count: int, folder: Path | None) -> NDArray[Any]:
    """`count` clips of an encoder, prepared: [count, frames, crop, crop, 3].

    folder: of .npy files, uint8 RGB [frames, height, width, 3], which are taken in turn, their
    frames evenly; None: drawn ones.
    """
    files = sorted(folder.glob("*.npy")) if folder else []
    if folder and not files:
        raise SystemExit(f"{folder} holds no .npy files")
    total = spec.sampling.total
    made = []
    for k in range(count):
        if files:
            whole = np.load(files[k % len(files)], allow_pickle=False)
            frames = whole[[i * len(whole) // total for i in range(total)]]
        else:
            frames = seeded.clip(total, 240, 320, seed=k)
        made.append(prepare(frames, spec.resize))
    return np.stack(made)
