"""Options of the scheduled round: those of embed, reindex and evaluate, each once."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import model_validator

from vidembed.config.base import Config, Words, option
from vidembed.config.embed import EmbedConfig, EmbedOptions
from vidembed.config.evaluate import EvaluateConfig, EvaluationOptions
from vidembed.config.reindex import ReindexConfig, VersionOptions
from vidembed.labels import ALONE

IfRunning = Literal["fail", "skip", "wait"]


class RefreshConfig(EmbedOptions, VersionOptions, EvaluationOptions):
    """One round: embed what is new, move the alias if the gate passes, evaluate, report."""

    queries: str | None = option(
        None,
        "captions of the videos, for the gate and the evaluation; or labels, for the evaluation "
        "alone [default: neither is done]",
    )
    query_id_column: str | None = option(None, "the queries' column of ids [default: video_id, id]")
    also_runs: Words = option(
        (),
        "other runs of the same encoder behind the same alias; of a video in several, --out's rows "
        "count, then those of the last one",
    )
    if_running: IfRunning = option(
        "fail", "when the last round is at work: fail: exit code 1; skip: exit code 0; wait for it"
    )
    keep_reports: int = option(100, "reports of rounds that stay in OUT/refreshes", ge=1)

    @model_validator(mode="after")
    def _one_encoder(self) -> Self:
        if len(self.choices) > 1 or self.choices[0].label != ALONE:
            raise ValueError(
                "--encoder: an alias is of one encoder; run a round for each, with a run and an "
                "alias of its own"
            )
        return self

    def to_embed(self) -> EmbedConfig:
        """Without Milvus: the collections behind the alias are the re-index's."""
        return EmbedConfig.make(self._shared(EmbedConfig, but=("milvus",)))

    def to_reindex(self, gate_queries: str | None) -> ReindexConfig:
        given = self._shared(ReindexConfig, but=("weights", "id_column"))
        return ReindexConfig.make(
            given
            | {
                "runs": (*self.also_runs, self.out),
                "gate_queries": gate_queries,
                "id_column": self.query_id_column,
                "weights": self.own_weights,
            }
        )

    def to_evaluate(self, out: str) -> EvaluateConfig:
        """out: where the results go."""
        given = self._shared(EvaluateConfig, but=("weights", "id_column", "milvus", "out"))
        through = {"milvus": self.milvus, "collection": self.alias}
        return EvaluateConfig.make(
            given
            | {
                "run": self.out,
                "out": out,
                "id_column": self.query_id_column,
                "weights": self.own_weights,
            }
            | (through if self.backend == "milvus" else {})
        )

    @property
    def own_weights(self) -> str | None:
        """--weights, without a label."""
        return self.choices[0].weights

    def _shared(self, other: type[Config], but: tuple[str, ...]) -> dict[str, Any]:
        names = set(type(self).model_fields) & set(other.model_fields)
        return {name: getattr(self, name) for name in names if name not in but}
