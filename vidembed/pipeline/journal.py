"""One call of embed in the log: its id, its beginning, and how it ended."""

from __future__ import annotations

import secrets
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vidembed import log, sources
from vidembed.errors import VidembedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vidembed.config import EmbedConfig
    from vidembed.report import RunReport


def new_run_id() -> str:
    """Of one call: when it began (UTC), and four random digits. Ids sort by time."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"


@contextmanager
def kept(config: EmbedConfig, run_id: str) -> Iterator[None]:
    """The log of a call, on the driver's standard error where --log asks for it."""
    with log.on_stderr(config.log, run_id):
        names = ", ".join(choice.name for choice in config.choices)
        manifest, out = sources.shown(config.manifest), sources.shown(config.out)
        log.note("run started", "run", encoder=names, manifest=manifest, out=out)
        try:
            yield
        except BaseException as error:
            told = str(error) if isinstance(error, VidembedError) else type(error).__name__
            log.note("run failed", "run", "error", message=told)
            raise


def work_begins(videos: int, pending: int) -> None:
    """videos: of the manifest; pending: those of them that this call has to do."""
    log.note("work started", "run", videos=videos, pending=pending)


def ended(reports: Mapping[str, RunReport]) -> None:
    for report in reports.values():
        log.note(
            "run ended",
            "run",
            run=report.out,
            encoder=report.encoder,
            videos=report.videos,
            done_before=report.done_before,
            embedded=report.embedded,
            failed=report.failed,
            clips=report.clips,
            failures=report.failures,
            seconds=report.seconds,
            verdict=report.verdict["kind"],
            milvus_error=(report.milvus or {}).get("error"),
        )
