"""The parts of a JSON document, each refused by its place."""

from __future__ import annotations

from typing import Any, TypeVar

import pyarrow as pa

from vidembed.errors import ConfigError
from vidembed.evaluation.layouts.layout import not_laid_out

T = TypeVar("T")


def records(document: Any, key: str, where: str, layout: str) -> list[dict[str, Any]]:
    """The list of objects under `key`. Raises ConfigError where it is something else."""
    found = document.get(key) if isinstance(document, dict) else None
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise not_laid_out(where, layout, f"{key} is not a list of objects")
    return found


def field(record: Any, key: str, kind: type[T], place: tuple[str, str]) -> T:
    """`record[key]`. place: the file, and where in it the record is."""
    value = record.get(key) if isinstance(record, dict) else None
    if not isinstance(value, kind):
        where, at = place
        raise ConfigError(f"{where}: {at} has no {key} that is {_NAMES[kind.__name__]}")
    return value


def name(value: Any) -> str | None:
    """A value as a name; None where there is none."""
    return None if value is None else str(value)


def strings(columns: dict[str, list[Any]]) -> pa.Table:
    """A table whose columns are all text."""
    return pa.table({key: pa.array(values, pa.string()) for key, values in columns.items()})


_NAMES = {"str": "a string", "list": "a list", "dict": "an object"}
