"""What the scripts of all peers share: their words, one and the same encoder, the preprocessing.

Each is run as `python -m benchmarks.comparing.peers.NAME --list FILE --out FOLDER --encoder …`.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

FRAMES, SIDE, DIM = 12, 224, 512
BATCH = 16
# A variable of the environment, which names the type that CLIP is computed in.
DTYPE = "VIDEMBED_BENCH_DTYPE"
# CLIP's own.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def options() -> Any:
    """list: a file of paths; weights: a folder of CLIP as transformers writes it.

    interval: seconds between two frames where a peer cannot be asked for a number of them.
    every: the same in frames. processes: side by side, of the bare loops alone.
    """
    parser = argparse.ArgumentParser()
    say = parser.add_argument
    say("--list", type=Path, required=True)
    say("--out", type=Path, required=True)
    say("--encoder", choices=["null", "clip"], required=True)
    say("--weights", required=True)
    say("--interval", type=float, required=True)
    say("--every", type=int, required=True)
    say("--processes", type=int, default=1)
    found = parser.parse_args()
    found.paths = found.list.read_text().split("\n")[:-1]
    found.out.mkdir(parents=True, exist_ok=True)
    return found


def encoder(name: str, weights: str) -> Null | Clip:
    return Null() if name == "null" else Clip(weights)


class Null:
    """Frames come, zeros go."""

    def frames(self, frames: np.ndarray) -> np.ndarray:
        """uint8 [n, 224, 224, 3] to float32 [n, 512]."""
        return np.zeros((len(frames), DIM), np.float32)

    def videos(self, videos: np.ndarray) -> np.ndarray:
        """uint8 [batch, n, 224, 224, 3] to float32 [batch, 512], the mean of the frames."""
        return np.zeros((len(videos), DIM), np.float32)


class Clip:
    """CLIP's tower for pictures in the type that DTYPE names, the mean of its frames' vectors."""

    def __init__(self, weights: str) -> None:
        import torch

        # Here too: a worker of Ray's may get a class without the module that it is of.
        mend_torchvision()
        from transformers import CLIPVisionModelWithProjection

        dtype = getattr(torch, os.environ[DTYPE])
        model = CLIPVisionModelWithProjection.from_pretrained(weights, dtype=dtype)
        self._torch, self._model, self._dtype = torch, model.eval(), dtype
        self._mean = torch.tensor(MEAN).view(3, 1, 1) * 255
        self._std = torch.tensor(STD).view(3, 1, 1) * 255

    def frames(self, frames: np.ndarray) -> np.ndarray:
        """uint8 [n, 224, 224, 3] to float32 [n, 512] of unit length."""
        torch = self._torch
        pixels = torch.from_numpy(np.array(frames)).permute(0, 3, 1, 2)
        return self.pixels((pixels - self._mean) / self._std)

    def pixels(self, pixels: Any) -> np.ndarray:
        """float32 [n, 3, 224, 224], normalised, to float32 [n, 512] of unit length."""
        torch = self._torch
        with torch.inference_mode():
            found = self._model(pixel_values=pixels.to(self._dtype)).image_embeds.float()
            vectors: np.ndarray = torch.nn.functional.normalize(found, dim=-1).numpy()
        return vectors

    def videos(self, videos: np.ndarray) -> np.ndarray:
        """uint8 [batch, n, 224, 224, 3] to float32 [batch, 512]."""
        vectors = self.frames(videos.reshape(-1, *videos.shape[2:]))
        mean = vectors.reshape(*videos.shape[:2], -1).mean(axis=1)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def uniform(total: int) -> np.ndarray:
    """The seeds' rule: 12 of `total` frames."""
    return np.linspace(0, total - 1, FRAMES).astype(int)


def prepared(frame: np.ndarray) -> np.ndarray:
    """As CLIP has it: the short side bicubic to 224, the middle cut out; uint8 [224, 224, 3]."""
    from PIL import Image

    picture = Image.fromarray(frame)
    scale = SIDE / min(picture.size)
    size = [max(SIDE, int(scale * length)) for length in picture.size]
    picture = picture.resize((size[0], size[1]), Image.Resampling.BICUBIC)
    left, top = (round((length - SIDE) / 2) for length in picture.size)
    return np.asarray(picture.crop((left, top, left + SIDE, top + SIDE)))


def read_video(path: str) -> np.ndarray:
    """12 frames, ready: decord, as most scripts have it, by one thread. uint8 [12, 224, 224, 3]."""
    import decord

    reader = decord.VideoReader(path, num_threads=1)
    frames = reader.get_batch(uniform(len(reader))).asnumpy()
    return np.stack([prepared(frame) for frame in frames])


def write(out: Path, ids: list[str], vectors: np.ndarray) -> None:
    """One Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM)
    pq.write_table(pa.table({"id": ids, "embedding": column}), out / "vectors.parquet")


def mend_torchvision() -> None:
    """Its wheel on PyPI is built for CUDA: beside a CPU torch it imports once these are there."""
    import torch

    there = importlib.util.find_spec("torchvision") and not hasattr(torch, "_torchvision_shim")
    if there and torch.version.cuda is None:
        library = torch.library.Library("torchvision", "DEF")
        words = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        for name in ("nms", "qnms"):
            library.define(name + words)
        # Alive as long as the process.
        sys.modules["torch"]._torchvision_shim = library  # type: ignore[attr-defined]
