"""Texts from files: a table, or plain text with one a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from vidembed import sources
from vidembed.errors import ConfigError
from vidembed.manifest import read_table

if TYPE_CHECKING:
    from collections.abc import Iterable

COLUMNS = ("caption", "sentence", "text")
_TABLES = (".parquet", ".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")


def read_texts(source: str, column: str | None = None) -> list[str]:
    """The texts of a table's column, or of the lines of any other file; empty ones left out.

    column: its name; None: `caption`, `sentence` or `text`. Raises ConfigError or ManifestError,
    naming the file.
    """
    source = sources.absolute(source)
    if source.lower().endswith(_TABLES) or sources.is_folder(source):
        texts = _of_table(source, column)
    elif column is not None:
        raise ConfigError(f"--text-column {column}: {source} is no table, its texts are its lines")
    else:
        texts = _lines(source)
    found = [text.strip() for text in texts if text and text.strip()]
    if not found:
        raise ConfigError(f"--texts {source}: there is no text in it")
    return found


def _of_table(source: str, column: str | None) -> Iterable[str | None]:
    names = (column,) if column else COLUMNS
    table = read_table(source, text=frozenset(names))
    name = next((name for name in names if name in table.column_names), None)
    if name is None:
        raise ConfigError(
            f"--texts {source}: no column {', '.join(names)}; it has "
            f"{', '.join(table.column_names)}; name one with --text-column"
        )
    kind = table[name].type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise ConfigError(f"--texts {source}: column {name} holds {kind}, no texts")
    texts: list[str | None] = table[name].to_pylist()
    return texts


def _lines(source: str) -> list[str]:
    try:
        return sources.read_whole(source).decode("utf-8-sig").splitlines()
    except FileNotFoundError:
        raise ConfigError(f"--texts {source}: no such file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"--texts {source}: neither a table ({', '.join(_TABLES[:2])}, .jsonl) nor UTF-8 text: "
            f"{error.reason} at byte {error.start}"
        ) from None
