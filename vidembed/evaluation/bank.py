"""The texts of a query bank."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from vidembed.errors import ConfigError
from vidembed.evaluation import layouts
from vidembed.evaluation.matching import as_text

if TYPE_CHECKING:
    from vidembed.config import EvaluateConfig


def read(config: EvaluateConfig) -> list[str]:
    """All texts of --query-bank, which may be laid out as --queries may. Raises ConfigError."""
    assert config.query_bank is not None
    plain = config.model_copy(update={"layout": "auto", "split": None})
    rows = layouts.read(plain, config.query_bank)
    names = (config.text_column,) if config.text_column else rows.layout.texts
    name = next((each for each in names if each in rows.table.column_names), None)
    if name is None:
        raise ConfigError(
            f"--query-bank {config.query_bank}: no column {' or '.join(names)}; it has "
            f"{', '.join(rows.table.column_names) or 'none'}; name one with --text-column"
        )
    column = rows.table[name]
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        column = pc.list_flatten(column)
    found = [
        text for text in as_text(column, rows.where, name).to_pylist() if text and text.strip()
    ]
    if not found:
        raise ConfigError(f"--query-bank {config.query_bank}: column {name} has no text")
    return found
