"""Milvus follows Parquet while a run works: parts are projected as they are committed."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vidembed.errors import ConfigError, RunError
from vidembed.store.projection import Projection, collection_spec
from vidembed.store.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow as pa

    from vidembed.pipeline.lanes import Lane
    from vidembed.store.projection import Reconciled

_RETRY_S = 5.0
# Write tasks send their parts to a server themselves; what is not noted after so long is ours.
_GRACE_S = 30.0


@contextmanager
def following(lanes: Sequence[Lane], metadata: pa.Schema) -> Iterator[Follower | None]:
    """A follower where --milvus asks for one; it is stopped however the job ends.

    Connects and checks the collections: a wrong one is found before anything is started. metadata:
    of the manifest.
    """
    with ExitStack() as stack:
        followed = []
        for lane in lanes:
            if lane.config.milvus is None:
                continue
            spec = collection_spec(lane.run, lane.config, lane.config.collection, metadata)
            projection = Projection.begin(lane.run, lane.config.milvus, spec)
            stack.callback(projection.close)
            projection.withdraw()
            target = Target.of(lane.config.milvus, lane.config.collection)
            followed.append(_Followed(lane, projection, target))
        if not followed:
            yield None
            return
        follower = Follower(followed)
        stack.callback(follower.halt)
        yield follower


@dataclass(slots=True)
class _Followed:
    lane: Lane
    projection: Projection
    target: Target | None
    error: str = ""
    seen: dict[str, float] = field(default_factory=dict)

    def catch_up(self) -> None:
        """Send the parts that nobody else is about to send."""
        now = time.monotonic()
        for part in self.projection.lacking():
            if self.target is None or now - self.seen.setdefault(part, now) >= _GRACE_S:
                self.projection.send(part)

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
        projection.collection.patient(config.milvus_patience)
        compared: Reconciled | None = None
        rows: int | None = None

        def work() -> None:
            nonlocal compared, rows
            projection.catch_up()
            projection.withdraw()
            compared = projection.reconcile(projection.new_parts())
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
    """Projects from one thread of the driver the parts that no write task sends.

    One thread, because Milvus Lite has a single writer: it gets all parts this way, a server those
    that it did not take when they were written. A Milvus that does not answer holds back the
    projection only, never the runs; what is missing at the end is said, and `vidembed load` makes
    up for it.
    """

    def __init__(self, followed: Sequence[_Followed]) -> None:
        self._followed = followed
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="projection", daemon=True)
        self._thread.start()

    @property
    def targets(self) -> dict[str, Target]:
        """By label, where write tasks send their parts."""
        return {each.lane.label: each.target for each in self._followed if each.target}

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
            behind = [each for each in self._followed if not each.done(each.catch_up)]
            if behind:
                self._stop.wait(_RETRY_S)
