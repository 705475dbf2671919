"""Project a run's vectors into Milvus.

Parquet is the record: a collection can be rebuilt from it at any time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidembed.store.projection import Projection, collection_spec
from vidembed.store.run import Run

if TYPE_CHECKING:
    from vidembed.config import LoadConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """sent: rows written now; removed: keys deleted that the run has no more; missing: keys noted as
    written that were not there, and were written again; projected: rows of the run that the
    collection holds, asked for key by key; rows: all that the collection has.
    """

    sent: int
    removed: int
    missing: int
    projected: int
    rows: int


def load(config: LoadConfig) -> Loaded:
    """Write what the collection lacks. Raises ConfigError, RunMismatchError or RunError."""
    run = Run.open(config.run)
    projection = Projection.begin(run, config.milvus, collection_spec(run, config))
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
