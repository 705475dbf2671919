"""What a decode actor and its child process say to each other.

Requests and answers are pickled dataclasses, each after its length in 8 bytes, over two pipes.
Frames do not go through the pipe: the child writes them into a file that both map (see `shared`).
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidembed.access import Access
    from vidembed.clips import ClipSpec, Segmentation


@dataclass(frozen=True, slots=True)
class Share:
    """What one encoder wants of a video: a clip of each segment but those of `skip`, which it has
    already.
    """

    spec: ClipSpec
    skip: frozenset[int] = frozenset()

    def tensor(self, clips: int) -> tuple[tuple[int, ...], str]:
        """Shape and type of the pixels of so many clips."""
        shape, kind = self.spec.tensor
        return (clips, *shape), kind


@dataclass(frozen=True, slots=True)
class Request:
    """One row of the manifest, for the encoders that lack it.

    min_frames: share of a clip's frames, 0 to 1, that must be decoded cleanly; the others are
        replaced by their neighbours. access: what the manifest may open; None where the user named
        the address.
    """

    uri: str
    start_s: float | None
    end_s: float | None
    shares: tuple[Share, ...]
    segmentation: Segmentation
    decoder: Any
    device: Any = "cpu"
    min_frames: float = 1.0
    access: Access | None = None


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """One clip of an answer; its pixels are at its place in the shared file. frames: how many
    different ones were truly decoded for it; the rest repeats them or is padding. valid: its
    leading frames that are no padding. width, height: of a frame, upright, before it was scaled.
    """

    segment: int
    start_s: float
    end_s: float
    frames: int
    valid: int
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """What the frames of a video have cost.

    wanted: distinct frames; decoded: packets sent to the decoder for them; counted: whether the
    container told too little to plan by, so that everything was decoded; read_bytes: fetched from
    a remote source; read_s: seconds of waiting for them; cpu_s: seconds on a CPU; on_gpu: whether
    NVDEC did it.
    """

    wanted: int = 0
    decoded: int = 0
    counted: bool = False
    read_bytes: int = 0
    read_s: float = 0.0
    cpu_s: float = 0.0
    on_gpu: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """All clips of one video, those of each share of the request apart, or the failure that stands
    for all of them. on_disk: in which of the two shared files their pixels are. source_state: see
    `sources.state`.
    """

    clips: tuple[tuple[ClipFacts, ...], ...] = ()
    segments: int = 0
    duration_s: float | None = None
    fps: float | None = None
    source_state: str | None = None
    on_disk: bool = False
    effort: Effort = Effort()
    kind: str | None = None
    message: str | None = None


def send(pipe: IO[bytes], message: object) -> None:
    data = pickle.dumps(message)
    pipe.write(len(data).to_bytes(8, "big") + data)
    pipe.flush()


def receive(pipe: IO[bytes]) -> Any:
    """The next message. Raises EOFError where the other side is gone."""
    head = pipe.read(8)
    if len(head) < 8:
        raise EOFError
    data = pipe.read(int.from_bytes(head, "big"))
    return pickle.loads(data)
