"""The versions of a collection, and the alias by which readers know the live one.

A version is a collection of its own, ALIAS__20261122T164500123456_3fa9. What it is made of, and
whether it is whole, is said in its properties. While it is built, a beat in them changes: a version
that is not whole and whose beat stands still was left behind by a job that is no more.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import socket
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from vidembed.errors import BusyError, ConfigError, RunError
from vidembed.store.lease import PACE
from vidembed.store.milvus import Collection
from vidembed.store.milvus_calls import connect, disconnect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vidembed.store.lease import Pace
    from vidembed.store.milvus import CollectionSpec
    from vidembed.store.milvus_calls import Asking

BUILDING, READY, WITHDRAWN = "building", "ready", "rolled back"
_ABOUT, _BEAT = "vidembed.version", "vidembed.beat"
_CALL = {"timeout": 30.0}
# What this process itself builds: a version of its own that is not here was left by an earlier
# process of the same number, as in a container that was started again.
_ours: set[str] = set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One collection behind an alias.

    state: `building`, `ready` or `rolled back`. made: when it was begun, UTC. content: what the
    runs held. layout: index, metric and fields. rows: that it should have.
    """

    name: str
    state: str
    made: str = ""
    encoder: str = ""
    fingerprint: str = ""
    content: str = ""
    layout: str = ""
    runs: tuple[str, ...] = ()
    rows: int = 0
    holder: str = ""
    updating: bool = False


