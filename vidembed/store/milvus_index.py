"""What the index of a collection is, and which parameters a search of it may have."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vidembed.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vidembed.store.milvus import Collection

_PARAMS: dict[str, tuple[int, int, tuple[str, ...]]] = {
    "ef": (1, 2**31 - 1, ("HNSW", "AUTOINDEX")),
    "nprobe": (1, 65536, ("IVF_FLAT", "AUTOINDEX")),
    "search_list": (1, 65535, ("DISKANN", "AUTOINDEX")),
    "level": (1, 10, ("AUTOINDEX",)),
}
"""Least, most, and the kinds of index that have it."""
_AT_LEAST_TOP = ("ef", "search_list")
_NOT_PARAMS = ("metric_type", "index_type", "field_name", "index_name", "total_rows",
               "indexed_rows", "pending_index_rows", "state")  # fmt: skip
_POLL_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFacts:
    """kind: FLAT, HNSW…; params: it was built with, empty where Milvus does not tell; rows: that a
    search sees; indexed: how many of these are in the index, None where Milvus does not tell. A
    server compares with the others one by one.
    """

    kind: str
    metric: str
    params: dict[str, int]
    rows: int
    indexed: int | None

    def plain(self) -> dict[str, Any]:
        """For evaluation.json."""
        return {
            "type": self.kind,
            "metric": self.metric,
            "params": self.params,
            "indexed_rows": self.indexed,
        }


def index_facts(collection: Collection) -> IndexFacts:
    """As far as the server tells: Milvus Lite keeps parameters, and what is indexed, to itself."""
    said = _described(collection)
    kind = str(said.get("index_type") or "")
    params = {k: _number(v) for k, v in said.items() if k not in _NOT_PARAMS}
    rows = collection.count()
    indexed = None if collection.is_lite else int(said.get("indexed_rows") or 0)
    return IndexFacts(
        kind=kind,
        metric=str(said.get("metric_type") or ""),
        params=params,
        rows=rows,
        # Rows that were written twice count twice there until they are compacted.
        indexed=None if indexed is None else min(indexed, rows),
    )


def settle(collection: Collection, patience_s: float) -> IndexFacts:
    """Have all rows that were written go into the index, and wait for that.

    A server compares fresh rows one by one, whatever the index and its parameters, until it closes
    their segment: a measurement of the index needs them in it. Small segments (by
    default those of fewer than 1,024 rows) get no index at all. Returns what has come of it.
    """
    collection.flush()
    deadline = time.monotonic() + patience_s
    facts = index_facts(collection)
    while _pending(collection) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    collection.refresh()
    return index_facts(collection) if facts.indexed is not None else facts


def _pending(collection: Collection) -> bool:
    return not collection.is_lite and int(_described(collection).get("pending_index_rows") or 0) > 0


def _described(collection: Collection) -> dict[str, Any]:
    return dict(
        collection.asking(
            lambda: collection.asking.client.describe_index(collection.name, "embedding")
        )
        or {}
    )


def _number(value: Any) -> Any:
    try:
        return int(value)
    except (TypeError, ValueError):
        return value


def check_params(params: Mapping[str, Any], kind: str, top: int) -> None:
    """Raise ConfigError for what this kind of index does not have, and for what is too little for
    `top` results: Milvus ignores the one, and is unclear about the other.
    """
    own = sorted(name for name, (_, _, kinds) in _PARAMS.items() if kind in kinds)
    for name, value in params.items():
        if name not in own:
            there = f"it has {', '.join(own)}" if own else "it has none"
            raise ConfigError(f"--search-params: an index {kind} has no {name!r}; {there}")
        least, most, _ = _PARAMS[name]
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ConfigError(
                f"--search-params: {name} is a whole number from {least} to {most}, got {value!r}"
            )
        if name in _AT_LEAST_TOP and value < top:
            raise ConfigError(
                f"--search-params: {name}={value} is less than the {top} results that are wanted: "
                f"it must be at least that"
            )


def wide_enough(params: Mapping[str, Any], top: int) -> dict[str, Any]:
    """The same, for more results than were asked for."""
    return {
        name: max(value, top) if name in _AT_LEAST_TOP else value for name, value in params.items()
    }
