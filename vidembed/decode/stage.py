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

from vidembed import log, schema
from vidembed.clips import ClipSpec, Segmentation, segment_id
from vidembed.decode.limits import Limits
from vidembed.decode.protocol import Request, Share
from vidembed.decode.worker import DecodeWorker
from vidembed.errors import ClipError
from vidembed.imports import unswept
from vidembed.tally import Event, Gathered, Tally, silent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from vidembed.access import Access
    from vidembed.decode.protocol import Answer, ClipFacts
    from vidembed.pixels import Pixels

    Pieces = dict[str, tuple[ClipFacts, Pixels]]

# Failures that may pass by themselves, and how often they are tried. A hang or a bomb is not tried
# again: it would only cost the deadline twice.
_ATTEMPTS = {"ReadFailed": 2, "DecoderCrash": 2}
_THUMBNAILS = 12
# Of --decode-timeout: a video that takes more is near to failing, and is worth a line of the log.
SLOW = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeSettings:
    """All that the decode stage needs to know. specs: what each encoder wants, by its label.

    table_bytes: of clips, which are passed on then: a video of many segments streams.
    """

    specs: Mapping[str, ClipSpec]
    metadata: pa.Schema
    segmentation: Segmentation = field(default_factory=Segmentation)
    decoder: str = "auto"
    device: str = "cpu"
    min_frames: float = 1.0
    access: Access | None = None
    limits: Limits = field(default_factory=Limits)
    table_bytes: int = 64 << 20


