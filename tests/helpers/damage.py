"""Ways in which a file may be broken, each a function of a random generator and the bytes.

The same generator gives the same file, so that a case is named by its seed and its number.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from tests.helpers.boxes import boxes

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    Damage = Callable[[np.random.Generator, bytes], bytes]

# What a field of a header is set to: nothing, one, the edges of signed and unsigned, -1.
_WORDS = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_NESTED = frozenset(
    (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"moof", b"traf", b"mvex", b"dinf")
)
SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".ts", ".flv", ".h264", ".gif", ".mp3", "")


def damaged(rng: np.random.Generator, data: bytes, other: bytes) -> tuple[str, bytes]:
    """What was done, and the file after it: mostly one kind of damage, at times two or three."""
    names = rng.choice(list(DAMAGES), size=int(rng.choice([1, 1, 1, 2, 3])))
    for name in names:
        data = other_file(rng, data, other) if name == "joined" else DAMAGES[name](rng, data)
    return "+".join(names), data


def flipped_bits(rng: np.random.Generator, data: bytes) -> bytes:
    return _flip(rng, data, 0, len(data), int(rng.integers(1, 40)))


def flipped_header(rng: np.random.Generator, data: bytes) -> bytes:
    begin, end = _header(data)
    return _flip(rng, data, begin, end, int(rng.integers(1, 8)))


def noise(rng: np.random.Generator, data: bytes) -> bytes:
    begin, end = _block(rng, data)
    return data[:begin] + rng.bytes(end - begin) + data[end:]


def zeros(rng: np.random.Generator, data: bytes) -> bytes:
    begin, end = _block(rng, data)
    return data[:begin] + bytes(end - begin) + data[end:]


def left_out(rng: np.random.Generator, data: bytes) -> bytes:
    begin, end = _block(rng, data)
    return data[:begin] + data[end:]


def repeated(rng: np.random.Generator, data: bytes) -> bytes:
    begin, end = _block(rng, data)
    return data[:end] + data[begin:end] + data[end:]


def moved(rng: np.random.Generator, data: bytes) -> bytes:
    begin, end = _block(rng, data)
    rest = data[:begin] + data[end:]
    to = int(rng.integers(0, len(rest) + 1))
    return rest[:to] + data[begin:end] + rest[to:]


def truncated(rng: np.random.Generator, data: bytes) -> bytes:
    return data[: int(rng.integers(0, len(data) + 1))]


def without_start(rng: np.random.Generator, data: bytes) -> bytes:
    return data[int(rng.integers(0, len(data) // 2 + 1)) :]


def appended(rng: np.random.Generator, data: bytes) -> bytes:
    return data + rng.bytes(int(rng.integers(1, 5000)))


def other_file(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    return data + other if rng.random() < 0.5 else other + data


def field(rng: np.random.Generator, data: bytes) -> bytes:
    """A number in the header becomes an extreme one: a size, a count, a length, a width."""
    begin, end = _header(data)
    width = int(rng.choice([1, 2, 4, 4, 4, 8]))
    at = int(rng.integers(begin, max(begin + 1, end - width)))
    word = int(rng.choice(_WORDS)) & ((1 << 8 * width) - 1)
    if width == 8 and rng.random() < 0.5:
        word = word << 32 | 0xFFFFFFFF
    order = "little" if data[:4] == b"RIFF" else "big"
    return (data[:at] + word.to_bytes(width, order) + data[at + width :])[: len(data)]


def box_size(rng: np.random.Generator, data: bytes) -> bytes:
    """In an MP4 the length of a box; elsewhere as `field`."""
    found = _all_boxes(data)
    if not found:
        return field(rng, data)
    at = found[int(rng.integers(len(found)))][1]
    word = int(rng.choice([*_WORDS, int(rng.integers(0, 2 * len(data)))]))
    return data[:at] + struct.pack(">I", word & 0xFFFFFFFF) + data[at + 4 :]


def box_gone(rng: np.random.Generator, data: bytes) -> bytes:
    """In an MP4 a box that readers do not see any more; in MPEG-TS a packet; elsewhere a block."""
    found = _all_boxes(data)
    if found:
        at = found[int(rng.integers(len(found)))][1]
        return data[: at + 4] + b"gone" + data[at + 8 :]
    if _is_ts(data):
        at = 188 * int(rng.integers(len(data) // 188))
        return data[:at] + data[at + 188 :]
    return left_out(rng, data)


def box_twice(rng: np.random.Generator, data: bytes) -> bytes:
    found = _all_boxes(data)
    if not found:
        return repeated(rng, data)
    _, start, _, end = found[int(rng.integers(len(found)))]
    return data[:end] + data[start:end] + data[end:]


def boxes_swapped(rng: np.random.Generator, data: bytes) -> bytes:
    """The contents of two boxes of an MP4 change places."""
    found = _all_boxes(data)
    if len(found) < 2:
        return moved(rng, data)
    picked = sorted(rng.choice(len(found), 2, replace=False).tolist())
    (_, a, _, b), (_, c, _, d) = (found[k] for k in picked)
    if c < b:
        return field(rng, data)
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def table_entry(rng: np.random.Generator, data: bytes) -> bytes:
    """In an MP4 a number in the tables of the index; elsewhere as `field`."""
    found = [each for each in _all_boxes(data) if each[0].startswith((b"st", b"ct", b"el", b"tr"))]
    found = [each for each in found if each[3] - each[2] >= 8]
    if not found:
        return field(rng, data)
    _, _, begin, end = found[int(rng.integers(len(found)))]
    at = begin + 4 * int(rng.integers(0, (end - begin) // 4))
    word = int(rng.choice([*_WORDS, int(rng.integers(0, 1 << 32))]))
    return data[:at] + struct.pack(">I", word & 0xFFFFFFFF) + data[at + 4 :]


DAMAGES: dict[str, Damage] = {
    "flipped bits": flipped_bits,
    "flipped header": flipped_header,
    "noise": noise,
    "zeros": zeros,
    "left out": left_out,
    "repeated": repeated,
    "moved": moved,
    "truncated": truncated,
    "without start": without_start,
    "appended": appended,
    "joined": appended,
    "field": field,
    "box size": box_size,
    "box gone": box_gone,
    "box twice": box_twice,
    "boxes swapped": boxes_swapped,
    "table entry": table_entry,
}


def _flip(rng: np.random.Generator, data: bytes, begin: int, end: int, count: int) -> bytes:
    if end <= begin:
        return data
    changed = bytearray(data)
    for at in rng.integers(begin, end, count).tolist():
        changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _block(rng: np.random.Generator, data: bytes) -> tuple[int, int]:
    begin = int(rng.integers(0, len(data) + 1))
    return begin, min(len(data), begin + int(2 ** rng.uniform(0, 12)))


def _header(data: bytes) -> tuple[int, int]:
    """Where the index of an MP4 lies; of others the first bytes, or a packet's head in MPEG-TS."""
    for kind, start, _, end in boxes(data):
        if kind in (b"moov", b"moof"):
            return start, end
    return 0, min(len(data), 1000)


def _all_boxes(data: bytes) -> list[tuple[bytes, int, int, int]]:
    if data[4:8] != b"ftyp":
        return []
    found: list[tuple[bytes, int, int, int]] = []

    def walk(begin: int, end: int) -> None:
        for kind, start, inside, stop in boxes(data[begin:end]):
            found.append((kind, begin + start, begin + inside, begin + stop))
            if kind in _NESTED:
                walk(begin + inside, begin + stop)

    walk(0, len(data))
    return found


def _is_ts(data: bytes) -> bool:
    return len(data) > 188 and data[0] == data[188] == 0x47
