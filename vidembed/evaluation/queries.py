"""What is asked of a run: texts, and videos that have labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


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
