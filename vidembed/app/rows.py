"""The rows that the page has shown, by id: nothing else is served."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vidembed.query import Hit, Index

_KEPT = 4096


class Rows:
    """Looks a row up by its id, the latest ones from memory. For several threads."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._lock = threading.Lock()
        self._recent: OrderedDict[str, Hit] = OrderedDict()

    def keep(self, hits: Iterable[Hit]) -> None:
        """What is shown is asked for next."""
        with self._lock:
            for hit in hits:
                self._recent[hit.id] = hit
                self._recent.move_to_end(hit.id)
            while len(self._recent) > _KEPT:
                self._recent.popitem(last=False)

    def get(self, row: str) -> Hit | None:
        """The row of this id; None where the index has none."""
        with self._lock:
            found = self._recent.get(row)
        if found is None:
            found = self._index.get([row])[0]
            if found is not None:
                self.keep([found])
        return found
