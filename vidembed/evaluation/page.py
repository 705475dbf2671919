"""evaluation.html beside the numbers, once these are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vidembed import sources
from vidembed.evaluation import examples
from vidembed.pages import evaluation as pages
from vidembed.store.run import Run

if TYPE_CHECKING:
    import pyarrow as pa

    from vidembed.config import EvaluateConfig


def write(
    config: EvaluateConfig, run: Run, out: str, result: dict[str, Any], rows: pa.Table
) -> None:
    """Write the page, with pictures of some videos, which are decoded for it."""
    other = None if config.query_run is None else Run.open(config.query_run)
    shown = examples.choose(rows, config.examples)
    shown = examples.pictures(run, shown, config.allow_root, other)
    text = pages.render(result, rows, shown)
    sources.write_whole(sources.join(out, "evaluation.html"), text.encode())
