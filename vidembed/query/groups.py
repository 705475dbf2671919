"""The rows of a run in memory-bounded groups, read by several threads, some of them kept."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import pyarrow as pa

from vidembed import retrieval, sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np
    import pyarrow.parquet as pq
    from numpy.typing import NDArray

    from vidembed.store.run import Run

    Result = TypeVar("Result")

# An object store is waited for more than it is computed with.
_THREADS_AFAR = 16
# Of the memory, for the rows that hits are made of; at least so many bytes.
_SHARE_OF_ROWS = 8
_LEAST_OF_ROWS = 16 << 20


class Group(NamedTuple):
    """A row group of a part: some thousand rows. A part never changes, nor does its name come back
    with other rows.
    """

    part: str
    number: int
    rows: int


class Groups:
    """The row groups of a run as it is at each call: a job may be writing to it, or compacting it.

    memory: bytes of what is kept once it was read, vectors and single columns; what is beyond is
    read every time.
    """

    def __init__(self, run: Run, memory: int) -> None:
        self.run = run
        self._of_rows = max(_LEAST_OF_ROWS, memory // _SHARE_OF_ROWS)
        self._room = memory - memory // _SHARE_OF_ROWS
        self._footers: dict[str, pq.FileMetaData] = {}
        self._schemas: dict[str, pa.Schema] = {}
        self._vectors: dict[Group, NDArray[np.float32]] = {}
        self._columns: dict[tuple[Group, str], pa.ChunkedArray] = {}
        self._rows: OrderedDict[Group, pa.Table] = OrderedDict()
        self._lock = threading.Lock()
        cores = len(os.sched_getaffinity(0))
        threads = cores if sources.is_local(run.uri) else max(cores, _THREADS_AFAR)
        self._pool = ThreadPoolExecutor(threads, "vidembed-search")

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        for kept in (self._vectors, self._columns, self._rows):
            kept.clear()

    def map(self, function: Callable[[Any], Result], items: Iterable[Any]) -> list[Result]:
        """The function of each item, in order, computed by several threads."""
        return list(self._pool.map(function, items))

    def listed(self) -> list[Group]:
        """The row groups that are there now, in a stable order."""
        parts = self.run.parts()
        new = [part for part in parts if part not in self._footers]
        found = dict(zip(new, self.map(self.run.footer, new), strict=True))
        schemas = {part: footer.schema.to_arrow_schema() for part, footer in found.items()}
        with self._lock:
            self._footers |= found
            self._schemas |= schemas
            if len(self._footers) > len(parts):
                self._forget(set(parts))
            footers = [(part, self._footers[part]) for part in parts]
        return [
            Group(part, number, footer.row_group(number).num_rows)
            for part, footer in footers
            for number in range(footer.num_row_groups)
        ]

    def _forget(self, there: set[str]) -> None:
        for part in self._footers.keys() - there:
            del self._footers[part], self._schemas[part]
        for group in [group for group in self._vectors if group.part not in there]:
            self._room += self._vectors.pop(group).nbytes
        for key in [key for key in self._columns if key[0].part not in there]:
            self._room += self._columns.pop(key).nbytes
        for group in [group for group in self._rows if group.part not in there]:
            del self._rows[group]

    def schema(self) -> pa.Schema:
        """The columns of all parts, as of the last listing."""
        with self._lock:
            schemas = list(self._schemas.values())
        return pa.unify_schemas(schemas, promote_options="permissive").remove_metadata()

    def vectors(self, group: Group) -> NDArray[np.float32]:
        """The vectors of a group, float32 [rows, dim]."""
        kept = self._vectors.get(group)
        if kept is not None:
            return kept
        found = retrieval.matrix(self._read(group, ["embedding"])["embedding"])
        with self._lock:
            if group not in self._vectors and found.nbytes <= self._room:
                self._room -= found.nbytes
                self._vectors[group] = found
        return found

    def read(self, group: Group, columns: list[str]) -> pa.Table:
        """These columns of the rows of a group; one that the part lacks is null."""
        found = {name: self._columns.get((group, name)) for name in columns}
        lacking = [name for name, column in found.items() if column is None]
        if lacking:
            table = self._read(group, lacking)
            with self._lock:
                for name in lacking:
                    found[name] = table[name]
                    if (group, name) not in self._columns and table[name].nbytes <= self._room:
                        self._room -= table[name].nbytes
                        self._columns[group, name] = table[name]
        return pa.table(found)

    def _read(self, group: Group, columns: list[str]) -> pa.Table:
        there = self._schema_of(group.part)
        known = [name for name in columns if name in there.names]
        table = self.run.read_group(group.part, group.number, known, self._footers.get(group.part))
        if len(known) == len(columns):
            return table
        every = self.schema()
        for name in set(columns) - set(known):
            table = table.append_column(name, pa.nulls(group.rows, every.field(name).type))
        return table

    def _schema_of(self, part: str) -> pa.Schema:
        there = self._schemas.get(part)
        # Another thread has listed the run anew, and the part is gone: that is said on reading it.
        return there if there is not None else self.run.footer(part).schema.to_arrow_schema()

    def rows(self, group: Group) -> pa.Table:
        """All columns but the vectors."""
        with self._lock:
            if group in self._rows:
                self._rows.move_to_end(group)
                return self._rows[group]
        names = [name for name in self._schema_of(group.part).names if name != "embedding"]
        table = self.run.read_group(group.part, group.number, names, self._footers.get(group.part))
        with self._lock:
            self._rows[group] = table
            size = sum(each.nbytes for each in self._rows.values())
            while size > self._of_rows:
                size -= self._rows.popitem(last=False)[1].nbytes
        return table
