"""The Arrow schema of every edge: manifest, clips, vectors, embeddings, failures.

Schemas are declared, never inferred: a block whose column happens to be all null would otherwise
not merge with the next.
"""

from __future__ import annotations

import pyarrow as pa

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
_FACTS = [
    pa.field("frames", pa.int32()),
    pa.field("duration_s", pa.float64()),
    pa.field("fps", pa.float64()),
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
]
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
    [f.name for f in _CLIP + _FACTS + _FAILURE] + ["pixels", "embedding", "skip", "score"]
)
"""Names that vidembed writes; a manifest column of such a name travels as `manifest_NAME`."""


def clips(shape: tuple[int, int, int, int], metadata: pa.Schema) -> pa.Schema:
    """Decode to encode: a clip's pixels (uint8, frames x height x width x 3), or a failure."""
    pixels = pa.field("pixels", pa.fixed_shape_tensor(pa.uint8(), shape))
    return pa.schema([*_CLIP, *_FACTS, pixels, *_FAILURE, *metadata])


def vectors(dim: int, metadata: pa.Schema) -> pa.Schema:
    """Encode to write: a clip's vector, or a failure."""
    return pa.schema([*_CLIP, *_FACTS, _embedding(dim), *_FAILURE, *metadata])


def embeddings(dim: int, metadata: pa.Schema) -> pa.Schema:
    """What rests in `embeddings/*.parquet`."""
    return pa.schema([*_CLIP, _embedding(dim), *_FACTS, *metadata])


def failures(metadata: pa.Schema) -> pa.Schema:
    """What rests in `failures/*.parquet`."""
    return pa.schema([*FAILURES, *metadata])


def metadata_of(schema: pa.Schema) -> pa.Schema:
    """The metadata columns of a manifest, or of any table above."""
    return pa.schema([f for f in schema if f.name not in RESERVED])


def _embedding(dim: int) -> pa.Field:
    return pa.field("embedding", pa.list_(pa.float32(), dim))
