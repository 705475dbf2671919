"""What of a manifest some run lacks: counted first, then gone through in windows."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pyarrow as pa

from vidembed import schema
from vidembed.store.done import remaining

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from vidembed.manifest import Manifest
    from vidembed.store.done import Done

# Ray Data keeps something in the driver for every block of a dataset: a corpus goes through it in
# windows of this many videos, so that the driver's memory does not grow with the corpus. Between
# two of them actors are started anew and weights loaded again, so they are not small. Rows of much
# metadata make smaller ones: a window is in the driver's memory, and in the object store.
WINDOW = 1_000_000
WINDOW_BYTES = 256 << 20


class Pending:
    """The manifest's rows that some run lacks.

    rows: how many; of_run: how many each run lacks, by its encoder's label. What fits into one
    window is kept from the counting; more is read again.
    """

    def __init__(self, manifest: Manifest, limit: int | None, done: Mapping[str, Done]) -> None:
        self._manifest, self._done = manifest, done
        self._limit = manifest.rows if limit is None else min(limit, manifest.rows)
        self._kept: list[pa.Table] | None = None
        if not any(len(each.hashes) or each.partial for each in done.values()):
            self.rows = self._limit
            self.of_run = Counter(dict.fromkeys(done, self.rows))
            return
        self.rows, self.of_run = 0, Counter(dict.fromkeys(done, 0))
        self._bytes = 0
        self._kept = []
        for table in self._tables(done):
            self._add(table)

    def _add(self, table: pa.Table) -> None:
        self.rows += len(table)
        self._bytes += table.nbytes
        for label in self.of_run:
            skips = table[schema.own("skip", label)]
            self.of_run[label] += len(skips) - skips.null_count
        if self.rows > WINDOW or self._bytes > WINDOW_BYTES:
            self._kept = None
        elif self._kept is not None and len(table):
            self._kept.append(table)

    def windows(self, labels: Iterable[str]) -> Iterator[pa.Table]:
        """The rows, with a column `skip` for each of these labels, which lack all that is pending
        between them.
        """
        labels = list(labels)
        others = [schema.own("skip", label) for label in self._done if label not in labels]
        if self._kept is not None:
            yield from _cut(table.drop_columns(others) for table in self._kept)
        else:
            yield from _cut(self._tables({label: self._done[label] for label in labels}))

    def _tables(self, done: Mapping[str, Done]) -> Iterator[pa.Table]:
        left = self._limit
        for table in self._manifest.tables():
            rows = table.slice(0, left)
            left -= len(rows)
            if len(rows):
                yield remaining(rows, done)
            if left <= 0:
                return


def _cut(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    gathered: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        row = max(1, table.nbytes // max(1, len(table)))
        while len(table):
            part = table.slice(0, max(1, min(WINDOW - rows, (WINDOW_BYTES - size) // row)))
            table = table.slice(len(part))
            gathered.append(part)
            rows += len(part)
            size += len(part) * row
            if rows == WINDOW or size + row > WINDOW_BYTES:
                yield pa.concat_tables(gathered)
                gathered, rows, size = [], 0, 0
    if rows:
        yield pa.concat_tables(gathered)
