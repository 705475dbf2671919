"""What one video may cost at most."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """seconds: to decode it; memory_bytes: of the process that does; file_bytes: of the file.

    frames, pixels (of one frame) and duration_s are looked at before anything is decoded.
    """

    seconds: float = 300.0
    memory_bytes: int = 4 << 30
    file_bytes: int = 64 << 30
    frames: int = 2_000_000
    pixels: int = 64_000_000
    duration_s: float = 24 * 3600.0
