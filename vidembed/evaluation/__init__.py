"""How well queries find their answers in a run: retrieval metrics, exactly and through an index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidembed.evaluation.results import Evaluation

if TYPE_CHECKING:
    from vidembed.config import EvaluateConfig
    from vidembed.store.run import Run

__all__ = ["Evaluation", "evaluate"]


def evaluate(config: EvaluateConfig, run: Run | None = None) -> Evaluation:
    """See `vidembed.evaluation.job.evaluate`."""
    # Not before: Ray's workers import this package, and need neither encoders nor Milvus.
    from vidembed.evaluation import job

    return job.evaluate(config, run)
