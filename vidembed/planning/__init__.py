"""How long a corpus takes on which machines, from what a sample of it costs here."""

from vidembed.planning.job import plan
from vidembed.planning.result import Plan

__all__ = ["Plan", "plan"]
