"""Searching a collection: requests of a size that Milvus takes, filters, the best of a group."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from vidembed import filters
from vidembed.errors import ConfigError, RunError
from vidembed.filters.kinds import plain_kind
from vidembed.filters.nodes import wrong
from vidembed.store.milvus_calls import MilvusAwayError
from vidembed.store.milvus_index import check_params, index_facts, wide_enough

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from vidembed.filters.kinds import Kind
    from vidembed.filters.nodes import Column
    from vidembed.store.milvus import Collection

Hits = list[dict[str, Any]]

MOST = 16384
"""Results of a query, and queries of a request, that a server gives."""
_QUERY_BYTES = 8 << 20
# An answer must stay far below the 64 MiB of a message: a row of all fields is some 1 kB.
_ANSWER_ROWS = 16_384
_ROWS = 1000
_CALL_S = 120.0
_REFUSED = ("expression", "query plan", "at column", "unsupport", "not supported", "cannot cast",
            "=> assert", 'assert "')  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """What all queries of one search have in common. condition: in Milvus's words."""

    collection: Collection
    condition: str
    given: str
    params: Mapping[str, Any]
    fields: Sequence[str]
    consistency: dict[str, str]

    def ask(self, vectors: NDArray[np.float32], top: int, besides: str = "") -> list[Hits]:
        """The `top` nearest of each vector; besides: a condition more."""
        half = self.collection.fields()["embedding"] == "FLOAT16_VECTOR"
        data = vectors.astype(np.float16) if half else vectors
        step = max(1, min(MOST, _QUERY_BYTES // data[:1].nbytes, _ANSWER_ROWS // top)) if len(
            data) else 1  # fmt: skip
        condition = " and ".join(each for each in (self.condition, besides) if each)
        found: list[Hits] = []
        for at in range(0, len(data), step):
            call = partial(
                self.collection.asking.client.search,
                self.collection.name,
                data=list(data[at : at + step]),
                limit=top,
                filter=condition,
                output_fields=list(self.fields),
                search_params={"params": wide_enough(self.params, top)} if self.params else None,
                timeout=_CALL_S,
                **self.consistency,
            )
            answers = told(self.collection, call, self.given)
            found += [[_hit(hit) for hit in hits] for hits in answers]
        return found


class Searching:
    """Searches of one collection, which is asked once what it holds."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._dynamic: dict[tuple[str | int, ...], Kind] = {}
        self._index = ""
        self._is_loaded = False

    def search(
        self,
        vectors: NDArray[np.float32],
        top: int,
        *,
        filter: str = "",  # noqa: A002
        params: Mapping[str, Any] | None = None,
        group_by: str | None = None,
        fields: Sequence[str] | None = None,
        consistency: str | None = None,
    ) -> list[Hits]:
        """See `Collection.search`."""
        if not 1 <= top <= MOST:
            raise ConfigError(f"--top {top}: Milvus gives 1 to {MOST} results")
        self._load()
        if params:
            self._index = self._index or index_facts(self._collection).kind
            check_params(params, self._index, top)
        request = _Request(
            collection=self._collection,
            condition=self.condition(filter),
            given=filter,
            params=params or {},
            fields=self.fields(fields, group_by),
            consistency=_consistent(consistency),
        )
        if group_by is None:
            return request.ask(vectors, top)
        return _grouped(request, vectors, top, group_by)

    def get(
        self,
        ids: Sequence[str],
        fields: Sequence[str] | None = None,
        consistency: str | None = None,
    ) -> list[dict[str, Any] | None]:
        """See `Collection.get`."""
        self._load()
        found: dict[str, dict[str, Any]] = {}
        wanted = self.fields(fields, None)
        for at in range(0, len(ids), _ROWS):
            call = partial(
                self._collection.asking.client.get,
                self._collection.name,
                ids=list(ids[at : at + _ROWS]),
                output_fields=["id", *wanted],
                timeout=_CALL_S,
                **_consistent(consistency),
            )
            found |= {row["id"]: _row(row, wanted) for row in self._collection.asking(call)}
        return [found.get(key) for key in ids]

    def _load(self) -> None:
        """Once: a request of its own at every search would cost as much as the search."""
        if not self._is_loaded:
            self._collection.load()
            self._is_loaded = True

    def fields(self, wanted: Sequence[str] | None, group_by: str | None) -> list[str]:
        """The fields to ask for. Raises ConfigError for a group that is no field."""
        own = self._collection.fields()
        if group_by is not None and group_by not in own:
            raise ConfigError(
                f"collection {self._collection.name!r} has no field {group_by!r} to group by"
            )
        names = [*(n for n in own if n not in ("embedding", "$meta")), "$meta"]
        named = names if wanted is None else list(wanted)
        # Milvus Lite gives everything to whoever asks for nothing.
        return list(dict.fromkeys([*named, *([group_by] if group_by else [])])) or ["id"]

    def columns(self) -> list[str]:
        """The names in the dynamic field of the collection's first rows."""
        call = partial(
            self._collection.asking.client.query,
            self._collection.name,
            filter="",
            limit=_ROWS,
            output_fields=["$meta"],
            timeout=_CALL_S,
        )
        self._load()
        own = self._collection.fields()
        rows = self._collection.asking(call)
        return sorted({name for row in rows for name in row if name not in own})

    def condition(self, text: str) -> str:
        """A filter in words for this collection. Raises ConfigError for what does not fit it."""
        if not text:
            return ""
        read = filters.parse(text)
        fields = {k: v for k, v in self._collection.fields().items() if k != "embedding"}
        for column in read.named:
            filters.check_name(column, [*fields, column.name])
            if column.name not in fields:
                self._look_into(column, fields, text)
        version = None if self._collection.is_lite else self._collection.version()
        return read.worded(filters.Dialect(version=version, fields=fields, dynamic=self._dynamic))

    def _one(self, condition: str, given: str) -> list[dict[str, Any]]:
        """The metadata of a row for which this holds, where there is one."""
        call = partial(
            self._collection.asking.client.query,
            self._collection.name,
            filter=condition,
            limit=1,
            output_fields=["$meta"],
            timeout=_CALL_S,
        )
        return list(told(self._collection, call, given))

    def _look_into(self, column: Column, fields: Mapping[str, str], text: str) -> None:
        """Learn from a row that has it what a column of the dynamic field holds."""
        if column.path in self._dynamic:
            return
        rows = self._one(filters.exists(column), text)
        if rows and not self._collection.is_lite:
            rows = self._one(filters.holds_a_value(column), text) or rows
        if not rows:
            where = f"collection {self._collection.name!r}"
            if len(column.path) > 1:
                raise wrong(column.at, f"no row of {where} has {column}")
            filters.check_name(column, [*fields, *self.columns()], where)
            raise wrong(column.at, f"no row of {where} has a column {column.name!r}")
        found: Any = rows[0]
        for step in column.path:
            found = found[step]
        self._dynamic[column.path] = plain_kind(found)


def _grouped(
    request: _Request, vectors: NDArray[np.float32], top: int, group_by: str
) -> list[Hits]:
    """The best row of each of the `top` nearest groups, as the index finds them.

    More rows are asked for until there are enough groups, then those of other groups: what servers
    of 2.4 and newer call grouping is neither in all of them nor for all kinds of index.
    """
    best: list[dict[Any, dict[str, Any]]] = [{} for _ in vectors]
    open_: list[int] = list(range(len(vectors)))
    rows = min(MOST, 4 * top)
    while open_:
        answers = request.ask(vectors[open_], rows)
        for query, hits in zip(open_, answers, strict=True):
            best[query] = _first_of_each(hits, group_by)
        open_ = [
            query
            for query, hits in zip(open_, answers, strict=True)
            if len(best[query]) < top and len(hits) == rows
        ]
        if rows == MOST:
            break
        rows = min(MOST, 4 * rows)
    for query in open_:
        _fill(request, vectors[query][None], top, group_by, best[query])
    return [list(found.values())[:top] for found in best]


def _fill(
    request: _Request,
    vector: NDArray[np.float32],
    top: int,
    group_by: str,
    found: dict[Any, dict[str, Any]],
) -> None:
    """Where a few groups have more rows than Milvus gives: ask for what is in none of them."""
    while len(found) < top:
        besides = f"{group_by} not in [{', '.join(map(filters.quoted, found))}]"
        hits = request.ask(vector, MOST, besides)[0]
        found |= _first_of_each(hits, group_by)
        if len(hits) < MOST:
            return


def _first_of_each(hits: Hits, group_by: str) -> dict[Any, dict[str, Any]]:
    found: dict[Any, dict[str, Any]] = {}
    for hit in hits:
        found.setdefault(hit[group_by], hit)
    return found


def _consistent(level: str | None) -> dict[str, str]:
    return {} if level is None else {"consistency_level": level}


def told(collection: Collection, call: Any, given: str) -> Any:
    """The answer; Milvus's own word about a filter becomes a ConfigError."""
    try:
        return collection.asking(call)
    except MilvusAwayError:
        raise
    except RunError as error:
        if given and any(word in str(error).lower() for word in _REFUSED):
            raise ConfigError(f"--filter {given}: this Milvus refuses it: {error}") from error
        raise


def _hit(hit: Any) -> dict[str, Any]:
    entity = {k: v for k, v in dict(hit["entity"]).items() if k != "embedding"}
    return {**entity, "id": hit["id"], "score": float(hit["distance"])}


def _row(row: Mapping[str, Any], wanted: Sequence[str]) -> dict[str, Any]:
    found = dict(row)
    if "embedding" in wanted:
        vector = found["embedding"]
        if isinstance(vector, bytes):
            vector = np.frombuffer(vector, np.float16)
        elif isinstance(vector, list) and vector and isinstance(vector[0], bytes):
            vector = np.frombuffer(vector[0], np.float16)
        found["embedding"] = np.asarray(vector, np.float32)
    return found
