"""A run into a new collection by Milvus's import of files: staged, imported, counted, compared.

An import does not look whether a key is there already, and what was begun cannot be taken up in the
middle. A bulk load therefore makes its collection itself, and marks it, in a property and in the
ledger, until all is in and compared; a bulk load that finds its own mark drops the collection
and begins again. Nobody else writes into a collection that is marked.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from vidembed import sources
from vidembed.errors import ConfigError, RunError
from vidembed.store.bulk_api import imports
from vidembed.store.bulk_files import Stage, staged
from vidembed.store.lease import held
from vidembed.store.ledger import stem
from vidembed.store.milvus import Collection, is_lite
from vidembed.store.milvus_calls import MilvusAwayError
from vidembed.store.projection import Projection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vidembed.store.bulk_api import Imports
    from vidembed.store.bulk_files import Staged
    from vidembed.store.milvus import CollectionSpec
    from vidembed.store.projection import Reconciled
    from vidembed.store.run import Run

# Files that wait for the server or are being imported: they all have room on the stage at once.
_AT_ONCE = 16
_POLL_S = 1.0
_AGAIN_S = 5.0
_SAY_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkOptions:
    """stage: a folder or an s3:// address; file_bytes: of rows in a file; patience_s: how long to
    wait for a server that is away, or whose count does not grow.
    """

    stage: str
    file_bytes: int
    patience_s: float


def bulk_load(
    run: Run,
    uri: str,
    spec: CollectionSpec,
    options: BulkOptions,
    say: Callable[[str], None],
    made: Callable[[], None] = lambda: None,
) -> Reconciled:
    """Make the collection, bring the whole run into it, and compare it key by key.

    made: is called when the collection is there and empty. Raises ConfigError where it cannot be
    begun, RunError where it cannot be finished: the same call then begins again.
    """
    if is_lite(uri):
        raise ConfigError("Milvus Lite has no import: leave --bulk out, or name a server")
    parts = run.parts()
    if not parts:
        raise ConfigError(f"{run.uri} has no embeddings yet: there is nothing to import")
    projection = Projection(run, uri, spec.name, patience_s=options.patience_s)
    try:
        with held(projection.ledger.folder, say):
            return _Bulk(run, parts, projection, options, say).load(spec, made)
    finally:
        projection.close()


class _Bulk:
    def __init__(
        self,
        run: Run,
        parts: list[str],
        projection: Projection,
        options: BulkOptions,
        say: Callable[[str], None],
    ) -> None:
        self._run, self._parts, self._projection = run, parts, projection
        self._collection: Collection = projection.collection
        self._options, self._say = options, say
        self._said = time.monotonic()

    def load(self, spec: CollectionSpec, made: Callable[[], None]) -> Reconciled:
        ledger = self._projection.ledger
        stage = self._begun(spec)
        try:
            made()
            fields, size = self._collection.fields(), self._options.file_bytes
            rows = self._import(staged(self._run, self._parts, fields, stage, size))
        finally:
            stage.clear()
        compared = self._verified(rows)
        self._projection.withdraw()
        for part in self._parts:
            ledger.note_held(stem(part), self._run.rows_of(part))
        # From here on it is finished, whether or not the ledger still says that it is not.
        self._collection.bulk_finished()
        ledger.forget_bulk()
        return compared

    def _begun(self, spec: CollectionSpec) -> Stage:
        """The stage of this load; the collection is there and empty."""
        ledger = self._projection.ledger
        there = ledger.bulk()
        if there:
            Stage(there["stage"]).clear()
        if self._collection.exists():
            if not there or self._collection.bulk_token() != there["token"]:
                raise ConfigError(
                    f"collection {spec.name!r} is there already in {self._collection.uri}, and an "
                    f"import would double its keys: leave --bulk out, to send only what it lacks, "
                    f"or name another --collection"
                )
            self._say("an earlier bulk load was not finished: its collection is made anew")
            # First: what a kill leaves must not be taken for held.
            ledger.forget(ledger.held().items())
            self._collection.drop()
        else:
            ledger.forget(ledger.held().items())
        token = uuid.uuid4().hex
        stage = Stage.under(self._options.stage, token)
        ledger.note_bulk({"token": token, "stage": stage.folder})
        self._collection.create(replace(spec, bulk=token))
        return stage

    def _import(self, files: Iterator[Staged]) -> int:
        """Have each file imported by a request of its own; returns the rows imported."""
        api = self._collection.asking(lambda: imports(self._collection))
        going: dict[str, Staged] = {}
        rows = count = 0
        for file in files:
            going[self._started(api, file.path)] = file
            count += 1
            rows += self._finished(api, going, rows, count)
            while len(going) >= _AT_ONCE:
                time.sleep(_POLL_S)
                rows += self._finished(api, going, rows, count)
        while going:
            time.sleep(_POLL_S)
            rows += self._finished(api, going, rows, count)
        return rows

    def _started(self, api: Imports, path: str) -> str:
        deadline = time.monotonic() + self._options.patience_s
        while True:
            try:
                return replace(self._collection.asking, patience_s=0.0)(lambda: api.start(path))
            except MilvusAwayError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(_AGAIN_S)
            # Perhaps only the answer was lost: the same file twice is every row twice.
            if job := self._collection.asking(lambda: api.find(path)):
                return job

    def _finished(self, api: Imports, going: dict[str, Staged], before: int, files: int) -> int:
        """Take out of `going` what is imported; returns its rows."""
        rows = under_way = 0
        for job, file in list(going.items()):
            state = self._collection.asking(partial(api.state, job))
            if state.failed:
                raise RunError(f"Milvus did not import {file.path}: {state.failed}")
            if not state.over:
                under_way += state.rows
                continue
            if state.rows != file.rows:
                raise RunError(
                    f"Milvus imported {state.rows} of the {file.rows} rows of {file.path}; repeat "
                    f"the call, which begins anew"
                )
            rows += file.rows
            sources.remove(file.uri)
            del going[job]
        if time.monotonic() - self._said > _SAY_S:
            self._said = time.monotonic()
            self._say(
                f"{before + rows + under_way:,} rows imported; {files - len(going)} of {files} "
                f"files so far"
            )
        return rows

    def _verified(self, rows: int) -> Reconciled:
        """Count until all are there, and ask for every key."""
        self._collection.refresh()
        self._say(f"{rows:,} rows imported; comparing key by key")
        most, since = -1, time.monotonic()
        while (count := self._collection.count()) < rows:
            if count > most:
                most, since = count, time.monotonic()
            elif time.monotonic() - since > self._options.patience_s:
                break
            time.sleep(_POLL_S)
        compared = self._projection.reconcile(self._parts)
        count = self._collection.count()
        if count != rows:
            raise RunError(
                f"collection {self._collection.name!r} in {self._collection.uri} has {count:,} "
                f"rows after an import of {rows:,}: repeat the call, which begins anew"
            )
        return compared
