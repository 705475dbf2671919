"""The scheduled round: embed what is new, move the alias if the gate passes, evaluate, report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidembed.refreshing.round import Refreshed, Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidembed.config import RefreshConfig

__all__ = ["Refreshed", "Step", "refresh"]


def refresh(config: RefreshConfig, say: Callable[[str], None] | None = None) -> Refreshed | None:
    """See `vidembed.refreshing.job.refresh`."""
    from vidembed.refreshing.job import refresh as job

    return job(config, say or (lambda sentence: None))
