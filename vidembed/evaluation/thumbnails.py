"""Small pictures of a run's videos, for a page: decoded once each, within a time."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from vidembed import schema
from vidembed.clips import ClipSpec, Resize, Sampling, Segmentation
from vidembed.decode.limits import Limits
from vidembed.decode.protocol import Request, Share
from vidembed.decode.worker import DecodeWorker
from vidembed.errors import FAILURES, ClipError
from vidembed.pages.gallery import Picture

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from vidembed.access import Access
    from vidembed.store.run import Run

CAPTIONS = ("caption", "sentence", "title", "text", "description")
"""Columns of a run's metadata that say what a video shows; the first that there is counts."""
MOST = 600
"""Pictures that are decoded for one page."""
SECONDS = 180.0
"""For all of them."""
_SECONDS_EACH = 30.0
_SIDE = 160
_BYTES = 6_000
# Twice as many pixels as are kept, in the middle of the window: squashed here, stretched below.
_MIDDLE = ClipSpec(
    sampling=Sampling(kind="uniform", count=1, seconds=0.04),
    resize=Resize(short_side=2 * _SIDE, crop=2 * _SIDE, fit="squash"),
    aspect="display",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a video is, from when to when it counts, and what the run says that it shows."""

    uri: str
    start_s: float | None
    end_s: float | None
    caption: str | None


def places(run: Run, ids: Iterable[str]) -> dict[str, Place]:
    """Of these videos those that a run has. A video that is cut into segments is its whole."""
    wanted = pa.array(sorted(set(ids)), pa.string())
    found: dict[str, Place] = {}
    for part in run.parts() if len(wanted) else ():
        metadata = schema.metadata_of(run.schema_of(part)).names
        caption = next((name for name in CAPTIONS if name in metadata), None)
        columns = ["video_id", "uri", "start_s", "end_s", *([caption] if caption else [])]
        table = run.read_part(part, columns)
        for row in table.filter(pc.is_in(table["video_id"], wanted)).to_pylist():
            there = found.get(row["video_id"])
            found[row["video_id"]] = Place(
                uri=row["uri"],
                start_s=min(_known(there and there.start_s, row["start_s"]), default=None),
                end_s=max(_known(there and there.end_s, row["end_s"]), default=None),
                caption=_words(row[caption]) if caption else None,
            )
    return found


def _known(*values: float | Place | None) -> list[float]:
    return [value for value in values if isinstance(value, float)]


def _words(value: object) -> str | None:
    if isinstance(value, list):
        value = next((item for item in value if item), None)
    return None if value is None else str(value)


class Studio:
    """Takes pictures of videos, until their number or the time is up."""

    def __init__(self, most: int = MOST, seconds: float = SECONDS) -> None:
        self._left, self._until = most, time.monotonic() + seconds
        self._worker = DecodeWorker(Limits(seconds=_SECONDS_EACH))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()

    def picture(self, place: Place | None, access: Access) -> Picture:
        """The middle of a video; the reason where it cannot be seen."""
        if place is None:
            return Picture(reason="not in the run")
        if self._left <= 0 or time.monotonic() > self._until:
            return Picture(reason="not decoded: enough pictures, or time, were spent on others")
        self._left -= 1
        try:
            return self._decoded(place, access)
        except ClipError as error:
            return Picture(reason=f"{error.kind}: {FAILURES[error.kind]}")

    def _decoded(self, place: Place, access: Access) -> Picture:
        request = Request(
            uri=place.uri,
            start_s=place.start_s,
            end_s=place.end_s,
            shares=(Share(_MIDDLE),),
            segmentation=Segmentation(),
            decoder="auto",
            access=access,
        )
        answer, (pixels,) = self._worker.decode(request)
        facts = answer.clips[0][0]
        frame: NDArray[np.uint8] = np.array(pixels[0][0], np.uint8)
        return small(frame, facts.width, facts.height)


def small(frame: NDArray[np.uint8], width: int, height: int) -> Picture:
    """A JPEG of a frame, uint8 [h, w, 3], in the proportions of width and height."""
    scale = _SIDE / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)
    for quality in (80, 65, 50, 35, 20, 5):
        data = io.BytesIO()
        image.save(data, "JPEG", quality=quality, optimize=True)
        if data.tell() <= _BYTES:
            break
    return Picture(jpeg=data.getvalue(), width=size[0], height=size[1])
