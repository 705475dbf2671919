"""Small files that data sets ship: read whole, and refused with their name."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

from vidembed import sources
from vidembed.errors import ConfigError


def content(where: str) -> bytes:
    """The bytes of a file, unpacked where it is gzipped."""
    try:
        data = sources.read_whole(where)
        return gzip.decompress(data) if where.lower().endswith(".gz") else data
    except FileNotFoundError as error:
        raise ConfigError(f"{where}: no such file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{where}: cannot be read: {error}") from error


def text(where: str) -> str:
    try:
        return content(where).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{where}: byte {error.start} is not UTF-8: write the file again in that encoding"
        ) from error


def document(where: str) -> Any:
    """What a JSON file holds."""
    try:
        return json.loads(text(where))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not valid JSON: {error}") from error


def names_beside(where: str, split: str) -> frozenset[str]:
    """The ids in `SPLIT_list.txt`, a line each, in the folder of `where`."""
    listed = sources.join(sources.parent(where), f"{split}_list.txt")
    if not sources.exists(listed):
        raise ConfigError(f"{where}: --split {split} needs {listed}, a list of the part's videos")
    return frozenset(line.strip() for line in text(listed).splitlines() if line.strip())
