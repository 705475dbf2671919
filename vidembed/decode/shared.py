"""Where frames lie between a decode child and its parent: files that both map."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np

from vidembed.errors import ClipError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Tensor = tuple[tuple[int, ...], str]

# Beyond this, frames go to disk: a video of a thousand segments must not fill the memory.
_IN_MEMORY = 256 << 20
_ALIGNMENT = 8


class SharedFrames:
    """Two open files without a name: one in memory, one in the temporary folder for what is big.

    The parent makes them and the child inherits their descriptors. Whoever of them dies, and
    however, nothing is left behind.
    """

    def __init__(self, memory: int, disk: int) -> None:
        self._memory, self._disk = memory, disk
        # The file in memory as it is mapped here: most videos fit into what the last one had, and
        # a new map costs a page fault for each page. It never shrinks, so that this stays valid.
        self._mapped = np.empty(0, np.uint8)

    @classmethod
    def create(cls) -> SharedFrames:
        with tempfile.TemporaryFile() as file:
            disk = os.dup(file.fileno())
        if hasattr(os, "memfd_create"):
            return cls(os.memfd_create("vidembed"), disk)
        return cls(os.dup(disk), disk)

    @property
    def descriptors(self) -> tuple[int, int]:
        return (self._memory, self._disk)

    def close(self) -> None:
        # A map holds a descriptor of its own.
        self._mapped = np.empty(0, np.uint8)
        os.close(self._memory)
        os.close(self._disk)

    def writable(self, tensors: Sequence[Tensor]) -> tuple[list[NDArray[Any]], bool]:
        """Arrays of these shapes and types to be filled, which lie one behind the other, and
        whether they are on disk; what was there is lost.
        """
        size = sum(map(_bytes, tensors))
        if size == 0:
            return _cut(np.empty(0, np.uint8), tensors), False
        os.ftruncate(self._disk, 0)
        for descriptor in (self._memory, self._disk) if size <= _IN_MEMORY else (self._disk,):
            try:
                _reserve(descriptor, size)
            except OSError:
                continue
            on_disk = descriptor == self._disk
            return _cut(self._map(size, mmap.ACCESS_WRITE, on_disk=on_disk), tensors), on_disk
        raise ClipError("TooLarge", f"no room for {size:,} bytes of frames in the temporary folder")

    def readable(self, tensors: Sequence[Tensor], *, on_disk: bool) -> list[NDArray[Any]]:
        """The same, filled, as the other process sees it; to be used before the next is written."""
        size = sum(map(_bytes, tensors))
        if size == 0:
            return _cut(np.empty(0, np.uint8), tensors)
        return _cut(self._map(size, mmap.ACCESS_READ, on_disk=on_disk), tensors)

    def _map(self, size: int, access: int, *, on_disk: bool) -> NDArray[np.uint8]:
        if on_disk:
            return np.frombuffer(mmap.mmap(self._disk, size, access=access), np.uint8)
        if len(self._mapped) < size:
            memory = mmap.mmap(self._memory, size, access=access)
            self._mapped = np.frombuffer(memory, np.uint8)
        return self._mapped[:size]


def _bytes(tensor: Tensor) -> int:
    shape, kind = tensor
    # Each begins where any type may.
    return -(-math.prod(shape) * np.dtype(kind).itemsize // _ALIGNMENT) * _ALIGNMENT


def _cut(data: NDArray[np.uint8], tensors: Sequence[Tensor]) -> list[NDArray[Any]]:
    """Views of these shapes and types, one behind the other."""
    parts = np.split(data, np.cumsum([_bytes(tensor) for tensor in tensors])[:-1])
    return [
        part.view(kind)[: math.prod(shape)].reshape(shape)
        for part, (shape, kind) in zip(parts, tensors, strict=True)
    ]


def _reserve(descriptor: int, size: int) -> None:
    """Take the blocks now: a full file system would otherwise end in a bus error at the first write
    beyond them.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    elif os.fstat(descriptor).st_size < size:
        os.ftruncate(descriptor, size)
