"""The decode stage without Ray: manifest rows in, clips with a declared schema out."""

from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from PIL import Image

from tests.helpers.videos import flip_bytes, frame_numbers, truncate, write_video
from vidembed import schema
from vidembed.access import Access
from vidembed.clips import ClipSpec, Resize, Sampling, Segmentation
from vidembed.decode.limits import Limits
from vidembed.decode.stage import Decode, DecodeSettings
from vidembed.labels import ALONE
from vidembed.store.done import SKIP
from vidembed.tally import Event

if TYPE_CHECKING:
    import numpy as np

METADATA = pa.schema([pa.field("caption", pa.string()), pa.field("tags", pa.list_(pa.int64()))])
SPEC = ClipSpec(sampling=Sampling(kind="uniform", count=4), resize=Resize(short_side=64, crop=64))


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stage")
    write_video(folder / "good.mp4", frames=48, fps=24)
    write_video(folder / "other.mp4", frames=24, fps=12, size=(120, 160))
    options = {"movflags": "faststart"}
    truncate(write_video(folder / "cut.mp4", frames=60, options=options))
    (folder / "text.mp4").write_text("no video")
    return folder


@pytest.fixture
def stage():
    """Makes decode stages, and ends their child processes."""
    made = []

    def make(tally=None, spec=SPEC, **settings) -> Decode:
        given = {"specs": {ALONE: spec}, "metadata": METADATA} | settings
        stage = Decode(DecodeSettings(**given), *([tally] if tally else []))
        made.append(stage)
        return stage

    yield make
    for each in made:
        each.close()


def rows(*uris, **columns) -> pa.Table:
    """Manifest rows, as the job hands them in."""
    made = [
        {
            "video_id": Path(uri).stem,
            "uri": str(uri),
            "caption": f"this is {Path(uri).stem}",
            "tags": [1, 2],
        }
        | {name: values[i] for name, values in columns.items()}
        for i, uri in enumerate(uris)
    ]
    wanted = [*schema.MANIFEST, *METADATA, *([SKIP] if "skip" in columns else [])]
    return pa.Table.from_pylist(made, schema=pa.schema(wanted))


def decoded(stage: Decode, table: pa.Table) -> pa.Table:
    tables = list(stage(table))
    for each in tables:
        assert each.schema.equals(schema.clips({ALONE: SPEC.tensor}, METADATA))
    return pa.concat_tables(tables)


def pixels(table: pa.Table) -> np.ndarray:
    return table["pixels"].combine_chunks().to_numpy_ndarray()


def test_videos_become_clips_with_their_facts_and_metadata(videos, stage):
    table = decoded(stage(), rows(videos / "good.mp4", videos / "other.mp4"))
    first, second = table.drop_columns(["pixels"]).to_pylist()
    there = (videos / "good.mp4").stat()
    assert first.pop("source_state") == f"{there.st_size}-{there.st_mtime_ns}"
    assert first == {
        "id": "good",
        "video_id": "good",
        "segment": 0,
        "segments": 1,
        "start_s": 0.0,
        "end_s": 2.0,
        "uri": str(videos / "good.mp4"),
        "frames": 4,
        "valid_frames": 4,
        "duration_s": 2.0,
        "fps": 24.0,
        "width": 160,
        "height": 120,
        "stage": None,
        "error": None,
        "message": None,
        "attempts": None,
        "caption": "this is good",
        "tags": [1, 2],
    }
    assert (second["width"], second["height"], second["fps"]) == (120, 160, 12.0)
    assert [frame_numbers(clip) for clip in pixels(table)] == [[0, 15, 31, 47], [0, 7, 15, 23]]


def test_a_video_that_fails_is_a_row_without_pixels_beside_the_others(videos, stage):
    names = ["good.mp4", "cut.mp4", "absent.mp4", "text.mp4", "other.mp4"]
    table = decoded(stage(), rows(*(videos / name for name in names)))
    found = {row["video_id"]: row for row in table.drop_columns(["pixels"]).to_pylist()}
    assert {k: (v["stage"], v["error"], v["attempts"]) for k, v in found.items()} == {
        "good": (None, None, None),
        "cut": ("decode", "Truncated", 1),
        "absent": ("read", "NotFound", 1),
        "text": ("decode", "Unsupported", 1),
        "other": (None, None, None),
    }
    assert table["pixels"].is_null().to_pylist() == [False, True, True, True, False]
    failed = found["cut"]
    assert failed["id"] == failed["video_id"] == "cut"
    assert failed["caption"] == "this is cut"
    assert str(videos / "cut.mp4") in failed["message"]
    assert failed["frames"] is failed["duration_s"] is None


