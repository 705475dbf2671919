"""What a round asks of a new version: captions for the gate, captions or labels for evaluation."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidembed import sources
from vidembed.config.evaluate import EvaluationOptions
from vidembed.evaluation import layouts
from vidembed.evaluation.job import text_tower

if TYPE_CHECKING:
    from vidembed.config import RefreshConfig
    from vidembed.store.merged import Merged

_INDEX = ("index", "index_params", "metric", "vector_type")


@dataclass(frozen=True, slots=True)
class Asked:
    """count: rows of --queries; has_texts: whether they hold captions."""

    config: RefreshConfig
    count: int
    has_texts: bool

    @classmethod
    def of(cls, config: RefreshConfig) -> Asked:
        """Raises ConfigError and ManifestError where --queries or --gate-queries cannot be read:
        before a round has begun, for afterwards that would cost what it has embedded.
        """
        how = config.to_evaluate(config.out)
        if config.gate_queries is not None:
            layouts.read(how, config.gate_queries)
        if config.queries is None:
            return cls(config, 0, has_texts=False)
        rows = layouts.read(how, config.queries)
        texts = (config.text_column,) if config.text_column else rows.layout.texts
        there = set(texts) & set(rows.table.column_names)
        return cls(config, len(rows.table), has_texts=bool(there))

    def gate(self, merged: Merged) -> str | None:
        """The captions that a new version must find: --gate-queries, or --queries where they are
        captions and the encoder takes texts.
        """
        if self.config.gate_queries is not None or not self.has_texts:
            return self.config.gate_queries
        how = self.config.to_evaluate(self.config.out)
        return self.config.queries if text_tower(how, merged) else None

    def key(self, merged: Merged) -> str:
        """A name for what is asked of what: where it is the same, so are the answers."""
        options = [*EvaluationOptions.model_fields, "query_id_column", *_INDEX]
        files = [self.config.queries, self.config.query_bank]
        facts = {
            "content": merged.content(),
            "files": [(each, each and sources.state(sources.absolute(each))) for each in files],
            "options": {name: getattr(self.config, name) for name in options},
        }
        text = json.dumps(facts, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    def work(self, merged: Merged) -> float:
        """How many products of two numbers the evaluation takes, at most; see `workers.hired`."""
        return 2.0 * self.count * merged.count() * int(merged.record["dim"])
