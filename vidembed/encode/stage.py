"""The encode stage: clips in, vectors out. A plain callable that holds a loaded encoder."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vidembed import log, schema
from vidembed.encode import registry
from vidembed.imports import unswept
from vidembed.labels import ALONE
from vidembed.tally import Event, Tally, encode_stage, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidembed.encode.registry import Device, Dtype
    from vidembed.encode.spec import Encoder, EncoderSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeSettings:
    """All that the encode stage needs to know. label: whose columns it works on; threads: of torch
    on a CPU; 0 leaves torch's own; batch: clips that a full batch has, 0 where nobody knows.
    """

    spec: EncoderSpec
    label: str = ALONE
    device: Device = "auto"
    dtype: Dtype = "auto"
    threads: int = 0
    batch: int = 0


class Encode:
    """clips -> vectors: the same rows, with `embedding` in the place of this encoder's `pixels`.

    Rows without its pixels pass through, and so do all columns that are not its own. A vector that
    is not finite becomes a failure of its video.
    """

    def __init__(self, settings: EncodeSettings, tally: Tally = silent) -> None:
        self._tally = tally
        self._dim, self._label = settings.spec.dim, settings.label
        self._stage = encode_stage(settings.label)
        self._column = partial(schema.own, label=settings.label)
        self._most = 0
        self._name = f"encode-{os.uname().nodename}-{os.getpid()}"
        self._batch = settings.batch
        began = time.time()
        with unswept():
            if settings.threads:
                import torch

                torch.set_num_threads(settings.threads)
            self._encoder: Encoder = registry.load(settings.spec, settings.device, settings.dtype)
        self._note_loaded(settings, time.time() - began)

    def __call__(self, clips: pa.Table) -> pa.Table:
        """Table of `schema.clips`, or of another encoder's `schema.encoded`, to table of
        `schema.encoded`, row by row.
        """
        began = time.time()
        # Only what is encoded here: the pixels of the encoders to come are not touched.
        mine = clips.select([self._column("pixels"), self._column("valid_frames")])
        there: NDArray[np.bool_] = mine[0].is_valid().to_numpy()
        vectors = np.zeros((len(clips), self._dim), np.float32)
        if there.any():
            vectors[there] = self._encode(mine if there.all() else mine.filter(pa.array(there)))
        finite: NDArray[np.bool_] = np.asarray(np.isfinite(vectors).all(axis=1))
        table = self._assemble(clips, vectors, there, finite)
        bad = int((~finite).sum())
        self._tally(
            Event(
                stage=self._stage,
                worker=self._name,
                began=began,
                seconds=time.time() - began,
                clips=int(there.sum()) - bad,
                failures={"NonFinite": bad} if bad else {},
                slots=max(self._batch, len(clips)) if there.any() else 0,
            )
        )
        if bad:
            self._note_not_finite(clips, finite)
        return table

    def _note_loaded(self, settings: EncodeSettings, seconds: float) -> None:
        encoder = self._encoder
        log.note(
            "encoder loaded",
            self._stage,
            encoder=settings.spec.name,
            seconds=round(seconds, 3),
            device=str(getattr(encoder, "device", settings.device)),
            dtype=str(getattr(encoder, "dtype", settings.dtype)).removeprefix("torch."),
        )

    def _note_not_finite(self, clips: pa.Table, finite: NDArray[np.bool_]) -> None:
        facts = {name: _FAILURE[name] for name in ("error", "message", "attempts")}
        for video in clips["video_id"].filter(pa.array(~finite)).unique().to_pylist():
            log.note("video failed", "encode", "warning", video_id=video, **facts)

    def _encode(self, clips: pa.Table) -> NDArray[np.float32]:
        pixels, valid = clips.combine_chunks().columns
        return self._fitting(pixels.chunk(0).to_numpy_ndarray(), valid.to_pylist())

    def _fitting(self, pixels: NDArray[Any], valid: list[int]) -> NDArray[np.float32]:
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
        self,
        clips: pa.Table,
        vectors: NDArray[np.float32],
        there: NDArray[np.bool_],
        finite: NDArray[np.bool_],
    ) -> pa.Table:
        wanted = schema.encoded(clips.schema, self._label, self._dim)
        failure = {self._column(name): value for name, value in _FAILURE.items()}
        columns: list[Any] = []
        for field in wanted:
            if field.name == self._column("embedding"):
                columns.append(
                    pa.FixedSizeListArray.from_arrays(
                        vectors.reshape(-1), type=field.type, mask=pa.array(~(there & finite))
                    )
                )
            elif field.name in failure and not finite.all():
                columns.append(_instead(clips, field, finite, failure[field.name]))
            else:
                columns.append(clips[field.name])
        return pa.table(columns, schema=wanted)


_FAILURE: dict[str, Any] = {
    "stage": "encode",
    "error": "NonFinite",
    "message": "the encoder returned NaN or infinity; try --dtype float32",
    "attempts": 1,
}


def _instead(clips: pa.Table, field: pa.Field, keep: NDArray[np.bool_], value: Any) -> pa.Array:
    """A column with `value` in all rows but those of `keep`."""
    values = clips[field.name].to_pylist()
    mended = [v if ok else value for v, ok in zip(values, keep, strict=True)]
    return pa.array(mended, field.type)
