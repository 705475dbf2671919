"""Re-index: a new version of a collection from runs, verified, then put in the live one's place."""

from vidembed.reindexing.job import Reindexed, reindex, rollback, status

__all__ = ["Reindexed", "reindex", "rollback", "status"]
