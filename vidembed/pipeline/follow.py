"""Milvus follows Parquet while a run works: parts are projected as they are committed."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vidembed.errors import ConfigError, RunError
from vidembed.store.projection import Projection, collection_spec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vidembed.config import EmbedConfig
    from vidembed.store.run import Run

_RETRY_S = 5.0


@contextmanager
def following(run: Run, config: EmbedConfig) -> Iterator[Follower | None]:
    """A follower where --milvus asks for one; it is stopped however the run ends."""
    if config.milvus is None:
        yield None
        return
    follower = Follower(run, config)
    try:
        yield follower
    finally:
        follower.close()


class Follower:
    """Projects a run's parts from one thread of the driver.

    One thread, because Milvus Lite has a single writer. A Milvus that does not answer holds back
    the projection only, never the run; what is missing at the end is said, and `vidembed load`
    makes up for it.
    """

    def __init__(self, run: Run, config: EmbedConfig) -> None:
        """Connect and check the collection: a wrong one is found before anything is started."""
        assert config.milvus is not None
        self._uri, self._name = config.milvus, config.collection
        spec = collection_spec(
            run, name=config.collection, metric=config.metric, index=config.index
        )
        self._projection = Projection(run, config.milvus, spec)
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._error = ""
        self._thread = threading.Thread(target=self._run, name="projection", daemon=True)
        self._thread.start()

    def poke(self) -> None:
        """There may be new parts."""
        self._wake.set()

    @property
    def note(self) -> str:
        return f"  Milvus is behind: {self._error}" if self._error else ""

    def finish(self) -> dict[str, Any]:
        """Project what is left; returns what the report says of it."""
        self._halt()
        try:
            self._projection.catch_up()
            rows = self._projection.count()
            self._error = ""
        except (RunError, ConfigError) as error:
            self._error = str(error)
            rows = None
        return {
            "uri": self._uri,
            "collection": self._name,
            "projected": self._projection.rows,
            "rows": rows,
            "error": self._error or None,
        }

    def close(self) -> None:
        self._halt()
        self._projection.close()

    def _halt(self) -> None:
        self._stop.set()
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait()
            self._wake.clear()
            if self._stop.is_set():
                return
            try:
                self._projection.catch_up()
                self._error = ""
            except (RunError, ConfigError) as error:
                self._error = str(error)
                self._stop.wait(_RETRY_S)
