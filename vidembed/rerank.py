"""Score pairs of text and video again, from their frames: slower than vectors, and more exact."""

from __future__ import annotations

import os
import queue
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self, cast

import numpy as np

from vidembed import sources
from vidembed.access import Access
from vidembed.clips import ClipSpec, Segmentation
from vidembed.decode.limits import Limits
from vidembed.decode.protocol import Request, Share
from vidembed.decode.worker import DecodeWorker
from vidembed.encode import registry
from vidembed.errors import ClipError, ConfigError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from vidembed.encode.clip4clip.reranker import Reranker
    from vidembed.encode.registry import Device, Dtype

    Window = tuple[str, float | None, float | None]
    Decoded = tuple[NDArray[np.uint8], int] | ClipError

# The only family whose checkpoints score pairs.
_FAMILY = "clip4clip"
_MOST_WORKERS = 8


def load_reranker(
    weights: str, *, device: Device = "auto", dtype: Dtype = "auto", preset: str | None = None
) -> Reranker:
    """A tightTransf checkpoint of CLIP4Clip, ready to score texts with clips.

    weights: a file, an address or a hub id. preset: a named way of sampling and preprocessing, of
    the encoder `clip4clip`; None: that of the weights. Its `spec` says which frames it wants; there
    are no vectors, so that its `dim` is 0.

    Raises ConfigError, or WeightsError where the weights are absent or do not score pairs.
    """
    from vidembed.encode.clip4clip.describe import describe_reranker

    row = registry.entry(_FAMILY)
    place = sources.absolute(weights) if sources.exists(weights) else weights
    spec = describe_reranker(row, place, row.preset(preset))
    return cast("Reranker", registry.load(spec, device, dtype))


def read_clip(
    worker: DecodeWorker, clip: ClipSpec, window: Window, access: Access | None = None
) -> tuple[NDArray[np.uint8], int]:
    """The frames [frames, height, width, 3] of a file, or of its part from start to end in
    seconds, and how many of them are no padding. access: what may be opened; None where the user
    named the address. Raises ClipError.
    """
    request = Request(*window, (Share(clip),), Segmentation(), "auto", access=access)
    answer, (pixels,) = worker.decode(request)
    found: NDArray[np.uint8] = np.array(pixels[0])
    return found, answer.clips[0][0].valid


class Reranking:
    """A re-ranker at work on files: it decodes what it scores, in child processes.

    place: the run or collection whose rows name the files. It bounds what they may open, as a
    manifest's place does, since a stranger may have written them; roots: what they may besides.
    """

    def __init__(self, weights: str, device: Device, place: str, roots: Sequence[str] = ()) -> None:
        self._access = Access.of(place, roots)
        try:
            self.reranker = load_reranker(weights, device=device)
        except (ConfigError, WeightsError) as error:
            raise type(error)(f"--rerank: {error}") from error
        # Each has a child process; one that is never asked has none.
        self._workers: queue.LifoQueue[DecodeWorker] = queue.LifoQueue()
        self._count = max(1, min(_MOST_WORKERS, len(os.sched_getaffinity(0))))
        for _worker in range(self._count):
            self._workers.put(DecodeWorker(Limits(seconds=300)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for _worker in range(self._count):
            self._workers.get().close()

    @property
    def shape(self) -> tuple[int, int]:
        """Of the features of one clip: frames, dim."""
        return self.reranker.spec.clip.sampling.total, self.reranker.width

    def features(
        self, name: str, window: Window
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
        """Features [frames, dim] and mask [frames] of one clip; None, with a note on standard
        error under this name, where it cannot be decoded.
        """
        return self._features(name, self._decoded(window))

    def _features(
        self, name: str, decoded: Decoded
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
        if isinstance(decoded, ClipError):
            sys.stderr.write(f"vidembed: {name} is not re-ranked: {decoded}\n")
            return None
        frames, valid = decoded
        features, mask = self.reranker.features(frames[None], [valid])
        return features[0], mask[0]

    def _decoded(self, window: Window) -> Decoded:
        """Frames and how many of them count, or why there are none. For several threads."""
        worker = self._workers.get()
        try:
            return read_clip(worker, self.reranker.spec.clip, window, self._access)
        except ClipError as error:
            return error
        finally:
            self._workers.put(worker)

    def _ahead(self, windows: Iterable[Window]) -> Iterator[Decoded]:
        """Each decoded, in order; some ahead of the one that is asked for."""
        waiting: deque[Future[Decoded]] = deque()
        with ThreadPoolExecutor(self._count, "vidembed-rerank") as pool:
            for window in windows:
                waiting.append(pool.submit(self._decoded, window))
                if len(waiting) > 2 * self._count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def scores(self, text: str, clips: Sequence[tuple[str, Window]]) -> list[float | None]:
        """The score of a text with each clip, given by its name and window; None where it cannot
        be decoded.
        """
        words = self.reranker.words([text])
        found: list[float | None] = []
        decoded = self._ahead(window for _, window in clips)
        for (name, _), frames in zip(clips, decoded, strict=True):
            parts = self._features(name, frames)
            if parts is None:
                found.append(None)
                continue
            features, mask = parts
            score = self.reranker.score_features(words, features[None], mask[None])
            found.append(float(score[0, 0]))
        return found