class Versions:
    """What stands behind one alias on one server, or in one Milvus Lite folder."""

    def __init__(self, uri: str, alias: str, patience_s: float = 10.0, pace: Pace = PACE) -> None:
        """Connect. Raises ConfigError where nothing answers, or a collection has that name."""
        self.uri, self.alias, self._pace = uri, alias, pace
        self._ask = connect(uri)
        self._ask.patience_s = patience_s
        self._client = self._ask.client
        self._name = re.compile(re.escape(alias) + r"__\d{8}T\d{12}_[0-9a-f]{4}")
        try:
            if alias in self._collections():
                raise ConfigError(
                    f"{uri} has a collection named {alias!r}: an alias needs a name of its own; "
                    f"name another --alias, or rename the collection"
                )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        disconnect(self._ask)

    def live(self) -> str | None:
        """The collection that the alias points to; None where there is no alias yet."""
        try:
            found = self._ask(lambda: self._client.describe_alias(self.alias, **_CALL))
        except RunError as error:
            # 2.3 and Lite have no other word for it than their message.
            if "alias" in str(error) and re.search(r"not found|does not exist", str(error)):
                return None
            raise
        return str(found["collection_name"])

    def every(self) -> list[Version]:
        """All versions, the oldest first, those that are not whole included."""
        names = [name for name in self._collections() if self._name.fullmatch(name)]
        return [self.about(name) for name in sorted(names)]

    def about(self, name: str) -> Version:
        """What a version's properties say."""
        properties = self._properties(name)
        said = json.loads(properties.get(_ABOUT) or "{}")
        said["runs"] = tuple(said.get("runs", ()))
        return Version(**{"name": name, "state": BUILDING, **said})

    def begin(self, version: Version, spec: CollectionSpec) -> None:
        """Make the collection of a new version, which is not whole yet."""
        collection = Collection(self.uri, version.name, self._ask.patience_s)
        try:
            collection.create(spec)
        finally:
            collection.close()
        self.note(version)

    def note(self, version: Version) -> None:
        """Write what a version is into its properties."""
        about = json.dumps({k: v for k, v in asdict(version).items() if k != "name"})
        self._ask.alter(version.name, {_ABOUT: about}, **_CALL)

    def point(self, name: str) -> None:
        """Have the alias point to this version: readers see the one or the other, nothing between.

        Raises RunError where it does not point there afterwards.
        """
        if self.live() is None:
            self._ask(lambda: self._client.create_alias(name, self.alias, **_CALL))
        else:
            self._ask(lambda: self._client.alter_alias(name, self.alias, **_CALL))
        if (now := self.live()) != name:
            raise RunError(f"alias {self.alias!r} in {self.uri} points to {now}, not to {name}")

    def drop(self, name: str) -> None:
        """Delete a version. Never the live one: Milvus itself would, and the alias with it."""
        if name == self.live():
            raise RunError(f"{name} is live behind alias {self.alias!r}: it is not dropped")
        self._ask(lambda: self._client.drop_collection(name, **_CALL))

    @contextmanager
    def kept_alive(self, name: str) -> Iterator[None]:
        """Let others see that somebody works on this version."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(self._pace.renew_s):
                # It may be away, or dropped by whoever took this for dead.
                with suppress(RunError):
                    self._beat(replace(self._ask, patience_s=0.0), name)

        _ours.add(name)
        self._beat(self._ask, name)
        thread = threading.Thread(target=beat, name="beat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            _ours.discard(name)

    def left_behind(self, say: Callable[[str], None]) -> list[Version]:
        """Versions that nobody works on any more, though they are not whole.

        Raises BusyError where somebody does.
        """
        open_ones = [each for each in self.every() if each.state == BUILDING or each.updating]
        doubtful = [each for each in open_ones if not _is_dead(each)]
        if doubtful:
            first = doubtful[0]
            say(
                f"{first.name} is being built by {first.holder or 'another job'}; waiting "
                f"{self._pace.free_s:g} s for a sign of life"
            )
            before = [self._read_beat(each.name) for each in doubtful]
            deadline = time.monotonic() + self._pace.free_s
            while time.monotonic() < deadline:
                time.sleep(min(1.0, self._pace.renew_s / 4))
                for each, beat in zip(doubtful, before, strict=True):
                    now = self._read_beat(each.name)
                    if now is None:
                        return self.left_behind(say)
                    if now != beat:
                        raise BusyError(_busy(self.alias, each))
        return open_ones

    def alone(self, name: str) -> None:
        """Raise BusyError where another began at the same moment, and before this one."""
        time.sleep(self._pace.settle_s)
        for each in self.every():
            if each.state == BUILDING and each.name < name:
                raise BusyError(_busy(self.alias, each))

    def _beat(self, ask: Asking, name: str) -> None:
        ask.alter(name, {_BEAT: uuid.uuid4().hex}, **_CALL)

    def _read_beat(self, name: str) -> str | None:
        """None where the version is gone, or is whole by now."""
        if name not in self._collections():
            return None
        properties = self._properties(name)
        about = json.loads(properties.get(_ABOUT) or "{}")
        if about.get("state", BUILDING) != BUILDING and not about.get("updating"):
            return None
        return str(properties.get(_BEAT, ""))

    def _collections(self) -> list[str]:
        return list(self._ask(lambda: self._client.list_collections(**_CALL)))

    def _properties(self, name: str) -> dict[str, Any]:
        found = self._ask(lambda: self._client.describe_collection(name, **_CALL))
        properties: dict[str, Any] = found.get("properties") or {}
        return properties


def new_name(alias: str) -> str:
    """Of a version that is begun now: later ones sort after earlier ones."""
    now = datetime.datetime.now(datetime.UTC)
    return f"{alias}__{now:%Y%m%dT%H%M%S%f}_{uuid.uuid4().hex[:4]}"


def holder() -> str:
    """Who builds, for others to see and to look for."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def _is_dead(version: Version) -> bool:
    """Whether the process that built it ran on this machine and is no more."""
    match = re.fullmatch(r"process (\d+) on (.*)", version.holder)
    if not match or match[2] != socket.gethostname():
        return False
    if int(match[1]) == os.getpid():
        return version.name not in _ours
    try:
        os.kill(int(match[1]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _busy(alias: str, version: Version) -> str:
    return (
        f"alias {alias!r} is being re-indexed by {version.holder or 'another job'}, into "
        f"{version.name}: one at a time. Wait for it, or stop it"
    )
