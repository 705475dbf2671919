"""The log of a job: what happened to which video, part and encoder, a line each.

Lines are records of the logger `vidembed`; `record.event` and `record.facts` hold what they say.
With `json` each is one object on one line, with `text` the same for people. A worker writes its
lines to its own standard error, which Ray keeps as a file, and hands them to the driver, which
writes them to its own.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Level = Literal["info", "warning", "error"]

LOGGER = logging.getLogger("vidembed")
# Else Python prints warnings where nobody has asked for a log.
LOGGER.addHandler(logging.NullHandler())
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


@dataclass(frozen=True, slots=True)
class Line:
    """One line, as it goes from a worker to the driver. time: Unix time."""

    time: float
    level: Level
    event: str
    facts: dict[str, Any]


@dataclass(slots=True)
class _Call:
    """The call of embed that this process works for. is_json: whether its standard error is JSON
    lines and nothing else.
    """

    run_id: str = ""
    is_json: bool = False


_call = _Call()


def note(event: str, stage: str, level: Level = "info", **facts: Any) -> None:
    """Write a line. event: what happened, in fixed words; facts: to whom, and how much."""
    if LOGGER.isEnabledFor(_LEVELS[level]):
        about = {"run_id": _call.run_id, "stage": stage, **facts}
        write(Line(time.time(), level, event, {**about, "host": os.uname().nodename,
                                               "pid": os.getpid()}))  # fmt: skip


def write(line: Line) -> None:
    """Write a line that another process has made."""
    level = _LEVELS[line.level]
    words = f"{line.event}: {_words(line.facts)}"
    record = LOGGER.makeRecord(LOGGER.name, level, "", 0, words, (), None)
    record.created = line.time
    record.event, record.facts = line.event, line.facts
    LOGGER.handle(record)


def is_json() -> bool:
    """Whether standard error is to be JSON lines and nothing else."""
    return _call.is_json


def said(event: str, **facts: Any) -> bool:
    """Write what a person would be told as a line, where standard error is JSON and nothing else;
    False where it is not.
    """
    if _call.is_json:
        note(event, "run", **facts)
    return _call.is_json


@contextmanager
def on_stderr(log: str, run_id: str) -> Iterator[None]:
    """The driver's: lines go to standard error while the block runs, as `none`, `text` or `json`;
    handlers that somebody else has added get them all the same.
    """
    before = (_call.run_id, _call.is_json, LOGGER.level)
    _call.run_id, _call.is_json = run_id, log == "json"
    handler = _Stderr(log)
    if log != "none":
        LOGGER.addHandler(handler)
        LOGGER.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        _call.run_id, _call.is_json, level = before
        LOGGER.setLevel(level)


def in_worker(log: str, run_id: str, send: Callable[[Line], None]) -> None:
    """A worker's: lines go to its standard error, and to `send`, from now on. A worker that serves
    one job after the other writes for the last.
    """
    for old in [each for each in LOGGER.handlers if isinstance(each, _Stderr | _Sending)]:
        LOGGER.removeHandler(old)
    _call.run_id = run_id
    if log != "none":
        LOGGER.addHandler(_Stderr(log))
        LOGGER.addHandler(_Sending(send))
        LOGGER.setLevel(logging.INFO)
        LOGGER.propagate = False


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, event, run_id, stage, then the facts."""

    def format(self, record: logging.LogRecord) -> str:
        head = {"time": _utc(record.created), "level": record.levelname.lower()}
        line = {**head, "event": _event(record), **_facts(record)}
        return json.dumps(line, ensure_ascii=False, default=str)


class TextLines(logging.Formatter):
    """The same for people: time, level, event, then name=value."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{_utc(record.created)} {record.levelname.lower()} {record.getMessage()}"


class _Stderr(logging.Handler):
    """To whatever sys.stderr is at that moment: a live line on a terminal takes its place."""

    def __init__(self, log: str) -> None:
        super().__init__()
        self.setFormatter(JsonLines() if log == "json" else TextLines())

    def emit(self, record: logging.LogRecord) -> None:
        # A log that cannot be written is no reason to stop a job.
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            pass


class _Sending(logging.Handler):
    """To another process."""

    def __init__(self, send: Callable[[Line], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        level: Any = record.levelname.lower()
        self._send(Line(record.created, level, _event(record), _facts(record)))


def _event(record: logging.LogRecord) -> str:
    return str(getattr(record, "event", record.getMessage()))


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    facts: dict[str, Any] = getattr(record, "facts", {})
    return facts


def _utc(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"


def _words(facts: dict[str, Any]) -> str:
    return " ".join(f"{name}={_word(value)}" for name, value in facts.items())


def _word(value: Any) -> str:
    text = json.dumps(value) if isinstance(value, dict | list) else str(value)
    return json.dumps(text, ensure_ascii=False) if not text or set(text) & set(' "=\n') else text
