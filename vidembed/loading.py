"""Project a run's vectors into Milvus.

Parquet is the record: a collection can be rebuilt from it at any time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidembed.store.bulk import BulkOptions, bulk_load
from vidembed.store.projection import Projection, collection_spec
from vidembed.store.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidembed.config import LoadConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """sent: rows written now; removed: keys deleted that the run has no more; missing: keys noted
    as written that were not there, and were written again; projected: rows of the run that the
    collection holds, asked for key by key; rows: all that the collection has.
    """

    sent: int
    removed: int
    missing: int
    projected: int
    rows: int


def load(config: LoadConfig, say: Callable[[str], None] = lambda sentence: None) -> Loaded:
    """Write what the collection lacks, or (`bulk`) import everything into a new one.

    say: is told how far an import is. Raises ConfigError, RunMismatchError or RunError.
    """
    run = Run.open(config.run)
    spec = collection_spec(run, config, config.collection)
    if config.bulk and config.stage:
        options = BulkOptions(
            stage=config.stage,
            file_bytes=config.bulk_megabytes << 20,
            patience_s=config.milvus_patience,
        )
        found = bulk_load(run, config.milvus, spec, options, say)
        return Loaded(
            sent=found.keys,
            removed=0,
            missing=found.missing,
            projected=found.keys,
            rows=found.keys,
        )
    projection = Projection.begin(run, config.milvus, spec)
    projection.collection.patient(config.milvus_patience)
    try:
        sent = projection.catch_up()
        removed = projection.withdraw()
        compared = projection.reconcile()
        return Loaded(
            sent=sent,
            removed=removed,
            missing=compared.missing,
            projected=compared.keys,
            rows=projection.count(),
        )
    finally:
        projection.close()