def test_failures_alone_have_the_same_schema(videos, stage):
    table = decoded(stage(), rows(videos / "absent.mp4"))
    assert table["error"].to_pylist() == ["NotFound"]
    assert table["pixels"].null_count == 1


def test_no_rows_are_an_empty_table_of_the_schema(stage):
    assert len(decoded(stage(), rows())) == 0


def test_a_video_is_cut_into_segments_with_their_own_ids_and_times(videos, stage):
    table = decoded(stage(segmentation=Segmentation(seconds=0.5)), rows(videos / "good.mp4"))
    assert table["id"].to_pylist() == ["good#0", "good#1", "good#2", "good#3"]
    assert table["segment"].to_pylist() == [0, 1, 2, 3]
    assert table["segments"].to_pylist() == [4] * 4
    assert table["start_s"].to_pylist() == [0.0, 0.5, 1.0, 1.5]
    assert [frame_numbers(c) for c in pixels(table)][1] == [12, 15, 19, 23]


def test_segments_that_are_done_are_skipped(videos, stage):
    table = rows(videos / "good.mp4", videos / "other.mp4", skip=[[0, 2], []])
    found = decoded(stage(segmentation=Segmentation(seconds=0.5)), table)
    assert found["id"].to_pylist() == [
        "good#1", "good#3", "other#0", "other#1", "other#2", "other#3",
    ]  # fmt: skip
    assert found["segments"].to_pylist() == [4] * 6
    assert frame_numbers(pixels(found)[0]) == [12, 15, 19, 23]


def test_a_window_of_the_manifest_limits_the_clip(videos, stage):
    table = rows(videos / "good.mp4", start_s=[0.5], end_s=[1.0])
    found = decoded(stage(), table)
    assert frame_numbers(pixels(found)[0]) == [12, 15, 19, 23]
    assert (found["start_s"][0].as_py(), found["end_s"][0].as_py()) == (0.5, 1.0)


def test_a_window_outside_the_video_fails_as_empty(videos, stage):
    found = decoded(stage(), rows(videos / "good.mp4", start_s=[7.0], end_s=[8.0]))
    assert found["error"].to_pylist() == ["Empty"]
    assert "lies outside the video" in found["message"][0].as_py()
    assert (found["start_s"][0].as_py(), found["end_s"][0].as_py()) == (7.0, 8.0)


def test_masked_padding_says_how_many_frames_count(videos, stage):
    spec = ClipSpec(
        sampling=Sampling(kind="clip4clip", count=4, pad="mask"),
        resize=Resize(short_side=64, crop=64),
    )
    table = decoded(stage(spec=spec), rows(videos / "good.mp4"))
    assert table["frames"].to_pylist() == [2]
    assert frame_numbers(pixels(table)[0, :2]) == [0, 24]


def test_a_crash_is_tried_twice_and_counted(videos, tmp_path, monkeypatch, stage):
    monkeypatch.setenv("VIDEMBED_DECODE_DRILL", "tests.helpers.drills:by_name")
    monkeypatch.setenv("DRILL_LOG", str(tmp_path / "log"))
    once = tmp_path / "crashonce.mp4"
    once.write_bytes((videos / "good.mp4").read_bytes())
    table = decoded(stage(), rows(tmp_path / "crashalways.mp4", once, videos / "good.mp4"))
    assert table["error"].to_pylist() == ["DecoderCrash", None, None]
    assert table["attempts"].to_pylist() == [2, None, None]


def test_a_hang_is_not_tried_again(videos, tmp_path, monkeypatch, stage):
    log = tmp_path / "log"
    monkeypatch.setenv("VIDEMBED_DECODE_DRILL", "tests.helpers.drills:by_name")
    monkeypatch.setenv("DRILL_LOG", str(log))
    table = decoded(
        stage(limits=Limits(seconds=0.5)), rows(tmp_path / "hang.mp4", videos / "good.mp4")
    )
    assert table["error"].to_pylist() == ["Timeout", None]
    assert table["attempts"].to_pylist() == [1, None]
    assert len(log.read_text().split()) == 2


def test_clips_do_not_change_when_the_next_video_is_decoded(videos, stage):
    make = stage()
    first = decoded(make, rows(videos / "good.mp4"))
    decoded(make, rows(videos / "other.mp4"))
    assert frame_numbers(pixels(first)[0]) == [0, 15, 31, 47]


