"""Plans as arithmetic on an index: what is decoded, and which frames cost least."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.helpers.decoding import read_indices
from tests.helpers.videos import frame_number, write_video
from vidembed.clips import Sampling
from vidembed.decode.container import Opened
from vidembed.decode.facts import PacketIndex
from vidembed.decode.planner import Run, plan
from vidembed.decode.sampling import sample
from vidembed.decode.slots import cheapest, nearest_keyframes
from vidembed.decode.video import open_video


def index_of(frames: list[int], keys: list[int], lone: list[int] | None = None) -> PacketIndex:
    """Packets in this order of decoding; `keys` and `lone` name frames."""
    order = np.array(frames)
    return PacketIndex(
        pts=order * 10,
        dts=np.arange(len(order)) * 10,
        frame=order,
        keyframe=np.isin(order, keys),
        lone=None if lone is None else np.isin(order, lone),
    )


# I P B B P B B, twice: shown 0 … 6, 7 … 13.
CLOSED = index_of(
    [0, 3, 1, 2, 6, 4, 5, 7, 10, 8, 9, 13, 11, 12], [0, 7], [1, 2, 4, 5, 8, 9, 11, 12]
)


def test_each_run_begins_at_a_keyframe_and_stops_at_the_last_packet_that_is_needed():
    assert plan(CLOSED, np.array([0, 4, 8])) == [Run(0, 5, (0, 4)), Run(7, 9, (8,))]


def test_frames_of_one_gop_are_read_in_one_run():
    assert plan(CLOSED, np.arange(7)) == [Run(0, 6, tuple(range(7)))]


def test_what_is_shown_before_an_open_gop_s_keyframe_is_decoded_from_the_one_before():
    # I0 P3 b1 b2 | I6 b4 b5 P9 …: 4 and 5 refer to 3 as well.
    index = index_of([0, 3, 1, 2, 6, 4, 5, 9, 7, 8], [0, 6])
    assert plan(index, np.array([4])) == [Run(0, 5, (4,))]
    assert plan(index, np.array([7])) == [Run(4, 8, (7,))]


def test_runs_that_meet_are_read_as_one():
    index = index_of([0, 3, 1, 2, 6, 4, 5, 9, 7, 8], [0, 6])
    assert plan(index, np.array([4, 7])) == [Run(0, 8, (4, 7))]
    assert plan(CLOSED, np.arange(14)) == [Run(0, 13, tuple(range(14)))]
    assert len(plan(CLOSED, np.array([3, 7]))) == 2


def test_a_stream_that_does_not_begin_with_a_keyframe_is_decoded_from_its_beginning():
    index = index_of([0, 1, 2, 3], [2])
    assert plan(index, np.array([1])) == [Run(0, 1, (1,))]
    assert plan(index, np.array([3])) == [Run(2, 3, (3,))]


def test_keyframes_are_the_nearest_ones_of_the_window():
    assert nearest_keyframes(CLOSED, np.array([1, 3, 4, 13]), 0, 14).tolist() == [0, 0, 7, 7]
    assert nearest_keyframes(CLOSED, np.array([9, 13]), 8, 14) is None


def test_fast_takes_the_keyframe_of_a_slot_and_else_what_is_decoded_first():
    targets = np.array([0, 4, 8, 13])
    found = cheapest(CLOSED, targets, 0, 14)
    # 0 is a keyframe. 3 is the first picture reached near 4, for 1 and 2 are skipped. 7 is decoded
    # on the way to 13, which is the last slot's only one: 11 and 12 need it.
    assert found.tolist() == [0, 3, 7, 13]
    near = index_of(list(range(100)), [0, 40])
    assert cheapest(near, np.array([0, 30, 60, 90]), 0, 100).tolist() == [0, 40, 60, 75]


def test_fast_moves_no_frame_that_is_decoded_anyway():
    index = index_of(list(range(100)), [0, 2, 70])
    assert cheapest(index, np.array([10, 30, 50, 90]), 0, 100).tolist() == [10, 30, 37, 77]


def cost(index: PacketIndex, targets: np.ndarray, frames: np.ndarray) -> float:
    """Pictures that are decoded for these frames, and how far they moved."""
    half = (targets[-1] - targets[0]) / (len(targets) - 1) / 2
    decoded = set()
    for start, packet in zip(index.starts(frames), index.position[frames], strict=True):
        others = np.arange(start, packet)
        decoded |= {*others[~index.lone[others]].tolist(), int(packet)}
    return len(decoded) + float((((frames - targets) / max(half, 1)) ** 2).sum())


def test_no_other_frames_of_the_slots_cost_less_than_those_of_fast():
    generator = np.random.default_rng(7)
    for _ in range(25):
        length, count = int(generator.integers(12, 40)), int(generator.integers(2, 5))
        keys = [0, *generator.integers(0, length, 3).tolist()]
        lone = [n for n in generator.integers(0, length, length // 2).tolist() if n not in keys]
        index = index_of(list(range(length)), keys, lone)
        targets = np.linspace(0, length - 1, count).astype(np.int64)
        half = (targets[-1] - targets[0]) / (count - 1) / 2
        slots = [np.flatnonzero(np.abs(np.arange(length) - t) <= half) for t in targets]
        least = min(
            cost(index, targets, np.array(frames))
            for frames in itertools.product(*slots)
            if (np.diff(frames) >= 0).all()
        )
        assert cost(index, targets, cheapest(index, targets, 0, length)) <= least + 1e-9


def test_fast_never_moves_a_frame_out_of_its_slot_nor_out_of_the_window():
    generator = np.random.default_rng(4)
    for _ in range(200):
        length, count = generator.integers(2, 200), generator.integers(1, 20)
        keys = [0, *generator.integers(0, length, 3)]
        lone = generator.integers(0, length, length // 2)
        index = index_of(list(range(length)), keys, [n for n in lone if n not in keys])
        first = int(generator.integers(0, length))
        targets = first + np.linspace(0, length - first - 1, count).astype(np.int64)
        found = cheapest(index, targets, first, int(length))
        half = (targets[-1] - targets[0]) / max(1, count - 1) / 2
        assert (np.abs(found - targets) <= half + 1e-9).all()
        assert (np.diff(found) >= 0).all()
        assert found.min() >= first


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg4", "av1"])
def test_fast_decodes_less_than_uniform_and_keyframes_least(codec, tmp_path):
    path = write_video(
        tmp_path / "a.mp4", frames=96, codec=codec, gop=24, b_frames=0 if codec == "av1" else 3
    )
    spent = {}
    for kind in ("uniform", "fast", "keyframes"):
        with open_video(str(path), thorough=kind == "fast") as video:
            facts = video.facts
            indices = np.unique(sample(Sampling(kind=kind, count=6), facts, 0, facts.n_frames))
            found = dict(video.read(indices))
            spent[kind] = video.decoded
        assert {index: frame_number(frame) for index, frame in found.items()} == {
            index: index for index in indices
        }
    assert spent["keyframes"] < spent["fast"] < spent["uniform"] < 96


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.flv"])
def test_a_seek_goes_to_the_keyframe_and_not_to_the_one_before(name, tmp_path, monkeypatch):
    path = write_video(tmp_path / name, frames=120, gop=24, b_frames=3)
    with open_video(str(path)) as video:
        seen = []
        packets = Opened.packets

        def counted(self):
            for packet in packets(self):
                seen.append(packet.pts)
                yield packet

        monkeypatch.setattr(Opened, "packets", counted)
        assert dict(video.read(np.array([24, 72, 96]))).keys() == {24, 72, 96}
    assert len(seen) == 3


def test_segments_of_a_long_video_are_read_in_one_pass(tmp_path):
    path = write_video(tmp_path / "long.mp4", frames=600, gop=30, b_frames=2, size=(64, 48))
    wanted = np.unique(np.linspace(0, 599, 50 * 4).astype(np.int64))
    with open_video(str(path)) as video:
        assert len(list(video.read(wanted))) == len(wanted)
        assert video.decoded < 600


def test_skipping_packets_leaves_every_other_picture_as_it_was(tmp_path):
    for codec in ("h264", "hevc", "mpeg4", "av1"):
        path = write_video(tmp_path / f"{codec}.mp4", frames=48, codec=codec, gop=24, b_frames=3)
        everything = dict(read_indices(str(path), np.arange(48)))
        for wanted in (np.arange(0, 48, 5), np.array([17]), np.array([2, 3, 40])):
            for index, frame in read_indices(str(path), wanted):
                assert np.array_equal(frame, everything[index]), (codec, index)
