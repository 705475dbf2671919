"""What is asked of a run: texts, and videos that have labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from vidembed.errors import ConfigError
from vidembed.evaluation import asked_labels, asked_texts, layouts
from vidembed.evaluation.asked import Asked, Videos
from vidembed.evaluation.layouts import LABEL_COLUMNS, RUN, TEXT_COLUMNS, Rows
from vidembed.evaluation.matching import REASONS, as_text, positions

if TYPE_CHECKING:
    from vidembed.config import EvaluateConfig
    from vidembed.store.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Queries:
    """Queries whose answers are in the run.

    texts: columns `query_id`, `text`, `video_id` (all string; the video as the run names it), then
    those to break down by; None where the source has no texts. labels: columns `video_id`,
    `label`, then those to break down by: a video query each; None where there are none.
    gallery_labels: `video_id`, `label` of the videos that may be found. left_out: how many rows
    of the source ask nothing, by reason. layout: how the source was laid out.
    """

    texts: pa.Table | None
    labels: pa.Table | None
    gallery_labels: pa.Table | None
    left_out: dict[str, int]
    layout: str


def read(config: EvaluateConfig, run: Run, gallery: pa.Array) -> Queries:
    """The queries that can be asked of `run`.

    gallery: string [n], the ids of its videos, each once. Raises ConfigError and ManifestError
    where the source cannot be read, or asks nothing of this run.
    """
    videos = Videos(run=run, ids=as_text(gallery, run.uri, "video_id").combine_chunks())
    rows = _rows(config, videos)
    keys = _keys(config, rows)
    at = positions(rows, keys, videos.place())
    asked = Asked(config=config, rows=rows, videos=videos, at=at)
    left_out = {name: int((asked.chosen & (at == why)).sum()) for why, name in REASONS.items()}
    texts = labels = known = None
    wants_texts, wants_labels = asked_texts.wanted(asked), asked_labels.wanted(asked)
    if not (wants_texts or wants_labels):
        raise _nothing_to_ask(asked)
    if not (asked.chosen & (at >= 0)).any():
        raise _no_match(asked, keys)
    if wants_texts:
        texts, why = asked_texts.read(asked, keys[0])
        left_out |= why
    if wants_labels:
        labels, known, why = asked_labels.read(asked, keys)
        left_out |= why
    return Queries(
        texts=texts,
        labels=labels,
        gallery_labels=known,
        left_out={reason: n for reason, n in left_out.items() if n},
        layout=rows.layout.name,
    )


def _rows(config: EvaluateConfig, videos: Videos) -> Rows:
    if config.queries is not None:
        return layouts.read(config, config.queries)
    for name in ("split", "id_column"):
        if getattr(config, name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')} is for --queries: a run has neither")
    if config.layout != "auto":
        raise ConfigError(f"--layout {config.layout} is for --queries")
    texts = (config.text_column,) if config.text_column else TEXT_COLUMNS
    labels = (config.label_column,) if config.label_column else LABEL_COLUMNS
    table = videos.columns(list(dict.fromkeys([*texts, *labels])))
    own = {"video_id": videos.ids} | {name: table[name] for name in table.column_names}
    return Rows(where=videos.run.uri, table=pa.table(own), layout=RUN)


def _keys(config: EvaluateConfig, rows: Rows) -> list[str]:
    """The columns that may name a row's video."""
    columns = rows.table.column_names
    wanted = (config.id_column,) if config.id_column else rows.layout.ids
    there = [name for name in wanted if name in columns]
    if not there:
        raise ConfigError(
            f"{rows.where}: no column {' or '.join(wanted)}; it has "
            f"{', '.join(columns) or 'none'}; name one with --id-column"
        )
    return there


def _nothing_to_ask(asked: Asked) -> ConfigError:
    texts = asked.config.text_column or " or ".join(asked.rows.layout.texts)
    labels = asked.config.label_column or " or ".join(LABEL_COLUMNS)
    columns = asked.rows.table.column_names
    if asked.rows.layout is RUN:
        columns = asked.videos.names()
    asking = f" for --directions {','.join(asked.config.directions)}"
    return ConfigError(
        f"{asked.rows.where}: nothing to ask{asking if asked.config.directions else ''}: no column "
        f"{texts} of texts, or {labels} of labels; it has {', '.join(columns)}; name one with "
        f"--text-column or --label-column, or a file with --queries"
    )


def _no_match(asked: Asked, keys: list[str]) -> ConfigError:
    ids = asked.rows.table[keys[0]].filter(asked.chosen)
    first = asked.videos.ids[0] if len(asked.videos.ids) else "missing"
    return ConfigError(
        f"{asked.rows.where}: none of its {len(ids)} ids is in {asked.videos.run.uri}; its first "
        f"is {str(ids[0])!r}, the run's first is {str(first)!r}"
    )
