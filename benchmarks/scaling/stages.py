"""Stages that cost nearly nothing, of the contract of `Decode` and `Encode`: what is measured is
what carries the rows. And an encoder to go by, whose vectors are short so that disks suffice.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidembed import schema
from vidembed.clips import ClipSpec, Resize, Sampling
from vidembed.encode.own import digest
from vidembed.encode.spec import EncoderSpec
from vidembed.tally import Event, Gathered, Tally, encode_stage, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidembed.decode.stage import DecodeSettings
    from vidembed.encode.stage import EncodeSettings

DIM = 64
FAILING = 1000
"""One video of so many fails, by its number."""

_CLIP = ClipSpec(sampling=Sampling(kind="uniform", count=1), resize=Resize(short_side=4, crop=4))
_MIX = np.random.default_rng(0).normal(size=DIM).astype(np.float32)


def vectors_of(numbers: NDArray[np.int64]) -> NDArray[np.float32]:
    """float32 [n, DIM], of unit length: what the videos of these numbers are embedded as."""
    vectors = np.cos(numbers[:, None].astype(np.float32) * _MIX)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


class Numbers:
    """An encoder by name only: `benchmarks.scaling.stages:Numbers`. `Encode` below encodes."""

    @classmethod
    def describe(cls, weights: str | None, preset: str | None) -> EncoderSpec:
        return EncoderSpec(
            name="numbers",
            dim=DIM,
            clip=_CLIP,
            metric="COSINE",
            context_length=0,
            weights="",
            digest=digest(cls),
            architecture="numbers",
        )

    def encode_video(self, frames: Any, valid: Any = None) -> NDArray[np.float32]:
        raise NotImplementedError

    def encode_text(self, texts: Any) -> NDArray[np.float32]:
        raise NotImplementedError


class Decode:
    """Manifest rows -> `schema.clips`: a clip of 4 x 4 pixels each, or a failure."""

    def __init__(self, settings: DecodeSettings, tally: Tally = silent) -> None:
        ((self._label, spec),) = settings.specs.items()
        self._clip = spec
        self._schema = schema.clips({self._label: spec.tensor}, settings.metadata)
        self._metadata = settings.metadata.names
        self._tally = Gathered(tally)
        self._name = f"decode-{os.uname().nodename}-{os.getpid()}"

    def __call__(self, rows: pa.Table) -> pa.Table:
        began = time.time()
        count = len(rows)
        rows = rows.combine_chunks()
        numbers = pc.utf8_slice_codeunits(rows["video_id"], -12).cast(pa.int64()).to_numpy()
        bad = numbers % FAILING == 0
        good = pa.array(~bad)
        frames, height, width, channels = self._clip.shape
        pixels = np.zeros((count, frames * height * width * channels), np.uint8)
        pixels[:, :8] = numbers[:, None].view(np.uint8).reshape(count, 8)

        def where(there: Any, value: Any, kind: pa.DataType) -> pa.Array:
            return pc.if_else(there, pa.scalar(value, kind), pa.scalar(None, kind))

        one = pa.array(np.ones(count, np.int32))
        tensor = self._schema.field(schema.own("pixels", self._label)).type
        storage = pa.FixedSizeListArray.from_arrays(
            pixels.reshape(-1), pixels.shape[1], mask=pa.array(bad)
        )
        made: dict[str, Any] = {
            **{name: rows[name] for name in ("video_id", "uri", *self._metadata)},
            "id": rows["video_id"],
            "segment": pa.array(np.zeros(count, np.int32)),
            "segments": pc.cast(good, pa.int32()),
            "start_s": where(good, 0.0, pa.float64()),
            "end_s": where(good, 10.0, pa.float64()),
            "duration_s": where(good, 10.0, pa.float64()),
            "fps": where(good, 25.0, pa.float64()),
            "source_state": where(good, "1048576-1700000000000000000", pa.string()),
        }
        failed = pa.array(bad)
        own = {
            "pixels": pa.ExtensionArray.from_storage(tensor, storage),
            "frames": one,
            "valid_frames": one,
            "width": where(good, 640, pa.int32()),
            "height": where(good, 360, pa.int32()),
            "stage": where(failed, "decode", pa.string()),
            "error": where(failed, "Corrupt", pa.string()),
            "message": where(failed, "as every thousandth", pa.string()),
            "attempts": where(failed, 1, pa.int32()),
        }
        made |= {schema.own(name, self._label): column for name, column in own.items()}
        # As the real one: an event a video.
        each = (time.time() - began) / max(1, count)
        for video in range(count):
            self._tally(
                Event(
                    stage="decode",
                    worker=self._name,
                    began=began + each * video,
                    seconds=each,
                    videos=int(not bad[video]),
                    clips=int(not bad[video]),
                    failures={"Corrupt": 1} if bad[video] else {},
                )
            )
        self._tally.flush()
        return pa.table([made[f.name] for f in self._schema], schema=self._schema)


class Encode:
    """`schema.clips` -> `schema.encoded`: of each clip a vector that its number makes."""

    def __init__(self, settings: EncodeSettings, tally: Tally = silent) -> None:
        self._label, self._dim = settings.label, settings.spec.dim
        self._stage = encode_stage(settings.label)
        self._tally = tally
        self._name = f"encode-{os.uname().nodename}-{os.getpid()}"

    def __call__(self, clips: pa.Table) -> pa.Table:
        began = time.time()
        name = schema.own("pixels", self._label)
        pixels = clips[name].combine_chunks()
        there = pixels.is_valid()
        flat = pixels.storage.values.to_numpy(zero_copy_only=False)
        size = pixels.type.storage_type.list_size
        flat = flat[pixels.offset * size : (pixels.offset + len(pixels)) * size]
        numbers = flat.reshape(len(clips), size)[:, :8].copy().view(np.int64)[:, 0]
        vectors = vectors_of(numbers)
        wanted = schema.encoded(clips.schema, self._label, self._dim)
        own = schema.own("embedding", self._label)
        column = pa.FixedSizeListArray.from_arrays(
            vectors.reshape(-1), type=wanted.field(own).type, mask=pc.invert(there)
        )
        made = pa.table([column if f.name == own else clips[f.name] for f in wanted], schema=wanted)
        clipped = pc.sum(there).as_py() or 0
        self._tally(
            Event(
                stage=self._stage,
                worker=self._name,
                began=began,
                seconds=time.time() - began,
                clips=int(clipped),
            )
        )
        return made
