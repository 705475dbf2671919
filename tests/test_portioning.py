"""How much goes into a part, and how many decoders a job is worth."""

from __future__ import annotations

import pyarrow as pa
import pytest

from vidembed.access import Access
from vidembed.amounts import ActorRange
from vidembed.pipeline.portioning import most_decoders, rows_per_part

EIGHT = ActorRange(1, 8)


def test_a_part_has_16_mb_or_a_sixteenth_of_the_job():
    assert rows_per_part(10_000_000, [512]) * (4 * 512 + 400) == pytest.approx(16 << 20, rel=0.01)
    assert rows_per_part(10_000_000, [512, 2048]) == rows_per_part(10_000_000, [2048])
    assert rows_per_part(1600, [512]) == 100
    assert rows_per_part(3, [512]) == 8


class TestDecodersOfAJobOfFewVideos:
    @pytest.fixture
    def access(self, tmp_path):
        return Access.of(str(tmp_path))

    @staticmethod
    def window(folder, sizes) -> pa.Table:
        for k, size in enumerate(sizes):
            with open(folder / f"{k}.mp4", "wb") as file:
                file.truncate(size)
        return pa.table({"uri": [str(folder / f"{k}.mp4") for k in range(len(sizes))]})

    def test_small_files_share_one(self, tmp_path, access):
        assert most_decoders(self.window(tmp_path, [20_000] * 40), access, EIGHT) == 1

    def test_large_ones_get_all_that_there_are(self, tmp_path, access):
        assert most_decoders(self.window(tmp_path, [1 << 30] * 2), access, EIGHT) == 8
        assert most_decoders(self.window(tmp_path, [3 << 20] * 2), access, EIGHT) == 4

    def test_so_do_many_and_those_whose_size_nobody_knows(self, tmp_path, access):
        many = pa.table({"uri": [str(tmp_path / "0.mp4")] * 65})
        assert most_decoders(many, access, EIGHT) == 8
        assert most_decoders(pa.table({"uri": ["s3://bucket/a.mp4"]}), access, EIGHT) == 8

    def test_what_will_not_be_decoded_counts_for_nothing(self, tmp_path):
        elsewhere = Access.of("s3://bucket/folder")
        large = self.window(tmp_path, [1 << 30])
        assert most_decoders(large, elsewhere, EIGHT) == 1
        missing = pa.table({"uri": [str(tmp_path / "missing.mp4"), "/\0"]})
        assert most_decoders(missing, Access.of(str(tmp_path)), EIGHT) == 1

    def test_as_many_as_were_asked_for_are_started_all_the_same(self, tmp_path, access):
        window = self.window(tmp_path, [20_000])
        assert most_decoders(window, access, ActorRange(3, 3)) == 3
