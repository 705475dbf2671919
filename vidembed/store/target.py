"""Where write tasks send a part right after they have committed it: a Milvus server."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vidembed.errors import ConfigError, RunError
from vidembed.store.milvus_calls import is_lite, secrets
from vidembed.store.projection import Projection

if TYPE_CHECKING:
    from vidembed.store.run import Run

# A server that is away is left alone by this process for so long: a stage must not wait for it.
_LEAVE_ALONE_S = 30.0
_BRIEFLY = {"patience_s": 2.0, "call_s": 8.0}
_open: dict[tuple[str, str, str], Projection] = {}
_away_until: dict[str, float] = {}
_why: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Target:
    """A collection of a server, as it goes to the workers. Milvus Lite is none: it has one writer.

    environment: what lets a worker in, as it does the driver.
    """

    uri: str
    collection: str
    environment: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, uri: str, collection: str) -> Target | None:
        return None if is_lite(uri) else cls(uri, collection, secrets())

    def send(self, run: Run, part: str) -> bool:
        """Write one part and note it; False where the server does not take it now, which holds up
        nothing: whoever follows the run makes up for it.
        """
        if time.monotonic() < _away_until.get(self.uri, 0.0):
            return False
        try:
            self._projection(run).send(part)
        except (RunError, ConfigError) as error:
            _why[self.uri] = str(error)
            _away_until[self.uri] = time.monotonic() + _LEAVE_ALONE_S
            return False
        return True

    @property
    def why(self) -> str:
        """What the server said when it did not take a part of this process's last."""
        return _why.get(self.uri, "")

    def _projection(self, run: Run) -> Projection:
        key = (run.uri, self.uri, self.collection)
        if key not in _open:
            os.environ.update(self.environment)
            _open[key] = Projection(run, self.uri, self.collection, **_BRIEFLY)
        return _open[key]
