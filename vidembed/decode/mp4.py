"""The index of an MP4 or QuickTime file, read from its `moov` box alone (ISO/IEC 14496-12 §8.6).

A demuxer that is asked for every packet reads every byte of the file. The same facts are in some
kilobytes here, which is what makes long files cheap and remote ones possible. Only files whose
timeline is plain are read this way: no fragments, no edit list that cuts or repeats.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from vidembed.decode.boxes import Box, boxes, children

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LARGEST_MOOV = 256 << 20
# Where random access points are told in another way as well, the demuxer knows better.
_OTHER_SYNC = frozenset({b"rap ", b"sync"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """The samples of a track in the order of decoding; times in units of the track's timescale.

    offset, size: bytes; dts, cts: int64, of decoding and of presentation before any edit;
    last_duration: of the sample that is shown last.
    """

    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    dts: NDArray[np.int64]
    cts: NDArray[np.int64]
    sync: NDArray[np.bool_]
    last_duration: int


def read_samples(file: IO[bytes], track: int, most: int) -> Samples | None:
    """The samples of the track with this id; None where the demuxer must be asked instead.

    A table of more than `most` samples is not expanded.
    """
    moov = _moov(file)
    if moov is None:
        return None
    try:
        return _track_samples(moov, track, most)
    except (struct.error, ValueError, IndexError, _UnusualError):
        return None


class _UnusualError(Exception):
    """Something that the demuxer knows how to read, and this module does not."""


def _moov(file: IO[bytes]) -> bytes | None:
    found = None
    for box in boxes(file):
        if box.kind == b"moof":
            return None
        if box.kind == b"moov":
            found = box
    if found is None or found.end - found.content > _LARGEST_MOOV:
        return None
    file.seek(found.content)
    data = file.read(found.end - found.content)
    return data if len(data) == found.end - found.content else None


def _track_samples(moov: bytes, track: int, most: int) -> Samples:
    movie_scale = 0
    chosen: Box | None = None
    for box in children(moov):
        if box.kind == b"mvex":
            raise _UnusualError
        if box.kind == b"mvhd":
            movie_scale = _scale(moov, box)
        if box.kind == b"trak" and _track_id(moov, box) == track:
            chosen = box
    if chosen is None or not movie_scale:
        raise _UnusualError
    media = _one(moov, chosen, b"mdia")
    scale = _scale(moov, _one(moov, media, b"mdhd"))
    table = _one(moov, _one(moov, media, b"minf"), b"stbl")
    tables = {box.kind: box for box in children(moov, table)}
    groupings = {
        moov[box.content + 4 : box.content + 8]
        for box in children(moov, table)
        if box.kind == b"sbgp"
    }
    if b"stps" in tables or groupings & _OTHER_SYNC:
        raise _UnusualError
    samples = _expand(moov, tables, most)
    if not _plain_timeline(moov, chosen, samples, movie_scale / scale):
        raise _UnusualError
    return samples


def _one(data: bytes, box: Box, kind: bytes) -> Box:
    for child in children(data, box):
        if child.kind == kind:
            return child
    raise _UnusualError


def _scale(data: bytes, box: Box) -> int:
    at = box.content + (20 if data[box.content] == 1 else 12)
    scale = _u32(data, at)
    if not scale:
        raise _UnusualError
    return scale


def _track_id(data: bytes, trak: Box) -> int:
    box = _one(data, trak, b"tkhd")
    return _u32(data, box.content + (20 if data[box.content] == 1 else 12))


def _u32(data: bytes, at: int) -> int:
    return int(struct.unpack_from(">I", data, at)[0])


def _expand(data: bytes, tables: dict[bytes, Box], most: int) -> Samples:
    if _u32(data, _content_of(tables, b"stsd") + 4) != 1:
        raise _UnusualError
    size = _sizes(data, _content_of(tables, b"stsz"), most)
    count = len(size)
    if not count or not size.all():
        raise _UnusualError
    duration = _runs(data, _content_of(tables, b"stts"), count)
    dts = np.concatenate([[0], np.cumsum(duration)[:-1]])
    shift = (
        _runs(data, tables[b"ctts"].content, count, signed=True)
        if b"ctts" in tables
        else np.int64(0)
    )
    cts = dts + shift
    sync = np.ones(count, bool)
    if b"stss" in tables:
        sync[:] = False
        numbers = _column(data, tables[b"stss"].content, 1)[:, 0] - 1
        sync[numbers] = True
    last = int(duration[int(np.argmax(cts))])
    offset = _offsets(data, tables, size)
    return Samples(offset=offset, size=size, dts=dts, cts=cts, sync=sync, last_duration=last)


def _content_of(tables: dict[bytes, Box], kind: bytes) -> int:
    """Where the content of a table begins that must be there."""
    if kind not in tables:
        raise _UnusualError
    return tables[kind].content


def _column(data: bytes, at: int, width: int, *, signed: bool = False) -> NDArray[np.int64]:
    """int64 [entries, width] of a table that tells its length after its version and flags."""
    entries = _u32(data, at + 4)
    kind = ">i4" if signed else ">u4"
    return (
        np.frombuffer(data, kind, entries * width, at + 8).astype(np.int64).reshape(entries, width)
    )


def _sizes(data: bytes, at: int, most: int) -> NDArray[np.int64]:
    each, count = _u32(data, at + 4), _u32(data, at + 8)
    if count > most:
        raise _UnusualError
    if each:
        return np.full(count, each, np.int64)
    return np.frombuffer(data, ">u4", count, at + 12).astype(np.int64)


def _runs(data: bytes, at: int, count: int, *, signed: bool = False) -> NDArray[np.int64]:
    """A run-length table of `count` values."""
    entries = _column(data, at, 2, signed=signed)
    lengths = entries[:, 0]
    if (lengths < 0).any() or int(lengths.sum()) != count:
        raise _UnusualError
    return np.repeat(entries[:, 1], lengths)


def _offsets(data: bytes, tables: dict[bytes, Box], size: NDArray[np.int64]) -> NDArray[np.int64]:
    if b"co64" in tables:
        at = tables[b"co64"].content
        chunks: Any = np.frombuffer(data, ">u8", _u32(data, at + 4), at + 8).astype(np.int64)
    else:
        chunks = _column(data, _content_of(tables, b"stco"), 1)[:, 0]
    groups = _column(data, _content_of(tables, b"stsc"), 3)
    if (groups[:, 2] != 1).any() or not len(groups) or groups[0, 0] != 1:
        raise _UnusualError
    chunk_counts = np.diff(np.append(groups[:, 0], len(chunks) + 1))
    described = float((groups[:, 1].astype(float) * chunk_counts).sum())
    if (chunk_counts < 0).any() or not len(size) <= described <= 2 * len(size) + 65536:
        raise _UnusualError
    per_chunk = np.repeat(groups[:, 1], chunk_counts)
    chunk = np.repeat(np.arange(len(chunks)), per_chunk)[: len(size)]
    before = np.concatenate([[0], np.cumsum(size)[:-1]])
    first = np.concatenate([[True], chunk[1:] != chunk[:-1]])
    base = before[first][np.cumsum(first) - 1]
    offsets: NDArray[np.int64] = chunks[chunk] + before - base
    return offsets


def _plain_timeline(data: bytes, trak: Box, samples: Samples, movie_per_track: float) -> bool:
    """Whether the edit list shows every sample once and in full, perhaps after a pause."""
    edits = next((b for b in children(data, trak) if b.kind == b"edts"), None)
    if edits is None:
        return bool(samples.cts.min() >= 0)
    at = _one(data, edits, b"elst").content
    long = data[at] == 1
    layout = struct.Struct(">QqI" if long else ">IiI")
    found = [
        layout.unpack_from(data, at + 8 + k * layout.size)
        for k in range(min(_u32(data, at + 4), 3))
    ]
    shown = [e for e in found if e[1] != -1]
    if len(found) > 2 or len(shown) != 1 or found[-1][1] == -1 or shown[0][2] != 0x10000:
        return False
    length, begin, _ = shown[0]
    end = int(samples.cts.max()) + samples.last_duration
    # Durations are told in the movie's coarser ticks.
    tick = max(1.0, 1.0 / movie_per_track)
    return bool(begin <= samples.cts.min()) and length / movie_per_track >= end - begin - tick
