"""The Arrow schema of every edge: manifest, clips, vectors, embeddings, failures.

Schemas are declared, never inferred: a block whose column happens to be all null would otherwise
not merge with the next.

Several encoders share one flow. Each has columns of its own there, which carry its label; those of
an encoder that is alone go by their plain names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from vidembed.labels import ALONE

if TYPE_CHECKING:
    from collections.abc import Mapping

MANIFEST = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("start_s", pa.float64()),
        pa.field("end_s", pa.float64()),
    ]
)
"""One video, or one window of one. Metadata columns follow."""

_CLIP = [
    pa.field("id", pa.string(), nullable=False),
    pa.field("video_id", pa.string(), nullable=False),
    pa.field("segment", pa.int32(), nullable=False),
    pa.field("segments", pa.int32(), nullable=False),
    pa.field("start_s", pa.float64()),
    pa.field("end_s", pa.float64()),
    pa.field("uri", pa.string(), nullable=False),
]
_VIDEO = [
    pa.field("duration_s", pa.float64()),
    pa.field("fps", pa.float64()),
    pa.field("source_state", pa.string()),
]
_FRAMES = [
    pa.field("frames", pa.int32()),
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
]
# For the encoder; nobody needs it later.
_VALID = pa.field("valid_frames", pa.int32())
_FAILURE = [
    pa.field("stage", pa.string()),
    pa.field("error", pa.string()),
    pa.field("message", pa.string()),
    pa.field("attempts", pa.int32()),
]
FAILURES = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("error", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("attempts", pa.int32(), nullable=False),
    ]
)
"""What could not be embedded, and why. One row a video. Metadata columns follow."""

RESERVED = frozenset(
    [f.name for f in [*_CLIP, *_VIDEO, *_FRAMES, _VALID, *_FAILURE]]
    + ["pixels", "embedding", "skip", "score"]
)
"""Names that vidembed writes; a manifest column of such a name travels as `manifest_NAME`."""

_OWN = frozenset([f.name for f in [*_FRAMES, _VALID, *_FAILURE]] + ["pixels", "embedding", "skip"])
_MARK = "@"


def own(name: str, label: str) -> str:
    """The column `name` of the encoder `label`."""
    return name + _MARK + label if label else name


def is_reserved(name: str) -> bool:
    """Whether a manifest column cannot keep its name: it is vidembed's, or an encoder's own."""
    plain, mark, _ = name.partition(_MARK)
    return name in RESERVED or bool(mark and plain in _OWN)


def clips(
    tensors: Mapping[str, tuple[tuple[int, int, int, int], str]], metadata: pa.Schema
) -> pa.Schema:
    """Decode to encode: a clip's pixels (frames x height x width x 3, and their type) for each
    label's encoder, or its failure; neither where that encoder does not need the segment.
    """
    pixels = {
        label: pa.field("pixels", pa.fixed_shape_tensor(pa.type_for_alias(kind), shape))
        for label, (shape, kind) in tensors.items()
    }
    return _edge(pixels, metadata)


def encoded(before: pa.Schema, label: str, dim: int) -> pa.Schema:
    """Encode to encode, and to write: `before` with one encoder's pixels turned into vectors."""
    at = before.get_field_index(own("pixels", label))
    return before.set(at, _embedding(dim).with_name(own("embedding", label)))


def vectors(dim: int, metadata: pa.Schema) -> pa.Schema:
    """What a run commits: a clip's vector, or a failure."""
    return _edge({ALONE: _embedding(dim)}, metadata)


def share(table: pa.Table, label: str) -> pa.Table:
    """Of a table that all encoders are done with, what the run of one commits: `vectors`."""
    if label == ALONE:
        return table
    names = {}
    for name in table.column_names:
        plain, mark, whose = name.partition(_MARK)
        if not (mark and plain in _OWN):
            names[name] = name
        elif whose == label:
            names[name] = plain
    found = table.select(list(names)).rename_columns(list(names.values()))
    return found.filter(pc.or_(pc.is_valid(found["embedding"]), pc.is_valid(found["error"])))


def embeddings(dim: int, metadata: pa.Schema) -> pa.Schema:
    """What rests in `embeddings/*.parquet`."""
    frames, width, height = _FRAMES
    return pa.schema([*_CLIP, _embedding(dim), frames, *_VIDEO, width, height, *metadata])


def failures(metadata: pa.Schema) -> pa.Schema:
    """What rests in `failures/*.parquet`."""
    return pa.schema([*FAILURES, *metadata])


def metadata_of(schema: pa.Schema) -> pa.Schema:
    """The metadata columns of a manifest, or of any table above."""
    return pa.schema([f for f in schema if f.name not in RESERVED])


def _edge(results: Mapping[str, pa.Field], metadata: pa.Schema) -> pa.Schema:
    """A row for each clip; of each encoder its result so far, or a failure."""
    fields = [*_CLIP, *_VIDEO]
    for label, result in results.items():
        fields += [f.with_name(own(f.name, label)) for f in (*_FRAMES, _VALID, result, *_FAILURE)]
    return pa.schema([*fields, *metadata])


def _embedding(dim: int) -> pa.Field:
    return pa.field("embedding", pa.list_(pa.float32(), dim))
