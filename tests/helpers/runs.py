"""Small runs made by hand, without a job: rows of vectors and failures, committed for real."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vidembed import schema
from vidembed.clips import ClipSpec, Resize, Sampling
from vidembed.store.run import Run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vidembed.encode.spec import EncoderSpec

METADATA = pa.schema([pa.field("caption", pa.string())])
CLIP = ClipSpec(sampling=Sampling(kind="uniform", count=4), resize=Resize(short_side=16, crop=16))


def record(spec: EncoderSpec | None = None, dim: int = 4, **changes: Any) -> dict[str, Any]:
    """What run.json says, for an encoder or for vectors from nowhere."""
    identity = {
        "encoder": "clip4clip",
        "architecture": "made",
        "weights": "0" * 64,
        "clip": CLIP.describe(),
    }
    made = {
        "identity": spec.identity if spec else identity,
        "fingerprint": spec.fingerprint if spec else "f" * 16,
        "weights": spec.weights if spec else "",
        "metric": spec.metric if spec else "COSINE",
        "dim": spec.dim if spec else dim,
    }
    return made | changes


def good(video: str, vector: Sequence[float], segment: int = 0, segments: int = 1) -> dict:
    """A row of `schema.vectors` that was embedded."""
    return {
        "id": video if segments == 1 else f"{video}#{segment}",
        "video_id": video,
        "segment": segment,
        "segments": segments,
        "start_s": float(segment),
        "end_s": segment + 1.0,
        "uri": f"/videos/{video}.mp4",
        "frames": 4,
        "duration_s": float(segments),
        "fps": 25.0,
        "width": 160,
        "height": 120,
        "embedding": np.asarray(vector, np.float32).tolist(),
        "caption": f"this is {video}",
    }


def bad(video: str, error: str = "Corrupt", segment: int = 0, segments: int = 0) -> dict:
    """A row of `schema.vectors` that failed."""
    return {
        "id": video,
        "video_id": video,
        "segment": segment,
        "segments": segments,
        "uri": f"/videos/{video}.mp4",
        "stage": "decode",
        "error": error,
        "message": f"{video} is damaged",
        "attempts": 1,
        "caption": f"this is {video}",
    }


def vectors(rows: Sequence[dict], dim: int = 4) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=schema.vectors(dim, METADATA))


def write_run(
    folder: Path, rows: Sequence[dict], spec: EncoderSpec | None = None, dim: int = 4
) -> Run:
    """A run of these rows, in one commit."""
    made = record(spec, dim)
    run = Run.create_or_resume(str(folder), made)
    run.commit(vectors(rows, made["dim"]))
    return run
