"""Surgery on the boxes of an MP4: edit lists, and the rarer ways to write an index.

What changes the length of `moov` wants it at the end of the file, as PyAV writes it by default.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_TRACK = (b"moov", b"trak")
_TABLES = (*_TRACK, b"mdia", b"minf", b"stbl")


def box(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I4s", len(payload) + 8, kind) + payload


def boxes(data: bytes) -> Iterator[tuple[bytes, int, int, int]]:
    """Kind, start, start of the payload, end of each box that lies side by side in `data`."""
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if length == 1 and at + 16 <= len(data):
            length, head = struct.unpack_from(">Q", data, at + 8)[0], 16
        end = len(data) if length == 0 else at + length
        if end < at + head or end > len(data):
            return
        yield kind, at, at + head, end
        at = end


def payload(data: bytes, *names: bytes) -> bytes:
    """Of the first box of each name, inside one another."""
    for name in names:
        data = next(data[begin:end] for kind, _, begin, end in boxes(data) if kind == name)
    return data


def changed(data: bytes, names: Sequence[bytes], change: Callable[[bytes], bytes]) -> bytes:
    """`data` with the whole of the box at `names` replaced by what `change` makes of its payload;
    the boxes around it take its new length.
    """
    for kind, start, begin, end in boxes(data):
        if kind == names[0]:
            inside = data[begin:end]
            if len(names) == 1:
                new = change(inside)
            else:
                new = box(kind, changed(inside, names[1:], change))
            return data[:start] + new + data[end:]
    raise LookupError(names)


def edit(path: Path, segments: Sequence[tuple[int | None, int]], fps: int) -> Path:
    """Give the first track an edit list: (first frame or None for an empty edit, frames) each."""
    data = path.read_bytes()
    header = payload(data, b"moov", b"mvhd")
    clock = struct.unpack_from(">I", header, 12)[0]
    media = struct.unpack_from(">I", payload(data, *_TRACK, b"mdia", b"mdhd"), 12)[0]
    kinds = [kind for kind, *_ in boxes(payload(data, *_TRACK))]
    # A track whose frames are reordered begins later than 0; its old edit list says when.
    delay = 0
    if b"edts" in kinds:
        old = payload(data, *_TRACK, b"edts", b"elst")
        delay = struct.unpack_from(">i", old, 12)[0]
    entries = b"".join(
        struct.pack(
            ">QqHH",
            round(frames * clock / fps),
            -1 if first is None else delay + round(first * media / fps),
            1,
            0,
        )
        for first, frames in segments
    )
    new = box(b"edts", box(b"elst", struct.pack(">II", 1 << 24, len(segments)) + entries))
    if b"edts" in kinds:
        data = changed(data, (*_TRACK, b"edts"), lambda _: new)
    else:
        data = changed(data, (*_TRACK, b"tkhd"), lambda inside: box(b"tkhd", inside) + new)
    path.write_bytes(data)
    return path


def with_pixel_shape(path: Path, wide: int, high: int) -> Path:
    """Overwrite what the container says of a pixel's shape; what the codec says stays."""
    data = bytearray(path.read_bytes())
    at = data.index(b"pasp") + 4
    struct.pack_into(">II", data, at, wide, high)
    path.write_bytes(data)
    return path


def with_long_offsets(path: Path) -> Path:
    def change(inside: bytes) -> bytes:
        count = struct.unpack_from(">I", inside, 4)[0]
        offsets = struct.unpack_from(f">{count}I", inside, 8)
        return box(b"co64", inside[:8] + struct.pack(f">{count}Q", *offsets))

    return _rewritten(path, (*_TABLES, b"stco"), change)


def with_compact_sizes(path: Path) -> Path:
    def change(inside: bytes) -> bytes:
        same, count = struct.unpack_from(">II", inside, 4)
        if same:
            raise ValueError("all frames are of one size")
        sizes = struct.unpack_from(f">{count}I", inside, 12)
        head = inside[:4] + struct.pack(">II", 16, count)
        return box(b"stz2", head + struct.pack(f">{count}H", *sizes))

    return _rewritten(path, (*_TABLES, b"stsz"), change)


def with_packed_index(path: Path) -> Path:
    """A QuickTime index that is zlib data (`cmov`)."""

    def change(inside: bytes) -> bytes:
        whole = box(b"moov", inside)
        data = struct.pack(">I", len(whole)) + zlib.compress(whole)
        return box(b"moov", box(b"cmov", box(b"dcom", b"zlib") + box(b"cmvd", data)))

    return _rewritten(path, (b"moov",), change)


def with_long_media_box(path: Path) -> Path:
    """A 64-bit length for `mdat`, in place of the free box that the writer leaves for it."""
    data = path.read_bytes()
    at = data.index(b"\0\0\0\x08free")
    length, kind = struct.unpack_from(">I4s", data, at + 8)
    assert kind == b"mdat"
    path.write_bytes(data[:at] + struct.pack(">I4sQ", 1, b"mdat", length + 8) + data[at + 16 :])
    return path


def with_open_media_box(path: Path) -> Path:
    """`mdat` without a length, up to the end of the file; `moov` must come before it."""
    data = bytearray(path.read_bytes())
    kind, start, *_ = list(boxes(bytes(data)))[-1]
    assert kind == b"mdat"
    struct.pack_into(">I", data, start, 0)
    path.write_bytes(data)
    return path


def with_free_boxes(path: Path) -> Path:
    """Fillers around everything that the index refers to by no offset."""
    filler = box(b"free", bytes(5)) + box(b"uuid", bytes(range(16)) + b"filler")
    return _rewritten(path, (b"moov",), lambda inside: filler + box(b"moov", filler + inside))


def _rewritten(path: Path, names: Sequence[bytes], change: Callable[[bytes], bytes]) -> Path:
    path.write_bytes(changed(path.read_bytes(), names, change))
    return path
