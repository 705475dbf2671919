"""The encode stage without Ray: clips in, vectors with a declared schema out."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.helpers import checkpoints as make
from vidembed import schema
from vidembed.encode import registry
from vidembed.encode.stage import Encode, EncodeSettings
from vidembed.labels import ALONE

METADATA = pa.schema([pa.field("caption", pa.string())])


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encode")
    return str(make.write_reference(folder / "pytorch_model.bin.0", make.reference_state()))


@pytest.fixture(scope="module")
def spec(weights):
    return registry.describe("clip4clip", weights).sampled(count=4)


@pytest.fixture(scope="module")
def stage(spec):
    return Encode(EncodeSettings(spec=spec, device="cpu", threads=1))


def clips(spec, rows: list[dict]) -> pa.Table:
    """A table as decode makes it; `pixels` None is a failure."""
    wanted = schema.clips({ALONE: spec.clip.tensor}, METADATA)
    arrays = []
    for field in wanted:
        if field.name == "pixels":
            length = int(np.prod(field.type.shape))
            values = [None if r["pixels"] is None else r["pixels"].ravel().tolist() for r in rows]
            storage = pa.array(values, pa.list_(pa.uint8(), length))
            arrays.append(pa.ExtensionArray.from_storage(field.type, storage))
        else:
            arrays.append(pa.array([r.get(field.name) for r in rows], field.type))
    return pa.table(arrays, schema=wanted)


def good(video: str, seed: int, frames: int = 4, **changes) -> dict:
    draw = np.random.default_rng(seed)
    row = {
        "id": video,
        "video_id": video,
        "segment": 0,
        "segments": 1,
        "uri": f"/v/{video}.mp4",
        "frames": frames,
        "valid_frames": frames,
        "caption": f"this is {video}",
        "pixels": draw.integers(0, 256, (4, 16, 16, 3), np.uint8),
    }
    return row | changes


def bad(video: str) -> dict:
    failure = {"stage": "decode", "error": "Corrupt", "message": "damaged", "attempts": 1}
    return good(video, 0, frames=None, pixels=None, **failure)


def embeddings(table: pa.Table) -> list[np.ndarray | None]:
    return [None if v is None else np.array(v, np.float32) for v in table["embedding"].to_pylist()]


def test_clips_become_vectors_of_the_encoder_row_by_row(spec, stage):
    rows = [good("a", 1), good("b", 2, frames=2)]
    table = stage(clips(spec, rows))
    assert table.schema.equals(schema.vectors(make.DIM, METADATA))
    assert table["id"].to_pylist() == ["a", "b"]
    assert table["caption"].to_pylist() == ["this is a", "this is b"]
    encoder = registry.load(spec, "cpu", "float32")
    for found, row in zip(embeddings(table), rows, strict=True):
        expected = encoder.encode_video(row["pixels"][None], [row["frames"]])[0]
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_padding_of_a_masked_clip_is_left_out(spec, stage):
    one = good("a", 1, frames=2)
    other = one | {"pixels": one["pixels"].copy()}
    other["pixels"][2:] = 200
    first, second = embeddings(stage(clips(spec, [one, other])))
    np.testing.assert_array_equal(first, second)


def test_repeated_frames_of_a_clip_that_is_not_masked_count(weights):
    """Where a short clip repeats frames, `frames` says how many differ, not how many count."""
    spec = registry.describe("clip4clip", weights).sampled(kind="uniform", count=4)
    stage = Encode(EncodeSettings(spec=spec, device="cpu", threads=1))
    row = good("a", 1, frames=2, valid_frames=4)
    encoder = registry.load(spec, "cpu", "float32")
    (found,) = embeddings(stage(clips(spec, [row])))
    np.testing.assert_allclose(found, encoder.encode_video(row["pixels"][None])[0], atol=1e-6)


def test_failed_rows_pass_through_beside_the_others(spec, stage):
    table = stage(clips(spec, [bad("x"), good("a", 1), bad("y")]))
    assert table["embedding"].is_null().to_pylist() == [True, False, True]
    assert table["error"].to_pylist() == ["Corrupt", None, "Corrupt"]
    assert table["message"].to_pylist() == ["damaged", None, "damaged"]
    (alone,) = embeddings(stage(clips(spec, [good("a", 1)])))
    np.testing.assert_allclose(embeddings(table)[1], alone, atol=1e-6)


def test_failures_alone_and_no_rows_at_all_keep_the_schema(spec, stage):
    for rows in ([bad("x"), bad("y")], []):
        table = stage(clips(spec, rows))
        assert table.schema.equals(schema.vectors(make.DIM, METADATA))
        assert len(table) == len(rows)
        assert table["embedding"].null_count == len(rows)


def test_tables_of_several_chunks_and_slices_of_tables_are_read_right(spec, stage):
    whole = clips(spec, [good("a", 1), bad("x"), good("b", 2), good("c", 3)])
    expected = embeddings(stage(whole))
    parts = pa.concat_tables([whole.slice(0, 1), whole.slice(1, 2), whole.slice(3)])
    for found, wanted in zip(embeddings(stage(parts)), expected, strict=True):
        assert (found is None) == (wanted is None)
        if found is not None:
            np.testing.assert_allclose(found, wanted, atol=1e-6)
    (last,) = embeddings(stage(whole.slice(3)))
    np.testing.assert_allclose(last, expected[3], atol=1e-6)


def test_a_vector_that_is_not_finite_is_a_failure_of_its_video(tmp_path):
    state = make.reference_state()
    # The class embedding meets every frame: every vector becomes NaN.
    state["clip.visual.class_embedding"] = torch.full((make.VISION,), float("nan"))
    path = make.write_reference(tmp_path / "nan.bin", state)
    spec = registry.describe("clip4clip", str(path)).sampled(count=4)
    events = []
    settings = EncodeSettings(spec=spec, device="cpu", threads=1)
    stage = Encode(settings, events.append)
    table = stage(clips(spec, [good("a", 1), bad("x")]))
    assert table["error"].to_pylist() == ["NonFinite", "Corrupt"]
    assert table["stage"].to_pylist() == ["encode", "decode"]
    assert table["attempts"].to_pylist() == [1, 1]
    assert table["embedding"].null_count == 2
    assert "NaN or infinity" in table["message"][0].as_py()
    assert [(e.clips, e.failures) for e in events] == [(0, {"NonFinite": 1})]


def test_every_batch_is_told_of(spec):
    events = []
    settings = EncodeSettings(spec=spec, device="cpu", threads=1)
    Encode(settings, events.append)(clips(spec, [good("a", 1), bad("x"), good("b", 2)]))
    (event,) = events
    assert (event.stage, event.clips, event.failures) == ("encode", 2, {})
    assert event.seconds > 0


def test_a_batch_that_does_not_fit_is_halved_and_the_size_is_remembered(spec, monkeypatch):
    settings = EncodeSettings(spec=spec, device="cpu", threads=1)
    stage = Encode(settings)
    table = clips(spec, [good(str(k), k) for k in range(7)])
    expected = embeddings(stage(table))
    sizes = []
    encode = type(stage._encoder).encode_video

    def cramped(self, frames, valid=None):
        sizes.append(len(frames))
        if len(frames) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, frames, valid)

    monkeypatch.setattr(type(stage._encoder), "encode_video", cramped)
    for _ in range(2):
        np.testing.assert_allclose(
            np.stack(embeddings(stage(table))), np.stack(expected), atol=1e-6
        )
    assert sizes == [7, 3, 3, 1, 3, 3, 1]
