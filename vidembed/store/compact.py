"""Many small parts become few large ones, all at once for whoever reads.

The new folder of parts is made beside the old one, with links to the parts that stay, and the two
change places in one step of the file system: a listing has all of the old parts or all of the new
ones. A file system that cannot do this (NFS) is asked for two renames, and for that instant there
is no folder. An object store can neither; there it is refused.

    RUN/.compact/intent.json    which parts become which; written before anything is noted
    RUN/.compact/new/           the new folder; after the exchange the old one
    RUN/.compact/before/        the old folder, where it took two renames
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from vidembed import sources
from vidembed.errors import ConfigError, RunError
from vidembed.store.ledger import Ledger, stem
from vidembed.store.run import Run

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_HIDDEN = ".compact"
_KEYS = {"embeddings": "id", "failures": "video_id"}
_EXCHANGE = 2
_HERE = -100
_CANNOT = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


@dataclass(frozen=True, slots=True)
class Compacted:
    """parts: how many there were; now: how many there are."""

    parts: int
    now: int


def compact(run: Run, part_bytes: int) -> Compacted:
    """Merge parts that are smaller than half of `part_bytes` into parts of about that size. The
    caller holds the run.

    Raises ConfigError on an object store, RunError where a row is there twice. A kill at any moment
    leaves the old parts or the new ones; `heal` puts the rest in order.
    """
    if not sources.is_local(run.uri):
        raise ConfigError(
            f"{run.uri}: an object store cannot put one object in the place of several at once, "
            f"and a reader would find rows twice or not at all: copy the run to a file system"
        )
    heal(run)
    # Workers that have outlived an embedding job commit nothing from here on.
    run = run.take_over()
    before = now = 0
    for kind in _KEYS:
        there = len(run.parts(kind))
        _compact(run, kind, part_bytes)
        before, now = before + there, now + len(run.parts(kind))
    return Compacted(before, now)


def heal(run: Run) -> None:
    """Finish, or undo, what a kill has left of a compaction. The caller holds the run."""
    if not sources.is_local(run.uri):
        return
    hidden = _Hidden(run)
    intent = hidden.intent()
    if intent is not None:
        kind = intent["kind"]
        if not os.path.isdir(run.path(kind)):
            os.rename(hidden.new, run.path(kind))
        if os.path.isdir(hidden.before) and os.path.isdir(hidden.new):
            # Between the two renames somebody has made the folder.
            _move(hidden.new, run.path(kind))
        if set(intent["made"]) <= {stem(part) for part in run.parts(kind)}:
            _clean(run, kind, hidden, intent["merged"])
        else:
            _forget(run, kind, intent["made"])
    hidden.remove()


def _compact(run: Run, kind: str, part_bytes: int) -> None:
    groups = list(_groups(run, kind, part_bytes))
    if not groups:
        return
    hidden = _Hidden(run)
    hidden.remove()
    os.makedirs(hidden.new)
    made: dict[str, list[str]] = {}
    for group in groups:
        made[_merged(run, kind, group, hidden)] = [stem(part) for part in group]
    merged = [name for names in made.values() for name in names]
    for part in run.parts(kind):
        if stem(part) not in merged:
            _link(part, os.path.join(hidden.new, os.path.basename(part)))
    intent = {"kind": kind, "made": sorted(made), "merged": merged}
    _sync(hidden.new)
    sources.write_whole(hidden.intent_path, json.dumps(intent).encode())
    _note_held(run, kind, made)
    _change_places(hidden.new, run.path(kind), hidden.before)
    _sync(sources.local_path(run.uri))
    _clean(run, kind, hidden, merged)
    hidden.remove()


def _groups(run: Run, kind: str, part_bytes: int) -> Iterator[list[str]]:
    """Parts to be merged with one another: small, and held by the same Milvus collections."""
    held = [ledger.held() for ledger in Ledger.every(run)] if kind == "embeddings" else []
    alike: dict[tuple[bool, ...], list[tuple[str, int]]] = defaultdict(list)
    for part in run.parts(kind):
        size = os.path.getsize(part)
        if size < part_bytes // 2:
            alike[tuple(stem(part) in each for each in held)].append((part, size))
    for parts in alike.values():
        group: list[str] = []
        total = 0
        for part, size in parts:
            group.append(part)
            total += size
            if total >= part_bytes:
                yield group
                group, total = [], 0
        if len(group) > 1:
            yield group


def _merged(run: Run, kind: str, group: list[str], hidden: _Hidden) -> str:
    """Write the rows of a group as one part of the new folder; returns its name."""
    tables = [run.read_part(part) for part in group]
    table = pa.concat_tables(tables, promote_options="permissive")
    key = _KEYS[kind]
    if len(table[key].unique()) < len(table):
        raise RunError(
            f"{run.uri}: a row of {kind} is there more than once; embed into it again, which puts "
            f"that in order"
        )
    written = Run(hidden.folder, run.record).write_part(kind, table)
    os.rename(written, os.path.join(hidden.new, os.path.basename(written)))
    return stem(written)


def _note_held(run: Run, kind: str, made: dict[str, list[str]]) -> None:
    """What a collection holds of all merged parts, it holds of the new one."""
    if kind != "embeddings":
        return
    for ledger in Ledger.every(run):
        held = ledger.held()
        for name, merged in made.items():
            if all(part in held for part in merged):
                ledger.note_held(name, sum(held[part] for part in merged))


def _link(part: str, there: str) -> None:
    try:
        os.link(part, there)
    except OSError:
        # A file system without links.
        sources.write_whole(there, sources.read_whole(part))


def _change_places(new: str, there: str, before: str) -> None:
    if _exchanged(new, there):
        return
    os.rename(there, before)
    os.rename(new, there)


def _exchanged(one: str, other: str) -> bool:
    """Let two folders change places in one step; False where the file system cannot."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), other)


def _clean(run: Run, kind: str, hidden: _Hidden, merged: list[str]) -> None:
    """After the new parts are in place: keep what is not ours, forget the merged ones."""
    old = hidden.before if os.path.isdir(hidden.before) else hidden.new
    gone = {f"{name}.parquet" for name in merged}
    if os.path.isdir(old):
        # Also a part that was committed after the listing, by a worker that outlived its driver.
        _move(old, run.path(kind), gone)
    _forget(run, kind, merged)


def _forget(run: Run, kind: str, names: Collection[str]) -> None:
    """Parts that are not there are held by nobody."""
    if kind != "embeddings":
        return
    for ledger in Ledger.every(run):
        held = ledger.held()
        ledger.forget((name, held[name]) for name in names if name in held)


def _move(folder: str, into: str, without: Collection[str] = ()) -> None:
    """What is in one folder and not in the other, but these names."""
    for name in os.listdir(folder):
        there = os.path.join(into, name)
        if name not in without and not os.path.lexists(there):
            os.rename(os.path.join(folder, name), there)


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Hidden:
    def __init__(self, run: Run) -> None:
        path = partial(os.path.join, sources.local_path(run.uri), _HIDDEN)
        self.folder, self.new, self.before = path(), path("new"), path("before")
        self.intent_path = path("intent.json")

    def intent(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(sources.read_whole(self.intent_path))
        except FileNotFoundError:
            return None
        return found

    def remove(self) -> None:
        if os.path.isdir(self.folder):
            shutil.rmtree(self.folder)
