"""The encode stage: clips in, vectors out. A plain callable that holds a loaded encoder."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vidembed import schema
from vidembed.encode import registry
from vidembed.tally import Event, Tally, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidembed.encode.registry import Device, Dtype
    from vidembed.encode.spec import Encoder, EncoderSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeSettings:
    """All that the encode stage needs to know. threads: of torch on a CPU; 0 leaves torch's own."""

    spec: EncoderSpec
    metadata: pa.Schema
    device: Device = "auto"
    dtype: Dtype = "auto"
    threads: int = 0


class Encode:
    """clips -> vectors: the same rows without pixels and with `embedding`.

    Failed rows pass through. A vector that is not finite becomes a failure of its video.
    """

    def __init__(self, settings: EncodeSettings, tally: Tally = silent) -> None:
        self._tally = tally
        self._schema = schema.vectors(settings.spec.dim, settings.metadata)
        self._dim = settings.spec.dim
        self._most = 0
        self._name = f"encode-{os.uname().nodename}-{os.getpid()}"
        if settings.threads:
            import torch

            torch.set_num_threads(settings.threads)
        self._encoder: Encoder = registry.load(settings.spec, settings.device, settings.dtype)

    def __call__(self, clips: pa.Table) -> pa.Table:
        """Table of `schema.clips` to table of `schema.vectors`, row by row."""
        began = time.time()
        clips = clips.combine_chunks()
        good = np.flatnonzero(clips["error"].is_null().to_numpy())
        vectors = np.zeros((len(clips), self._dim), np.float32)
        if len(good):
            vectors[good] = self._encode(clips, good)
        finite: NDArray[np.bool_] = np.asarray(np.isfinite(vectors).all(axis=1))
        table = self._assemble(clips, vectors, finite)
        bad = int((~finite).sum())
        self._tally(
            Event(
                stage="encode",
                worker=self._name,
                began=began,
                seconds=time.time() - began,
                clips=len(good) - bad,
                failures={"NonFinite": bad} if bad else {},
            )
        )
        return table

    def _encode(self, clips: pa.Table, good: NDArray[np.int64]) -> NDArray[np.float32]:
        rows = clips.take(pa.array(good)) if len(good) < len(clips) else clips
        pixels = rows["pixels"].combine_chunks().to_numpy_ndarray()
        sampling = self._encoder.spec.clip.sampling
        masked = sampling.pad == "mask"
        valid = rows["frames"].to_pylist() if masked else [sampling.count] * len(rows)
        return self._fitting(pixels, valid)

    def _fitting(self, pixels: NDArray[np.uint8], valid: list[int]) -> NDArray[np.float32]:
        """Encode in parts of at most what has fitted into the device's memory so far."""
        import torch

        parts: list[NDArray[np.float32]] = []
        at = 0
        while at < len(pixels):
            step = self._most or len(pixels)
            try:
                part = pixels[at : at + step]
                parts.append(self._encoder.encode_video(part, valid[at : at + step]))
            except torch.OutOfMemoryError:
                if len(part) == 1:
                    raise
                self._most = max(1, len(part) // 2)
                torch.cuda.empty_cache()
                continue
            at += step
        return np.concatenate(parts)

    def _assemble(
        self, clips: pa.Table, vectors: NDArray[np.float32], finite: NDArray[np.bool_]
    ) -> pa.Table:
        failed = ~clips["error"].is_null().to_numpy() | ~finite
        columns: list[Any] = []
        for field in self._schema:
            if field.name == "embedding":
                columns.append(
                    pa.FixedSizeListArray.from_arrays(
                        vectors.reshape(-1), type=field.type, mask=pa.array(failed)
                    )
                )
            elif field.name in _FAILURE and not finite.all():
                columns.append(_non_finite(clips, field, finite))
            else:
                columns.append(clips[field.name])
        return pa.table(columns, schema=self._schema)


_FAILURE: dict[str, Any] = {
    "stage": "encode",
    "error": "NonFinite",
    "message": "the encoder returned NaN or infinity; try --dtype float32",
    "attempts": 1,
}


def _non_finite(clips: pa.Table, field: pa.Field, finite: NDArray[np.bool_]) -> pa.Array:
    values = clips[field.name].to_pylist()
    mended = [v if ok else _FAILURE[field.name] for v, ok in zip(values, finite, strict=True)]
    return pa.array(mended, field.type)
