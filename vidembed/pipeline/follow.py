"""Milvus follows Parquet while a run works: parts are projected as they are committed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from vidembed import log
from vidembed.errors import ConfigError, RunError
from vidembed.store.projection import Projection, collection_spec
from vidembed.store.target import Target
from vidembed.tally import Backlog, Committed, Event

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from vidembed.pipeline.lanes import Lane
    from vidembed.store.projection import Reconciled

Listener: TypeAlias = Callable[[Event | Backlog], None]

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


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A part that Milvus does not have: since when, as Unix time, and its rows."""

    since: float
    rows: int


@dataclass(slots=True)
class _Followed:
    lane: Lane
    projection: Projection
    target: Target | None
    error: str = ""
    waiting: dict[str, _Waiting] = field(default_factory=dict)
    tally: Listener | None = None

    def catch_up(self) -> None:
        """Send the parts that nobody else is about to send."""
        for part in self.lacking():
            if self.target is None or time.time() - self.waiting[part].since >= _GRACE_S:
                self.send(part)

    def lacking(self) -> list[str]:
        """The parts that Milvus does not have; the tally is told of them."""
        found = self.projection.lacking()
        known, now = self.waiting, time.time()
        self.waiting = {
            part: known.get(part) or _Waiting(now, self.lane.run.rows_of(part)) for part in found
        }
        self._tell_backlog()
        return found

    @property
    def rows(self) -> int:
        """Of the parts that Milvus does not have."""
        return sum(each.rows for each in self.waiting.values())

    def send(self, part: str) -> None:
        began = time.time()
        rows = self.projection.send(part)
        seconds = time.time() - began
        self.waiting.pop(part, None)
        label = self.lane.label
        committed = {label: Committed(sent=rows, sent_s=seconds)}
        self._tell(
            Event(
                stage="projection",
                worker="driver",
                began=began,
                seconds=seconds,
                committed=committed,
            )
        )
        run = self.lane.run.uri
        seconds = round(seconds, 3)
        log.note("part projected", "projection", run=run, part=part, rows=rows, seconds=seconds)
        self._tell_backlog()

    def _tell_backlog(self) -> None:
        since = min((each.since for each in self.waiting.values()), default=None)
        self._tell(
            Backlog(label=self.lane.label, parts=len(self.waiting), rows=self.rows, since=since)
        )

    def _tell(self, told: Event | Backlog) -> None:
        if self.tally is not None:
            self.tally(told)

    def _failed(self, error: str) -> None:
        if error != self.error:
            # Tried again every few seconds, said once.
            about: dict[str, Any] = {"run": self.lane.run.uri, "rows": self.rows}
            log.note("part not taken", "projection", "warning", **about, message=error)
        self.error = error

    def done(self, work: Callable[[], object]) -> bool:
        """Do this; False, with `error`, where Milvus does not take part."""
        try:
            work()
        except (RunError, ConfigError) as error:
            self._failed(str(error))
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
        backlog: int | None = None
        began = time.monotonic()

        def work() -> None:
            nonlocal compared, rows, backlog
            lacking = self.lacking()
            backlog = self.rows
            for part in lacking:
                self.send(part)
            projection.withdraw()
            compared = projection.reconcile(projection.new_parts())
            rows = projection.count()

        self.done(work)
        return {
            "uri": config.milvus,
            "collection": config.collection,
            "projected": projection.rows,
            "rows": rows,
            "backlog_rows": backlog,
            "waited_s": round(time.monotonic() - began, 3),
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

    def listen(self, tally: Listener) -> None:
        """Who is told from now on what Milvus takes and lacks."""
        for each in self._followed:
            each.tally = tally

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
