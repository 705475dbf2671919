"""Milvus follows Parquet while a run works: parts are projected as they are committed."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vidembed.errors import ConfigError, RunError
from vidembed.store.projection import Projection, collection_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vidembed.pipeline.lanes import Lane
    from vidembed.store.projection import Reconciled

_RETRY_S = 5.0


@contextmanager
def following(lanes: Sequence[Lane]) -> Iterator[Follower | None]:
    """A follower where --milvus asks for one; it is stopped however the job ends.

    Connects and checks the collections: a wrong one is found before anything is started.
    """
    with ExitStack() as stack:
        followed = []
        for lane in lanes:
            if lane.config.milvus is None:
                continue
            projection = _projection(lane, lane.config.milvus)
            stack.callback(projection.close)
            projection.withdraw()
            followed.append(_Followed(lane, projection))
        if not followed:
            yield None
            return
        follower = Follower(followed)
        stack.callback(follower.halt)
        yield follower


def _projection(lane: Lane, milvus: str) -> Projection:
    config = lane.config
    spec = collection_spec(
        lane.run, name=config.collection, metric=config.metric, index=config.index
    )
    return Projection(lane.run, milvus, spec)


@dataclass(slots=True)
class _Followed:
    lane: Lane
    projection: Projection
    error: str = ""

    def done(self, work: Callable[[], object]) -> bool:
        """Do this; False, with `error`, where Milvus does not take part."""
        try:
            work()
        except (RunError, ConfigError) as error:
            self.error = str(error)
        else:
            self.error = ""
        return not self.error

    def finish(self) -> dict[str, Any]:
        """Project what is left, delete what the run has removed, and compare key by key what was
        sent; returns what the report says of it.
        """
        config, projection = self.lane.config, self.projection
        compared: Reconciled | None = None
        rows: int | None = None

        def work() -> None:
            nonlocal compared, rows
            projection.catch_up()
            projection.withdraw()
            compared = projection.reconcile(projection.sent_and_there())
            rows = projection.count()

        self.done(work)
        return {
            "uri": config.milvus,
            "collection": config.collection,
            "projected": projection.rows,
            "rows": rows,
            "keys_compared": compared.keys if compared else 0,
            "keys_missing": compared.missing if compared else 0,
            "error": self.error or None,
        }


class Follower:
    """Projects the parts of all runs from one thread of the driver.

    One thread, because Milvus Lite has a single writer. A Milvus that does not answer holds back
    the projection only, never the runs; what is missing at the end is said, and `vidembed load`
    makes up for it.
    """

    def __init__(self, followed: Sequence[_Followed]) -> None:
        self._followed = followed
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="projection", daemon=True)
        self._thread.start()

    def poke(self) -> None:
        """There may be new parts."""
        self._wake.set()

    @property
    def note(self) -> str:
        error = next((each.error for each in self._followed if each.error), "")
        return f"  Milvus is behind: {error}" if error else ""

    def finish(self) -> dict[str, dict[str, Any]]:
        """Project what is left; returns what the report of each run, by its label, says of it."""
        self.halt()
        return {each.lane.label: each.finish() for each in self._followed}

    def halt(self) -> None:
        self._stop.set()
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait()
            self._wake.clear()
            if self._stop.is_set():
                return
            # Every one is tried: a collection that is refused holds back no other.
            behind = [each for each in self._followed if not each.done(each.projection.catch_up)]
            if behind:
                self._stop.wait(_RETRY_S)
