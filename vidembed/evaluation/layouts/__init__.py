"""How files of queries are laid out, as data sets ship them.

A layout is known by the file's look: its suffix, its columns, or what its JSON holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from vidembed import sources
from vidembed.errors import ConfigError
from vidembed.evaluation.layouts import didemo, files, msrvtt, msvd, mugen, tables, youcook2
from vidembed.evaluation.layouts.layout import (
    LABEL_COLUMNS,
    TEXT_COLUMNS,
    Layout,
    Rows,
    not_laid_out,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidembed.config import EvaluateConfig

__all__ = ["LABEL_COLUMNS", "RUN", "TEXT_COLUMNS", "Layout", "Rows", "read"]

RUN = Layout(name="run")
"""No file: the columns of the run itself."""

_DOCUMENTS: dict[str, tuple[Callable[[Any], bool], Callable[[Any, str, str | None], Rows]]] = {
    "msrvtt": (msrvtt.looks_like, msrvtt.read),
    "youcook2": (youcook2.looks_like, youcook2.read),
    "mugen": (mugen.looks_like, mugen.read),
    "didemo": (didemo.looks_like, didemo.read),
}
_SUFFIXES = {".json": "JSON", ".pkl": "pickle", ".pickle": "pickle", ".txt": "text"}
_KINDS = {
    "JSON": ("table", *_DOCUMENTS),
    "pickle": ("msvd",),
    "text": ("msvd",),
    "table": tuple(tables.LAYOUTS),
}


def read(config: EvaluateConfig, queries: str) -> Rows:
    """The rows of `queries`. Raises ConfigError and ManifestError that name the file, what is wrong
    with it, and the remedy.
    """
    where = sources.absolute(queries)
    kind = _kind(where)
    if config.layout != "auto" and config.layout not in _KINDS[kind]:
        raise not_laid_out(
            where, config.layout, f"a {kind} file may be {' or '.join(_KINDS[kind])}"
        )
    if kind == "JSON":
        return _read_json(config, where)
    if kind == "pickle":
        return msvd.read_pickle(where, config.split)
    if kind == "text":
        return msvd.read_text(where, config.split)
    return tables.read(config, where)


def _kind(where: str) -> str:
    name = where.lower().removesuffix(".gz")
    return next((kind for suffix, kind in _SUFFIXES.items() if name.endswith(suffix)), "table")


def _read_json(config: EvaluateConfig, where: str) -> Rows:
    document = files.document(where)
    for name, (looks_like, read_as) in _DOCUMENTS.items():
        if config.layout == name or (config.layout == "auto" and looks_like(document)):
            return read_as(document, where, config.split)
    return tables.of(config, where, _flat(document, where))


def _flat(document: Any, where: str) -> pa.Table:
    """A list of objects as a table."""
    if not isinstance(document, list) or not all(isinstance(row, dict) for row in document):
        raise ConfigError(
            f"{where}: its JSON is none of {', '.join(_DOCUMENTS)}, and no list of objects with "
            f"one caption each either; lines of JSON belong in a file named .jsonl"
        )
    try:
        return pa.Table.from_pylist(document)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ConfigError(f"{where}: {str(error).splitlines()[0]}") from error
