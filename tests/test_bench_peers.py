"""The comparison with others: what is measured of a command, and what is made of it."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from benchmarks import bench, names, overhead, summing, tree
from benchmarks.comparing import contenders, environments, inputs, measure, report
from benchmarks.decoding import handover
from benchmarks.tree import Usage
from tests.conftest import ROOT
from tests.helpers.videos import write_video
from vidembed.cli import make_parser

# A parent that does not wait, a child in a session of its own that outlives it.
_FAMILY = """
import subprocess, sys
burn = "import time; end = time.process_time() + 0.4\\nwhile time.process_time() < end: pass"
subprocess.Popen([sys.executable, "-c", burn], start_new_session=True)
exec(burn)
"""


def test_the_cost_of_a_command_is_that_of_all_its_processes_also_of_those_that_outlive_it(tmp_path):
    words = [sys.executable, "-c", _FAMILY]
    usage = tree.run(words, cwd=tmp_path, env=dict(os.environ), log=tmp_path / "log")
    assert (usage.code, usage.left) == (0, 0)
    assert usage.processes == 2
    assert 0.8 <= usage.cpu_s < 2
    assert usage.peak_mib > 4
    assert {name: len(each) for name, each in usage.by_name.items()} == {"driver": 1, "other": 1}
    assert min(min(each) for each in usage.by_name.values()) > 0.3
    assert usage.first_seen.keys() == usage.by_name.keys()


def test_a_worker_is_called_after_what_it_did_last():
    said = [
        ("/site/ray/core/raylet/raylet --socket", "Ray: raylet"),
        ("python /site/ray/_private/workers/default_worker.py", "worker: spare"),
        ("ray::MapWorker(MapBatches(Decode)).submit", "worker: decode"),
        ("ray::IDLE", "worker: decode"),
        ("", "worker: decode"),
    ]
    name = ""
    for line, expected in said:
        name = names.of(line, name)
        assert name == expected
    assert names.of("python -m vidembed.decode.child 7 8 9", "") == "decode child"
    assert names.of("sleep 1", "") == "other"


def test_what_does_not_end_is_killed_with_its_children(tmp_path):
    code = "import subprocess, time; subprocess.Popen(['sleep', '99']); time.sleep(99)"
    words = [sys.executable, "-c", code]
    usage = tree.run(
        words, cwd=tmp_path, env=dict(os.environ), log=tmp_path / "log", deadline_s=1, after_s=0.5
    )
    assert usage.code == -9
    assert usage.left == 1


def test_a_clip_s_cost_and_the_start_come_from_two_lengths():
    result = measure.Result(few=8, many=40)
    result.of_few, result.of_many = [_usage(10.0)], [_usage(18.0)]
    assert result.per_clip == [0.25]
    assert result.start_up == [8.0]


def _usage(cpu: float, **by_name: list[float]) -> Usage:
    return Usage(
        code=0, wall_s=cpu, cpu_s=cpu, peak_mib=100.0, processes=3, left=0, by_name=by_name,
        first_seen={},
    )  # fmt: skip


def test_the_best_peer_is_the_cheapest_and_never_one_of_ours():
    results = {}
    for name, cpu in (("uniform", 14.0), ("bare", 12.0), ("plain", 18.0), ("ray", 26.0)):
        results[name] = {"null": measure.Result(few=8, many=40)}
        results[name]["null"].of_few = [_usage(10.0)]
        results[name]["null"].of_many = [_usage(cpu)]
    run = report.Run(about={}, results=results, absent={}, bad={})
    assert run.best_peer("null") == "plain"
    assert run.cheaper("uniform", "null") == [2.0]
    assert run.ratios("uniform", "bare", "null") == [2.0]
    found = report.record(run)["results"]["uniform"]["null"]
    lines = summing.summary("peers", "x", {
        "results": {"uniform": {"null": found}}, "best_peer": {"null": "plain"},
    })  # fmt: skip
    assert [(line.value, line.verdict) for line in lines] == [(2.0, "yes")]


def test_the_flow_costs_what_the_job_takes_beyond_the_bare_loops():
    few, clips = 100, 300
    runs = {
        "the bare loops": [(_usage(10.0), _usage(30.0))],
        "vidembed embed": [(_usage(20.0, child=[5.0]), _usage(42.0, child=[9.0, 16.0]))],
    }
    found = overhead._summary(runs, clips, [7])
    assert found["ratio"] == [pytest.approx(1.1)]
    ours = found["contenders"]["vidembed embed"]
    assert ours["cpu_s_per_clip"] == [pytest.approx(0.11)]
    assert ours["cpu_s_before"] == [pytest.approx(20 - few * 0.11)]
    assert ours["ms_per_clip_by_process"] == {"child": 100.0}
    lines = summing.summary("overhead", "x", {"encoders": {"null": found}})
    assert [line.verdict for line in lines] == ["no", "no" if overhead._cores() > 1 else "yes"]


def test_the_short_form_judges_nothing_and_says_how_long_each_part_took():
    found = summing.Found(what="cheaper", value=1.0, least=1.2, file="x")
    about = {
        "date": "2026-11-23", "commit": "c", "cpu": "a CPU", "cores": 2, "load": "0.1",
        "minutes": 3.5, "minutes_by_part": {"peers": 3.0, "search": 0.5}, "note": "",
    }  # fmt: skip
    full = summing.markdown(about | {"form": "full"}, [found], {})
    assert "| cheaper | 1 | at least 1.2 | no | x |" in full
    short = summing.markdown(about | {"form": "short"}, [found], {})
    assert "| cheaper | 1 | at least 1.2 |  | x |" in short
    assert "Minutes: peers 3, search 0.5." in short
    assert found.plain(judged=True)["met"] == "no"
    assert "met" not in found.plain(judged=False)


def test_all_that_run_embed_the_same_clips_alone_and_among_bad_ones(tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    for k in range(3):
        write_video(clips / f"{k}.mp4", frames=20)
    given = inputs.clips(clips, tmp_path)
    everybody = [contenders.EVERYBODY[name] for name in ("bare", "plain")]
    bench = measure.Bench(
        given=given,
        weights="none",
        few=inputs.copies(given, 3, tmp_path / "copies"),
        many=[],
        place=tmp_path,
        interpreters={who.name: who.interpreter(tmp_path) for who in everybody},
    )
    side = contenders.command(
        everybody[0], sys.executable, "null", given, "none", tmp_path / "side"
    )
    contenders.write_lists(bench.few, tmp_path / "side")
    subprocess.run([*side, "--processes", "2"], check=True, env=contenders.environment())
    assert contenders.rows(tmp_path / "side", bench.few) == {file.name for file in bench.few}
    for who in everybody:
        usage, rows = bench.run(who, "null", bench.few)
        assert usage.code == 0, bench.log.read_text()
        assert rows == {file.name for file in bench.few}
    broken = inputs.bad(given, tmp_path / "copies")
    bad = measure.with_bad_files(bench, contenders.EVERYBODY["plain"], bench.few, broken)
    assert (bad.code, bad.good, bad.named) == (1, 0, ["empty.mp4"])
    assert str(tmp_path) not in bad.said


def test_vidembed_is_run_as_its_user_runs_it(tmp_path):
    given = inputs.Clips(clips=[], interval=1.0, every=10)
    for encoder in ("null", "clip"):
        who = contenders.EVERYBODY["fast"]
        words = contenders.command(who, sys.executable, encoder, given, "folder", tmp_path)
        assert words[1:4] == ["-m", "vidembed", "embed"]
        assert make_parser().parse_args(words[3:]).encoder


def test_each_peer_s_list_pins_every_package_and_leaves_torch_to_be_chosen():
    lists = sorted(environments.PEERS.glob("*.txt"))
    assert len(lists) == 4
    for listed in lists:
        lines = [line for line in listed.read_text().splitlines() if not line.startswith("#")]
        assert all(line.count("==") == 1 for line in lines)
        assert not any(line.startswith(("torch==", "nvidia")) for line in lines)


def test_handing_frames_over_is_measured_beside_one_process_that_keeps_them(tmp_path):
    clip = SimpleNamespace(path=str(write_video(tmp_path / "a.mp4", frames=24)))
    found = handover.hand_over([clip], repeats=1)
    assert found.child > 0
    assert found.alone > 0
    assert 0 <= found.parent_share < 1


@pytest.mark.parametrize("part", bench.PARTS, ids=lambda part: part.name)
def test_each_part_takes_the_words_that_the_whole_gives_it(part):
    script = ROOT / "benchmarks" / f"{part.name}.py"
    done = subprocess.run(
        [sys.executable, str(script), "--help"],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    given = {*part.short, *part.full, part.out, part.videos}
    for word in given:
        assert not word.startswith("--") or f"{word} " in done.stdout.replace("]", " ")