def test_many_segments_stream_in_tables_of_bounded_size(videos, stage):
    big = ClipSpec(
        sampling=Sampling(kind="uniform", count=16), resize=Resize(short_side=224, crop=224)
    )
    make = stage(spec=big, segmentation=Segmentation(seconds=0.05))
    tables = list(make(rows(videos / "good.mp4")))
    assert len(tables) >= 2
    assert max(t.nbytes for t in tables) < 2 * (64 << 20)
    table = pa.concat_tables(tables)
    assert table["segment"].to_pylist() == list(range(40))


def test_every_video_is_told_of_with_its_outcome(videos, stage):
    told = []
    make = stage(tally=told.append)
    list(make(rows(videos / "good.mp4", videos / "absent.mp4", videos / "other.mp4")))
    events = [each for each in told if isinstance(each, Event)]
    # Videos that take no time are told of together: a message each would be a message too many.
    assert sum(e.videos for e in events) == 2
    assert sum(e.clips for e in events) == 2
    assert [e.failures for e in events if e.failures] == [{"NotFound": 1}]
    assert {e.stage for e in events} == {"decode"}
    (name, jpeg), *_ = events[0].thumbnails
    assert name == "good"
    assert Image.open(io.BytesIO(jpeg)).size == (64, 64)


def test_pixels_cross_ray_s_blocks_as_they_are(videos, stage):
    """Parquet and IPC keep the tensor with its nulls."""
    table = decoded(stage(), rows(videos / "good.mp4", videos / "absent.mp4"))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    back = pa.ipc.open_stream(sink.getvalue()).read_all()
    assert back.equals(table)


def damaged_video(path: Path) -> Path:
    """48 frames in GOPs of 12, of which the second is spoilt."""
    write_video(path, frames=48, fps=24)
    return flip_bytes(path, 0.3, 200)


def test_one_damaged_frame_fails_a_video_and_the_message_names_the_way_out(tmp_path, stage):
    path = damaged_video(tmp_path / "hurt.mp4")
    row = decoded(stage(), rows(path)).to_pylist()[0]
    assert row["error"] == "Corrupt"
    assert "--min-frames" in row["message"]
    assert str(path) in row["message"]


def test_a_clip_with_enough_frames_has_neighbours_in_place_of_the_damaged_ones(tmp_path, stage):
    path = damaged_video(tmp_path / "hurt.mp4")
    table = decoded(stage(min_frames=0.5), rows(path))
    assert table["error"].to_pylist() == [None]
    # Of the frames 0, 15, 31 and 47 the one at 15 is lost, and 0 is nearest.
    assert frame_numbers(pixels(table)[0]) == [0, 0, 31, 47]
    assert table["frames"].to_pylist() == [3]


def test_each_segment_must_have_its_share_of_frames(tmp_path, stage):
    path = damaged_video(tmp_path / "hurt.mp4")
    settings = {"min_frames": 0.5, "segmentation": Segmentation(seconds=0.5)}
    assert set(decoded(stage(**settings), rows(path))["error"].to_pylist()) == {"Corrupt"}


def test_what_a_video_s_frames_have_cost_is_told(videos, tmp_path, stage):
    heard = []
    path = write_video(tmp_path / "b.avi", frames=24)
    make = stage(heard.append)
    for video in (videos / "good.mp4", path):
        list(make(rows(video)))
    efforts = [event.effort for event in heard]
    assert [e["wanted"] for e in efforts] == [4, 4]
    assert [e["counted"] for e in efforts] == [False, True]
    assert efforts[0]["decoded"] < 48
    assert efforts[1]["decoded"] == 24


def test_pixels_that_are_not_square_are_scaled_only_where_that_is_asked_for(tmp_path, stage):
    size, stored = (160, 120), (80, 120)
    path = write_video(
        tmp_path / "wide.mp4", frames=8, size=size, stored=stored, sar=Fraction(2, 1)
    )
    coded = decoded(stage(), rows(path))
    shown = decoded(stage(spec=replace(SPEC, aspect="display")), rows(path))
    assert (coded["width"][0].as_py(), shown["width"][0].as_py()) == (80, 160)
    assert frame_numbers(pixels(shown)[0]) == [0, 2, 4, 7]


def test_a_manifest_s_row_opens_nothing_that_it_may_not(videos, tmp_path, stage):
    access = Access.of(str(tmp_path), [str(tmp_path)])
    row = decoded(stage(access=access), rows(videos / "good.mp4")).to_pylist()[0]
    assert (row["stage"], row["error"]) == ("read", "Forbidden")
    assert "--allow-root" in row["message"]
