"""The reports of the rounds: OUT/refreshes/20261122T195142Z/refresh.json and what is beside it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from vidembed import sources
from vidembed.pages import refresh as page

if TYPE_CHECKING:
    from vidembed.refreshing.round import Refreshed

_REPORT = "refresh.json"


class History:
    """The rounds of one run; written to by whoever holds the run."""

    def __init__(self, out: str) -> None:
        self._folder = sources.join(sources.absolute(out), "refreshes")

    def folder(self, name: str) -> str:
        """Of one round."""
        return sources.join(self._folder, name)

    def names(self) -> list[str]:
        """Of all rounds, the oldest first."""
        return [sources.display_name(each) for each in sources.list_folder(self._folder, "Z")]

    def last(self) -> dict[str, Any] | None:
        """The newest report that can be read."""
        for name in reversed(self.names()):
            try:
                found = json.loads(sources.read_whole(sources.join(self.folder(name), _REPORT)))
            except (FileNotFoundError, ValueError):
                continue
            if isinstance(found, dict):
                return found
        return None

    def new_name(self) -> str:
        """Of a round that begins now: later ones sort after earlier ones."""
        there = self.names()
        while (name := time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())) in there:
            time.sleep(0.1)
        return name

    def write(self, report: Refreshed) -> None:
        """refresh.json and, of a round that has ended, refresh.html."""
        folder = self.folder(report.name)
        if report.ended is not None:
            text = page.render(report.plain())
            sources.write_whole(sources.join(folder, "refresh.html"), text.encode())
        sources.write_whole(sources.join(folder, _REPORT), report.json().encode())

    def forget(self, name: str) -> None:
        sources.remove(self.folder(name))

    def keep(self, count: int, needed: str | None) -> None:
        """Delete all but the last ones, and the one whose evaluation the next is compared with."""
        for name in self.names()[:-count]:
            if name != needed:
                self.forget(name)
