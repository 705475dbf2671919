"""Still pictures of rows: decoded in a process that can be killed, the latest kept in memory."""

from __future__ import annotations

import io
import queue
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from PIL import Image

from vidembed.clips import ClipSpec, Resize, Sampling, Segmentation
from vidembed.decode.limits import Limits
from vidembed.decode.protocol import Request, Share
from vidembed.decode.worker import DecodeWorker
from vidembed.errors import ClipError

if TYPE_CHECKING:
    from vidembed.access import Access
    from vidembed.query import Hit

_SIDE = 384
# Both sides are scaled to one length on the way, and back to the picture's shape at the end. One
# frame, in the middle of the segment.
_MIDDLE = ClipSpec(
    sampling=Sampling(kind="uniform", count=1, windows=1, seconds=1e-3),
    resize=Resize(short_side=_SIDE, crop=_SIDE, interpolation="bilinear", fit="squash"),
    aspect="display",
)
# A still is not worth the patience of a job.
_LIMITS = Limits(seconds=30.0, memory_bytes=2 << 30, file_bytes=8 << 30)
_WORKERS = 2
_KEPT_BYTES = 64 << 20
_KEPT_FAILURES = 1024


class Thumbnails:
    """JPEG pictures of rows, at most 384 pixels wide and high. For several threads: each takes one
    of two decoders, and waits for it where both are busy.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._workers: queue.SimpleQueue[DecodeWorker] = queue.SimpleQueue()
        for _ in range(_WORKERS):
            self._workers.put(DecodeWorker(_LIMITS))
        self._lock = threading.Lock()
        self._pictures: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._failures: OrderedDict[str, ClipError] = OrderedDict()

    def of(self, hit: Hit) -> bytes:
        """The frame in the middle of the row's segment. Raises ClipError."""
        found = self._known(hit.id)
        if found is not None:
            return found
        worker = self._workers.get()
        try:
            # Somebody else may have asked for the same meanwhile.
            found = self._known(hit.id)
            if found is None:
                found = self._decoded(worker, hit)
                self._keep(hit.id, found)
        except ClipError as error:
            self._keep_failure(hit.id, error)
            raise
        finally:
            self._workers.put(worker)
        return found

    def close(self) -> None:
        """End the decoders."""
        for _ in range(_WORKERS):
            self._workers.get().close()

    def _decoded(self, worker: DecodeWorker, hit: Hit) -> bytes:
        shares = (Share(_MIDDLE),)
        request = Request(
            hit.uri, hit.start_s, hit.end_s, shares, Segmentation(), "auto", access=self._access
        )
        answer, (pixels,) = worker.decode(request)
        facts = answer.clips[0][0]
        image = Image.fromarray(pixels[0][0])
        scale = _SIDE / max(facts.width, facts.height, 1)
        size = (max(1, round(facts.width * scale)), max(1, round(facts.height * scale)))
        file = io.BytesIO()
        image.resize(size).save(file, "JPEG", quality=82)
        return file.getvalue()

    def _known(self, row: str) -> bytes | None:
        with self._lock:
            if row in self._failures:
                raise self._failures[row]
            if row in self._pictures:
                self._pictures.move_to_end(row)
            return self._pictures.get(row)

    def _keep(self, row: str, picture: bytes) -> None:
        with self._lock:
            self._pictures[row] = picture
            self._bytes += len(picture)
            while self._bytes > _KEPT_BYTES:
                _, dropped = self._pictures.popitem(last=False)
                self._bytes -= len(dropped)

    def _keep_failure(self, row: str, error: ClipError) -> None:
        # What was out of reach may come back; what hangs or kills its decoder is not tried again.
        if error.kind in ("NotFound", "ReadFailed"):
            return
        with self._lock:
            self._failures[row] = error
            while len(self._failures) > _KEPT_FAILURES:
                self._failures.popitem(last=False)
