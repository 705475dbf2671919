"""Ids as 128-bit numbers, computed for whole columns: what is finished is kept as 16 bytes a row.

The numbers are keyed by a secret of the process: ids that were chosen to collide, by whoever wrote
a manifest, do not. They mean nothing to another process and are never written down.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SECRET = np.frombuffer(os.urandom(64), "<u8").copy()
# Odd, so that multiplying by them loses nothing.
_ODD = _SECRET[:6] | np.uint64(1)
_SHIFTS = (np.uint64(32), np.uint64(29))
# Rows whose words are mixed at once, so that all of it stays in the cache.
_ROWS = 16384
# The first n bytes of a word.
_MASKS = np.array([(1 << 8 * n) - 1 for n in range(8)] + [2**64 - 1], np.uint64)


def hash_ids(ids: pa.ChunkedArray) -> NDArray[np.uint64]:
    """uint64 [n, 2]: 128 bits of each id. Equal ids are equal; unequal ones differ in practice."""
    found = np.empty((len(ids), 2), np.uint64)
    at = 0
    for chunk in ids.chunks:
        data, offsets = _bytes(chunk)
        for first in range(0, len(chunk), _ROWS):
            last = min(first + _ROWS, len(chunk))
            _hash(data, offsets[first : last + 1], found[at + first : at + last])
        at += len(chunk)
    return found


def order_of(hashes: NDArray[np.uint64]) -> NDArray[np.intp]:
    """The order that sorts [n, 2]; several times as fast as by both halves at once."""
    order = np.argsort(hashes[:, 0])
    first = hashes[order, 0]
    same = first[1:] == first[:-1]
    if same.any():
        # Few: the second half decides within each run of equal first ones.
        tied = np.flatnonzero(np.concatenate([[False], same]) | np.concatenate([same, [False]]))
        some = hashes[order[tied]]
        order[tied] = order[tied][np.lexsort((some[:, 1], some[:, 0]))]
    return order


def repeated(hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Of sorted hashes, which are equal to the one before; one less than there are hashes."""
    same: NDArray[np.bool_] = hashes[1:, 0] == hashes[:-1, 0]
    same &= hashes[1:, 1] == hashes[:-1, 1]
    return same


def _bytes(chunk: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The bytes of all strings, with 8 more behind the last, and where each begins in them."""
    chunk = chunk.cast(pa.large_binary())
    if chunk.null_count:
        chunk = chunk.fill_null(b"")
    _, offsets, data = chunk.buffers()
    begins = np.frombuffer(offsets, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
    first, last = (int(begins[0]), int(begins[-1])) if len(begins) else (0, 0)
    padded = np.zeros(last - first + 8, np.uint8)
    if data is not None:
        padded[:-8] = np.frombuffer(data, np.uint8)[first:last]
    return padded, begins - first


def _hash(data: NDArray[np.uint8], offsets: NDArray[np.int64], into: NDArray[np.uint64]) -> None:
    """Mix each string's words of 8 bytes, one after the other, into two numbers of 64 bits."""
    begins, lengths = offsets[:-1], np.diff(offsets)
    words = np.ndarray((len(data) - 7,), "<u8", data, 0, (1,))
    states = [lengths.astype(np.uint64) * _ODD[2 * k] ^ _SECRET[6 + k] for k in (0, 1)]
    rows: NDArray[np.int64] | slice = slice(None)
    for at in range(0, int(lengths.max(initial=0)), 8):
        if (lengths <= at).any():
            rows = np.flatnonzero(lengths > at)
        word = words[begins[rows] + at] & _MASKS[np.minimum(lengths[rows] - at, 8)]
        for lane, state in enumerate(states):
            state[rows] = _mixed(state[rows] ^ word, lane)
    for lane, state in enumerate(states):
        # Twice: what the last word has changed must reach every bit.
        into[:, lane] = _mixed(_mixed(state, lane), lane)


def _mixed(state: NDArray[np.uint64], lane: int) -> NDArray[np.uint64]:
    """A bijection of 64 bits, another one for each lane."""
    state = state * _ODD[2 * lane + 1]
    state ^= state >> _SHIFTS[lane]
    state *= _ODD[4 + lane]
    state ^= state >> _SHIFTS[lane]
    return state
