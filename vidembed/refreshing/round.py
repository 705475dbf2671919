"""What one round did, as it is reported: refresh.json, the page and the table are made of this."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from vidembed.errors import VidembedError

Verdict = Literal["running", "done", "unchanged", "refused", "too many failures", "left", "failed"]
State = Literal["done", "nothing to do", "refused", "failed", "left out"]

EXIT_CODES: dict[Verdict, int] = {
    "running": 1, "done": 0, "unchanged": 0, "left": 0, "refused": 1, "failed": 1,
    "too many failures": 3,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """`embed`, `reindex` or `evaluate`: what came of it, in a sentence, and how long it took."""

    name: str
    state: State
    sentence: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """Counts of videos: new are those that this round had to do; embedded and failed are in the run
    now; failures by class. failed_before: after the call of `embed` before this one, None for the
    first.
    """

    videos: int
    new: int
    embedded: int
    failed: int
    clips: int
    failures: dict[str, int]
    failed_before: int | None
    failures_before: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """What `reindex` did, see `Reindexed`; action may also be `refused`. live: None where Milvus
    did not say. recall_before: of the last version that was measured, whether or not it went live.
    """

    action: str
    live: str | None
    before: str | None
    rows: int
    rows_before: int
    recall: float | None
    recall_before: float | None
    gate: dict[str, Any] | None
    dropped: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The last evaluation of the live version.

    round: which one measured it; key: of what was asked of what. metrics: by direction; change:
    what each was before, the difference, and p (whether that may be chance, of the queries that
    are in both), or None. against: the round of those.
    """

    round: str
    key: str
    backend: str
    metrics: dict[str, dict[str, float]]
    change: dict[str, dict[str, dict[str, float | None]]]
    against: str | None
    notes: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """One round.

    verdict: `done` (the alias points to what the run holds now), `unchanged` (it did already),
    `refused` (the new version finds too little), `too many failures` (nothing was built), `left`
    (another job re-indexes the alias), `failed`; `running` until it ends, and for ever after a
    kill. In all but `done` the alias was not moved by this round, unless it failed later.

    name: of its folder in OUT/refreshes. last: the round before. times are UTC.
    """

    name: str
    verdict: Verdict
    sentence: str
    out: str
    runs: list[str]
    alias: str
    milvus: str
    holder: str
    started: str
    last: str | None = None
    ended: str | None = None
    seconds: float = 0.0
    steps: list[Step] = field(default_factory=list)
    embedded: Embedded | None = None
    index: Indexed | None = None
    evaluation: Measured | None = None
    cause: VidembedError | None = field(default=None, compare=False, repr=False)

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.verdict]

    def plain(self) -> dict[str, Any]:
        """As refresh.json has it."""
        found = asdict(replace(self, cause=None))
        del found["cause"]
        return found | {"exit_code": self.exit_code}

    def json(self) -> str:
        return json.dumps(self.plain(), indent=2) + "\n"
