"""The decode stage: manifest rows in, clips out. A plain callable, with a child process inside."""

from __future__ import annotations

import io
import os
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from PIL import Image

from vidembed import schema
from vidembed.clips import ClipSpec, Segmentation, segment_id
from vidembed.decode.limits import Limits
from vidembed.decode.protocol import Request
from vidembed.decode.worker import DecodeWorker
from vidembed.errors import ClipError
from vidembed.tally import Event, Tally, silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from vidembed.access import Access
    from vidembed.decode.protocol import Answer

# A table of clips is passed on at this size, so that a video of many segments streams.
_TABLE_BYTES = 64 << 20
# Failures that may pass by themselves, and how often they are tried. A hang or a bomb is not tried
# again: it would only cost the deadline twice.
_ATTEMPTS = {"ReadFailed": 2, "DecoderCrash": 2}
_THUMBNAILS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeSettings:
    """All that the decode stage needs to know."""

    spec: ClipSpec
    metadata: pa.Schema
    segmentation: Segmentation = field(default_factory=Segmentation)
    decoder: str = "auto"
    device: str = "cpu"
    min_frames: float = 1.0
    access: Access | None = None
    limits: Limits = field(default_factory=Limits)


class Decode:
    """manifest rows [video_id, uri, start_s, end_s, skip?, metadata…] -> clips.

    A video that fails becomes one row without pixels: nothing that a file does raises from here.
    """

    def __init__(self, settings: DecodeSettings, tally: Tally = silent) -> None:
        self._settings = settings
        self._tally = tally
        self._worker = DecodeWorker(settings.limits)
        self._schema = schema.clips(settings.spec.shape, settings.metadata)
        self._thumbnails = _THUMBNAILS
        self._name = f"decode-{os.uname().nodename}-{os.getpid()}"

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        """Yield tables of `schema.clips`; all clips of a video, or its failure, exactly once."""
        batch = _Batch(self._schema)
        for row in rows.to_pylist():
            began = time.time()
            try:
                answer, pixels, _attempts = self._decode(row)
            except _FailedError as failed:
                batch.add_failure(row, failed.error, failed.attempts)
                self._tell(began, failures={failed.error.kind: 1})
                continue
            self._tell(
                began,
                videos=1,
                clips=len(answer.clips),
                thumbnails=self._thumbnail(row["video_id"], pixels),
                effort=asdict(answer.effort),
            )
            step = max(1, _TABLE_BYTES // int(np.prod(self._settings.spec.shape)))
            for k in range(0, len(answer.clips), step):
                batch.add_clips(row, answer, pixels, k, k + step, self._settings.segmentation)
                if batch.nbytes >= _TABLE_BYTES:
                    yield batch.take()
        yield batch.take()

    def close(self) -> None:
        self._worker.close()

    def __del__(self) -> None:
        self._worker.close()

    def _decode(self, row: dict[str, Any]) -> tuple[Answer, NDArray[np.uint8], int]:
        settings = self._settings
        request = Request(
            uri=row["uri"],
            start_s=row["start_s"],
            end_s=row["end_s"],
            spec=settings.spec,
            segmentation=settings.segmentation,
            decoder=settings.decoder,
            device=settings.device,
            min_frames=settings.min_frames,
            skip=frozenset(row.get("skip") or ()),
            access=settings.access,
        )
        attempt = 0
        while True:
            attempt += 1
            try:
                answer, pixels = self._worker.decode(request)
                return answer, pixels, attempt
            except ClipError as error:
                if attempt >= _ATTEMPTS.get(error.kind, 1):
                    raise _FailedError(error, attempt) from error
                time.sleep(0.2 * 4 ** (attempt - 1))

    def _thumbnail(self, video_id: str, pixels: NDArray[np.uint8]) -> tuple[tuple[str, bytes], ...]:
        if self._thumbnails <= 0 or not len(pixels):
            return ()
        self._thumbnails -= 1
        image = Image.fromarray(np.asarray(pixels[0, pixels.shape[1] // 2]))
        image.thumbnail((160, 160))
        data = io.BytesIO()
        image.save(data, "JPEG", quality=80)
        return ((video_id, data.getvalue()),)

    def _tell(self, began: float, **counts: Any) -> None:
        seconds = time.time() - began
        self._tally(
            Event(stage="decode", worker=self._name, began=began, seconds=seconds, **counts)
        )


class _FailedError(Exception):
    def __init__(self, error: ClipError, attempts: int) -> None:
        super().__init__(str(error))
        self.error = error
        self.attempts = attempts


class _Batch:
    """Rows of `schema.clips` until they are enough for a table."""

    def __init__(self, clips: pa.Schema) -> None:
        self._schema = clips
        self._metadata = schema.metadata_of(clips).names
        self._rows: list[dict[str, Any]] = []
        self._pixels: list[NDArray[np.uint8] | None] = []
        self.nbytes = 0

    def add_clips(
        self,
        row: dict[str, Any],
        answer: Answer,
        pixels: NDArray[np.uint8],
        first: int,
        last: int,
        segmentation: Segmentation,
    ) -> None:
        for clip, frames in zip(answer.clips[first:last], pixels[first:last], strict=True):
            self._rows.append(
                {
                    "id": segment_id(row["video_id"], clip.segment, segmentation),
                    "segment": clip.segment,
                    "segments": answer.segments,
                    "frames": clip.frames,
                    "duration_s": answer.duration_s,
                    "fps": answer.fps,
                    "width": answer.width,
                    "height": answer.height,
                    **self._carried(row),
                    "start_s": clip.start_s,
                    "end_s": clip.end_s,
                }
            )
            # A copy: the view into the shared file is gone with the next video.
            self._pixels.append(np.array(frames))
            self.nbytes += frames.nbytes

    def add_failure(self, row: dict[str, Any], error: ClipError, attempts: int) -> None:
        stage = "read" if error.kind in ("NotFound", "Forbidden", "ReadFailed") else "decode"
        self._rows.append(
            {
                "id": row["video_id"],
                "segment": 0,
                "segments": 0,
                **self._carried(row),
                "stage": stage,
                "error": error.kind,
                "message": error.message,
                "attempts": attempts,
            }
        )
        self._pixels.append(None)

    def take(self) -> pa.Table:
        columns = []
        for name in self._schema.names:
            kind = self._schema.field(name).type
            if name == "pixels":
                columns.append(_tensors(self._pixels, kind))
            else:
                columns.append(pa.array([r.get(name) for r in self._rows], kind))
        self._rows, self._pixels, self.nbytes = [], [], 0
        return pa.table(columns, schema=self._schema)

    def _carried(self, row: dict[str, Any]) -> dict[str, Any]:
        names = ("video_id", "uri", "start_s", "end_s", *self._metadata)
        return {name: row.get(name) for name in names}


def _tensors(clips: list[NDArray[np.uint8] | None], kind: pa.DataType) -> pa.Array:
    """uint8 clips to one fixed-shape tensor array, null where there is none."""
    length = int(np.prod(kind.shape))
    values = np.zeros((len(clips), length), np.uint8)
    for i, clip in enumerate(clips):
        if clip is not None:
            values[i] = clip.reshape(-1)
    missing = pa.array([clip is None for clip in clips], pa.bool_())
    storage = pa.FixedSizeListArray.from_arrays(values.reshape(-1), length, mask=missing)
    return pa.ExtensionArray.from_storage(kind, storage)
