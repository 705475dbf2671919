"""The line that a person watches, and the numbers behind it."""

from __future__ import annotations

from vidembed.pipeline.monitor import MonitorState, Snapshot
from vidembed.pipeline.progress import describe, duration
from vidembed.report import Statistics, bottleneck
from vidembed.tally import Event


def event(stage: str, began: float, seconds: float, **counts) -> Event:
    return Event(stage=stage, worker=f"{stage}-1", began=began, seconds=seconds, **counts)


def snapshot(**facts) -> Snapshot:
    usual = {
        "videos": 0.0,
        "failed": 0,
        "clips": 0,
        "decoded": 0.0,
        "shares": {"decode": 0.2, "encode": 0.9, "write": 0.0},
        "bottleneck": "encode",
    }
    return Snapshot(**{**usual, **facts})


def test_the_line_says_done_of_total_rates_failures_time_left_and_bottleneck():
    line = describe(snapshot(videos=48.0, failed=2, clips=96, decoded=60.0), 200, 10.0)
    assert line == (
        "50/200 videos  5.0 videos/s  9.6 clips/s  2 failed  30 s left  "
        "bottleneck: encode (90% busy)"
    )


def test_the_line_says_what_is_happening_while_nothing_is_written():
    assert describe(snapshot(), 8, 1.0) == "0/8 videos  starting: actors and weights"
    assert "3 decoded" in describe(snapshot(decoded=3.0), 8, 1.0)


def test_times_are_for_people():
    seconds = (4.4, 63, 7_800, 277_200)
    assert [duration(s) for s in seconds] == ["4 s", "1 min 3 s", "2 h 10 min", "3 d 5 h"]


def test_the_bottleneck_is_the_stage_whose_workers_are_busiest():
    assert bottleneck({"decode": 0.4, "encode": 0.97, "write": 0.01}) == "encode"
    assert bottleneck(dict.fromkeys(("decode", "encode", "write"), 0.0)) == "starting"


def test_statistics_take_bounded_memory_and_lose_no_clip():
    statistics = Statistics(began=0.0)
    for second in range(100_000):
        statistics.add(event("decode", second, 0.5, clips=3, videos=1))
    stage = statistics.stages["decode"]
    assert len(stage.series) <= 240
    assert sum(stage.series.values()) == stage.clips == 300_000
    assert stage.busy_share(100_000) == 0.5


def test_failures_count_where_they_are_committed_and_thumbnails_are_few():
    state = MonitorState()
    state.add(event("decode", 0.0, 1.0, failures={"NotFound": 1}))
    assert state.snapshot().failed == 0
    for n in range(100):
        pictures = ((f"v{n}", b"jpeg"),)
        state.add(event("write", 0.0, 1.0, failures={"NotFound": 1}, thumbnails=pictures))
    assert state.snapshot().failed == 100
    assert len(state.take_statistics().thumbnails) == 24
