"""The page that one reads: hold the run, embed, move the alias if the gate passes, evaluate.

The report is written after each step, so that a kill leaves what is known. Whatever happens here
costs readers nothing: they know the alias, which only a version that was verified is put behind.
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vidembed import sources
from vidembed.errors import (
    BusyError,
    RefusedError,
    RunError,
    RunMismatchError,
    UsageError,
    VidembedError,
)
from vidembed.labels import ALONE
from vidembed.refreshing.asked import Asked
from vidembed.refreshing.history import History
from vidembed.refreshing.measure import measured
from vidembed.refreshing.round import Embedded, Indexed, Measured, Refreshed, State, Step, Verdict
from vidembed.reindexing import reindex, status
from vidembed.store.lease import held
from vidembed.store.merged import Merged
from vidembed.store.milvus_calls import check_uri
from vidembed.store.run import OTHERWISE, Run
from vidembed.store.versions import holder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vidembed.config import RefreshConfig
    from vidembed.reindexing import Reindexed
    from vidembed.report import RunReport

# Between two looks at whether the job that is waited for has ended.
_WAIT_S = 5.0
_NEW_ENCODER = (
    "A new encoder needs a run of its own: name another --out and keep --alias; readers keep the "
    "vectors that they have until those of the new run have passed the gate"
)
_STEPS = ("embed", "reindex", "evaluate")


def refresh(config: RefreshConfig, say: Callable[[str], None]) -> Refreshed | None:
    """One round; None where the last one is at work, and `--if-running skip` leaves this one out.

    Raises UsageError where nothing was begun: for what does not fit, or, as BusyError, for another
    job at work on the run. What happens afterwards is in the report, which is written whatever
    happens; `cause` is then the error.
    """
    check_uri(config.milvus)
    asked = Asked.of(config)
    for uri in config.also_runs:
        Run.open(uri)
    with _alone(config, say) as there:
        return _Round(config, asked, say).done() if there else None


@contextmanager
def _alone(config: RefreshConfig, say: Callable[[str], None]) -> Iterator[bool]:
    """Hold the run for the whole round; False where another holds it and is not waited for."""
    with ExitStack() as stack:
        try:
            _when_free(config, say, lambda: stack.enter_context(held(config.out, say)))
        except BusyError as error:
            if config.if_running != "skip":
                raise
            say(f"{error}. Nothing is done (--if-running skip)")
            yield False
            return
        yield True


def _when_free(
    config: RefreshConfig, say: Callable[[str], None], take: Callable[[], object]
) -> object:
    """What `take` returns, tried again where --if-running says to wait for who is at work."""
    told = False
    while True:
        try:
            return take()
        except BusyError as error:
            if config.if_running != "wait":
                raise
            if not told:
                say(f"{error}. Waiting for it (--if-running wait)")
                told = True
        time.sleep(_WAIT_S)


class _Round:
    def __init__(self, config: RefreshConfig, asked: Asked, say: Callable[[str], None]) -> None:
        self._config, self._asked, self._say = config, asked, say
        self._history = History(config.out)
        self._last = self._history.last() or {}
        self._began = time.monotonic()
        earlier = self._last.get("evaluation")
        self._told = Refreshed(
            name=self._history.new_name(),
            verdict="running",
            sentence="not ended: it is at work, or was killed",
            out=sources.absolute(config.out),
            runs=[*config.also_runs, config.out],
            alias=config.alias,
            milvus=config.milvus,
            holder=holder(),
            started=_now(),
            last=self._last.get("name"),
            evaluation=Measured(**earlier) if earlier else None,
        )

    def done(self) -> Refreshed:
        """Every step after the other; the first that does not end well is the last."""
        if self._last.get("verdict") == "running":
            self._say(
                f"the round of {self._last['started']} ({self._last['holder']}) did not end; this "
                f"one goes on from what it left"
            )
        self._history.write(self._told)
        try:
            verdict, sentence = self._steps()
            return self._ended(verdict, sentence)
        except UsageError:
            # Of the first step, before anything was begun: there is nothing to report.
            self._history.forget(self._told.name)
            raise
        except (VidembedError, OSError) as error:
            cause = error if isinstance(error, VidembedError) else RunError(str(error))
            refused = isinstance(error, RefusedError)
            return self._ended("refused" if refused else "failed", str(error), cause)
        except BaseException as error:
            self._ended("failed", f"interrupted: {type(error).__name__} {error}".rstrip())
            raise

    def _steps(self) -> tuple[Verdict, str]:
        report = self._step("embed", self._embed)
        if report.too_many_failures:
            sentence = (
                f"{report.failed:,} of {report.videos:,} videos have failed, more than "
                f"--max-failures {report.max_failures} allows: no new version is built, and alias "
                f"{self._config.alias} stays where it is"
            )
            self._leave_out("reindex", "too many videos have failed")
            return "too many failures", sentence
        with _begun():
            merged = Merged.of([Run.open(uri) for uri in (*self._config.also_runs, report.out)])
            due = self._is_due(merged)
            with ExitStack() as stack:
                if due:
                    # Before Milvus: Ray forks, and a fork beside gRPC may never come back.
                    self._join_ray(merged, stack)
                done = self._step("reindex", lambda: self._reindex(merged, due=due))
                if done is None:
                    return "left", f"another job re-indexes alias {self._config.alias}"
                self._step("evaluate", lambda: self._evaluate(merged, done.action, due=due))
        if done.action in ("built", "finished", "updated"):
            return "done", f"alias {self._config.alias} points to {done.live}, verified just now"
        return "unchanged", f"nothing is new; alias {self._config.alias} points to {done.live}"

    def _step(self, name: str, work: Callable[[], tuple[Any, State, str]]) -> Any:
        """What a step gives; how it went is reported."""
        began = time.monotonic()

        def note(state: State, sentence: str) -> None:
            seconds = round(time.monotonic() - began, 3)
            step = Step(name=name, state=state, sentence=sentence, seconds=seconds)
            self._told = replace(self._told, steps=[*self._told.steps, step])

        try:
            result, state, sentence = work()
        except RefusedError as error:
            note("refused", str(error))
            raise
        except BaseException as error:
            note("failed", str(error) or type(error).__name__)
            raise
        note(state, sentence)
        self._history.write(self._told)
        return result

    def _leave_out(self, first: str, why: str) -> None:
        """This step, and those after it."""
        missing = _STEPS[_STEPS.index(first) :]
        steps = [Step(name=name, state="left out", sentence=why) for name in missing]
        self._told = replace(self._told, steps=[*self._told.steps, *steps])

    def _embed(self) -> tuple[RunReport, State, str]:
        from vidembed.pipeline.flow import embed

        before = _read(sources.join(self._told.out, "report.json"))
        try:
            report = embed(self._config.to_embed())[ALONE]
        except RunMismatchError as error:
            raise RunMismatchError(str(error).replace(OTHERWISE, _NEW_ENCODER)) from error
        new = report.videos - report.done_before
        embedded = Embedded(
            videos=report.videos,
            new=new,
            embedded=report.embedded,
            failed=report.failed,
            clips=report.clips,
            failures=report.failures,
            failed_before=before.get("failed"),
            failures_before=before.get("failures", {}),
        )
        self._told = replace(self._told, embedded=embedded)
        if not new:
            return report, "nothing to do", f"all {report.videos:,} videos were done before"
        return report, "done", f"{new:,} videos were new; {report}"

    def _is_due(self, merged: Merged) -> bool:
        """Whether the run's contents, or what is asked of them, are other than last time."""
        last = self._told.evaluation
        return self._config.force or last is None or last.key != self._asked.key(merged)

    def _join_ray(self, merged: Merged, stack: ExitStack) -> None:
        from vidembed import cluster
        from vidembed.evaluation.workers import wants_ray

        address = self._config.ray_address
        if self._asked.count and wants_ray(self._asked.work(merged), address):
            stack.enter_context(cluster.connected(address, self._told.out))

    def _reindex(self, merged: Merged, *, due: bool) -> tuple[Reindexed | None, State, str]:
        # Where nothing is due no version is built, and the encoder need not be looked up.
        gate = self._asked.gate(merged) if due else self._config.gate_queries
        config = self._config.to_reindex(gate)
        try:
            found: Any = _when_free(self._config, self._say, lambda: reindex(config, self._say))
        except RefusedError as error:
            self._indexed(action="refused", before=error.found["live"], **error.found)
            raise
        except BusyError as error:
            if self._config.if_running != "skip":
                raise
            return None, "left out", f"{error} (--if-running skip)"
        done: Reindexed = found
        self._indexed(
            action=done.action,
            live=done.live,
            before=done.before,
            rows=done.rows,
            rows_before=done.rows_before,
            recall=done.recall,
            gate=None if done.gate is None else {
                "now": done.gate.now, "before": done.gate.before, "queries": done.gate.queries,
            },
            dropped=done.dropped,
        )  # fmt: skip
        return done, *_about(done)

    def _indexed(self, **facts: Any) -> None:
        last = self._last.get("index") or {}
        recall = last.get("recall") if last.get("recall") is not None else last.get("recall_before")
        self._told = replace(self._told, index=Indexed(recall_before=recall, **facts))

    def _evaluate(self, merged: Merged, action: str, *, due: bool) -> tuple[None, State, str]:
        last = self._told.evaluation
        if self._config.queries is None:
            return None, "left out", "no --queries to evaluate with"
        if action == "withdrawn":
            return None, "left out", "the live version is not of what the run holds"
        if not due and last is not None:
            return None, "nothing to do", f"the same was asked of the same in round {last.round}"
        found = measured(self._asked, merged, self._history, self._told.name, last)
        self._told = replace(self._told, evaluation=found)
        return (
            None,
            "done",
            f"{self._asked.count:,} rows of queries, {self._config.backend} ranking",
        )

    def _ended(
        self, verdict: Verdict, sentence: str, cause: VidembedError | None = None
    ) -> Refreshed:
        there = [step.name for step in self._told.steps]
        if left := [name for name in _STEPS if name not in there]:
            self._leave_out(left[0], "an earlier step did not end well")
        if cause is not None and "reindex" in there:
            sentence = f"{sentence}. {self._where_the_alias_is()}"
        self._told = replace(
            self._told,
            verdict=verdict,
            sentence=sentence,
            ended=_now(),
            seconds=round(time.monotonic() - self._began, 3),
            cause=cause,
        )
        self._history.write(self._told)
        last = self._told.evaluation
        self._history.keep(self._config.keep_reports, last.round if last else None)
        return self._told

    def _where_the_alias_is(self) -> str:
        """Asked of Milvus, not remembered."""
        alias = self._config.alias
        try:
            live, _ = status(self._config.to_reindex(None))
        except VidembedError:
            return f"Milvus does not say where alias {alias} points"
        return f"Alias {alias} points to {live}" if live else f"There is no alias {alias} yet"


@contextmanager
def _begun() -> Iterator[None]:
    """After the first step a round was begun, and what does not fit then has failed it."""
    try:
        yield
    except UsageError as error:
        raise RunError(str(error)) from error


def _about(done: Reindexed) -> tuple[State, str]:
    rows = f"{done.rows:,} rows"
    said: dict[str, tuple[State, str]] = {
        "built": ("done", f"{done.live} was built and verified, with {rows}, and is live"),
        "finished": ("done", f"{done.live}, verified by a round that was killed, is live"),
        "updated": ("done", f"{done.live} is live and up to date, with {rows}"),
        "unchanged": ("nothing to do", f"{done.live} has what the runs hold, {rows}"),
        "withdrawn": ("nothing to do", "a version with these contents was rolled back"),
    }
    return said[done.action]


def _read(uri: str) -> dict[str, Any]:
    try:
        found = json.loads(sources.read_whole(uri))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
