"""A manifest of N videos that there are not, written as a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path

_CHUNK = 250_000
_SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string()),
        pa.field("uri", pa.string()),
        pa.field("caption", pa.string()),
        pa.field("topic", pa.int32()),
    ]
)


def write(path: Path, videos: int) -> None:
    """The file appears whole. The last 12 characters of an id are the video's number."""
    begun = path.with_suffix(".part")
    with pq.ParquetWriter(begun, _SCHEMA, compression="zstd") as file:
        for first in range(0, videos, _CHUNK):
            file.write_table(_rows(first, min(first + _CHUNK, videos)))
    begun.rename(path)


def _rows(first: int, last: int) -> pa.Table:
    numbers = np.arange(first, last)
    digits = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 12, "0")
    topic = pa.array((numbers % 97).astype(np.int32))
    shelf = pc.utf8_lpad(topic.cast(pa.string()), 2, "0")
    name = pc.binary_join_element_wise("video", digits, "-")
    ids = pc.binary_join_element_wise("collection", shelf, name, "/")
    columns = {
        "video_id": ids,
        "uri": pc.binary_join_element_wise("/data/", ids, ".mp4", ""),
        "caption": pc.binary_join_element_wise("what is to be seen in video", digits, " "),
        "topic": topic,
    }
    return pa.table(columns, schema=_SCHEMA)