class Decode:
    """manifest rows [video_id, uri, start_s, end_s, skip?…, metadata…] -> clips.

    A video is decoded once, for every encoder whose `skip` is not null. One that fails becomes one
    row without pixels: nothing that a file does raises from here.
    """

    def __init__(self, settings: DecodeSettings, tally: Tally = silent) -> None:
        self._settings = settings
        self._tally = Gathered(tally)
        with unswept():
            self._worker = DecodeWorker(settings.limits, restarted=_note_restart)
        tensors = {label: spec.tensor for label, spec in settings.specs.items()}
        self._schema = schema.clips(tensors, settings.metadata)
        self._thumbnails = _THUMBNAILS
        self._name = f"decode-{os.uname().nodename}-{os.getpid()}"

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        """Yield tables of `schema.clips`; all clips of a video, or its failure, exactly once."""
        settings = self._settings
        room = 1 + settings.table_bytes // sum(spec.nbytes for spec in settings.specs.values())
        batch = _Batch(self._schema, list(settings.specs), settings.metadata, min(room, len(rows)))
        for row in rows.to_pylist():
            began = time.time()
            shares = _shares(row, settings.specs)
            try:
                answer, pixels = self._decode(row, tuple(shares.values()))
            except _FailedError as failed:
                batch.add_failure(row, list(shares), failed.error, failed.attempts)
                self._tell(began, failures={failed.error.kind: 1})
                _note_failure(row, failed, time.time() - began)
                continue
            _note_slow(row, answer, time.time() - began, settings.limits.seconds)
            segments = _by_segment(list(shares), answer, pixels)
            self._tell(
                began,
                videos=1,
                clips=len(segments),
                thumbnails=self._thumbnail(row["video_id"], segments),
                effort=asdict(answer.effort),
            )
            for _, pieces in sorted(segments.items()):
                batch.add_clip(row, answer, pieces, settings.segmentation)
                if batch.nbytes >= settings.table_bytes:
                    self._tally.flush()
                    yield batch.take()
        self._tally.flush()
        yield batch.take()

    @property
    def child(self) -> int | None:
        """The process that decodes; None before the first video and after a crash."""
        return self._worker.pid

    def close(self) -> None:
        self._worker.close()

    def __del__(self) -> None:
        self._worker.close()

    def _decode(
        self, row: dict[str, Any], shares: tuple[Share, ...]
    ) -> tuple[Answer, list[Pixels]]:
        settings = self._settings
        request = Request(
            uri=row["uri"],
            start_s=row["start_s"],
            end_s=row["end_s"],
            shares=shares,
            segmentation=settings.segmentation,
            decoder=settings.decoder,
            device=settings.device,
            min_frames=settings.min_frames,
            access=settings.access,
        )
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._worker.decode(request)
            except ClipError as error:
                if attempt >= _ATTEMPTS.get(error.kind, 1):
                    raise _FailedError(error, attempt) from error
                time.sleep(0.2 * 4 ** (attempt - 1))

    def _thumbnail(
        self, video_id: str, segments: dict[int, Pieces]
    ) -> tuple[tuple[str, bytes], ...]:
        if self._thumbnails <= 0 or not segments:
            return ()
        self._thumbnails -= 1
        (_, frames), *_ = segments[min(segments)].values()
        image = Image.fromarray(np.asarray(frames[len(frames) // 2]).astype(np.uint8))
        image.thumbnail((160, 160))
        data = io.BytesIO()
        image.save(data, "JPEG", quality=80)
        return ((video_id, data.getvalue()),)

    def _tell(self, began: float, **counts: Any) -> None:
        seconds = time.time() - began
        self._tally(
            Event(stage="decode", worker=self._name, began=began, seconds=seconds, **counts)
        )


def _note_failure(row: dict[str, Any], failed: _FailedError, seconds: float) -> None:
    log.note(
        "video failed",
        _stage(failed.error),
        "warning",
        video_id=row["video_id"],
        error=failed.error.kind,
        message=failed.error.message,
        attempts=failed.attempts,
        seconds=round(seconds, 3),
    )


def _note_slow(row: dict[str, Any], answer: Answer, seconds: float, deadline: float) -> None:
    if seconds >= SLOW * deadline:
        log.note(
            "video slow",
            "decode",
            "warning",
            video_id=row["video_id"],
            seconds=round(seconds, 3),
            read_seconds=round(answer.effort.read_s, 3),
            cpu_seconds=round(answer.effort.cpu_s, 3),
            decode_timeout=deadline,
        )


def _note_restart(why: str) -> None:
    log.note("decoder restarted", "decode", "info" if why == "recycled" else "warning", why=why)


def _stage(error: ClipError) -> str:
    return "read" if error.kind in ("NotFound", "Forbidden", "ReadFailed") else "decode"


class _FailedError(Exception):
    def __init__(self, error: ClipError, attempts: int) -> None:
        super().__init__(str(error))
        self.error = error
        self.attempts = attempts


def _shares(row: dict[str, Any], specs: Mapping[str, ClipSpec]) -> dict[str, Share]:
    """What is to be decoded for each encoder that does not have the whole video."""
    skips = {label: row.get(schema.own("skip", label), ()) for label in specs}
    return {
        label: Share(specs[label], frozenset(skip))
        for label, skip in skips.items()
        if skip is not None
    }


def _by_segment(labels: list[str], answer: Answer, pixels: list[Pixels]) -> dict[int, Pieces]:
    """Of each segment the clips of the encoders that need it."""
    segments: dict[int, Pieces] = {}
    for label, clips, places in zip(labels, answer.clips, pixels, strict=True):
        for clip, frames in zip(clips, places, strict=True):
            segments.setdefault(clip.segment, {})[label] = (clip, frames)
    return segments


class _Batch:
    """Rows of `schema.clips` until they are enough for a table. expected: how many may come."""

    def __init__(
        self, clips: pa.Schema, labels: list[str], metadata: pa.Schema, expected: int
    ) -> None:
        self._schema = clips
        self._carried = ("video_id", "uri", "start_s", "end_s", *metadata.names)
        self._rows: list[dict[str, Any]] = []
        kinds = {label: clips.field(schema.own("pixels", label)).type for label in labels}
        self._pixels = {label: _Tensors(kind, expected) for label, kind in kinds.items()}
        self.nbytes = 0

    def add_clip(
        self, row: dict[str, Any], answer: Answer, pieces: Pieces, segmentation: Segmentation
    ) -> None:
        (clip, _), *_ = pieces.values()
        facts: dict[str, Any] = {
            **{name: row.get(name) for name in self._carried},
            "id": segment_id(row["video_id"], clip.segment, segmentation),
            "segment": clip.segment,
            "segments": answer.segments,
            "start_s": clip.start_s,
            "end_s": clip.end_s,
            "duration_s": answer.duration_s,
            "fps": answer.fps,
            "source_state": answer.source_state,
        }
        for label, (clip, frames) in pieces.items():
            facts |= _owned(
                label,
                frames=clip.frames,
                valid_frames=clip.valid,
                width=clip.width,
                height=clip.height,
            )
            self.nbytes += frames.nbytes
        self._rows.append(facts)
        for label, tensors in self._pixels.items():
            tensors.add(pieces[label][1] if label in pieces else None)

    def add_failure(
        self, row: dict[str, Any], labels: list[str], error: ClipError, attempts: int
    ) -> None:
        """The video's failure, for each of these encoders."""
        facts: dict[str, Any] = {
            **{name: row.get(name) for name in self._carried},
            "id": row["video_id"],
            "segment": 0,
            "segments": 0,
        }
        stage = _stage(error)
        for label in labels:
            failure = {"error": error.kind, "message": error.message, "attempts": attempts}
            facts |= _owned(label, stage=stage, **failure)
        self._rows.append(facts)
        for tensors in self._pixels.values():
            tensors.add(None)

    def take(self) -> pa.Table:
        pixels = {schema.own("pixels", label): each for label, each in self._pixels.items()}
        columns = [
            pixels[column.name].take()
            if column.name in pixels
            else pa.array([row.get(column.name) for row in self._rows], column.type)
            for column in self._schema
        ]
        self._rows, self.nbytes = [], 0
        return pa.table(columns, schema=self._schema)


class _Tensors:
    """A column of clips on its way: each is copied once, into what the array will hold."""

    def __init__(self, kind: pa.DataType, expected: int) -> None:
        self._kind = kind
        self._length = int(np.prod(kind.shape))
        self._expected = max(1, expected)
        self._missing: list[bool] = []
        self._values = self._room(0)

    def add(self, clip: Pixels | None) -> None:
        """A clip, which may be gone after this call, or None where there is none."""
        at = len(self._missing)
        if at == len(self._values):
            grown = self._room(max(self._expected, 2 * at))
            grown[:at] = self._values
            self._values = grown
        self._values[at] = 0 if clip is None else clip.reshape(-1)
        self._missing.append(clip is None)

    def take(self) -> pa.Array:
        count = len(self._missing)
        storage = pa.FixedSizeListArray.from_arrays(
            self._values[:count].reshape(-1),
            self._length,
            mask=pa.array(self._missing, pa.bool_()),
        )
        # A new one: the array keeps the old.
        self._values, self._missing = self._room(0), []
        return pa.ExtensionArray.from_storage(self._kind, storage)

    def _room(self, clips: int) -> NDArray[Any]:
        return np.empty((clips, self._length), self._kind.value_type.to_pandas_dtype())


def _owned(label: str, **values: Any) -> dict[str, Any]:
    return {schema.own(name, label): value for name, value in values.items()}
