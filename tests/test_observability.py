"""What a job tells while it works: metrics, log, names of operators, and the verdict."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import logging
import re
import time
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

import vidembed
from tests.conftest import ROOT
from tests.helpers.http import FileServer
from vidembed import log
from vidembed.labels import ALONE
from vidembed.pipeline.monitor import MonitorState
from vidembed.pipeline.verdict import Times, judge
from vidembed.report import RunReport, Statistics
from vidembed.tally import Committed, Event, Gathered

DASHBOARD = json.loads((ROOT / "docs" / "grafana" / "vidembed.json").read_text())
SECRET = "do-not-tell"
# Ray's own. This one is there where a node has a GPU.
OF_GPUS = {"ray_node_gpus_utilization"}


def expressions() -> list[str]:
    panels = DASHBOARD["panels"]
    found = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    variables = DASHBOARD["templating"]["list"]
    return found + [each["definition"] for each in variables if each["type"] == "query"]


def metrics_of(expression: str) -> set[str]:
    return set(re.findall(r"\bray_\w+", expression))


# The dashboard


def test_the_dashboard_has_what_grafana_asks_of_a_dashboard():
    assert {"title", "uid", "schemaVersion", "panels", "templating", "time"} <= DASHBOARD.keys()
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        if panel["type"] == "row":
            continue
        assert panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        names = [target["refId"] for target in panel["targets"]]
        assert len(set(names)) == len(names) > 0
        assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])


def test_panels_of_the_dashboard_do_not_lie_on_each_other():
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_first_row_of_the_dashboard_is_the_bottleneck_and_its_variables_are_run_and_encoder():
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows[0] == "What holds it up"
    variables = {each["name"]: each["type"] for each in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource": "datasource", "run": "query", "encoder": "query"}
    for expression in expressions():
        for name, selector in re.findall(r"\b(ray_vidembed_\w+)\{([^}]*)\}", expression):
            assert "$run" in selector, name
        used = set(re.findall(r"\$(\w+)", expression))
        assert used <= {*variables, "__rate_interval"}


# A job


@dataclass(frozen=True)
class Told:
    """What a job has told in all ways."""

    report: RunReport
    lines: list[dict[str, object]]
    samples: dict[str, dict[frozenset[tuple[str, str]], float]]
    folder: object

    def value(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples of this run with these labels."""
        wanted = {("run", self.report.run_id), *labels.items()}
        return sum(v for at, v in self.samples.get(name, {}).items() if wanted <= at)


def scrape(url: str) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    text = urllib.request.urlopen(url, timeout=10).read().decode()
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for name, labels, value in re.findall(r"^(\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
        at = frozenset(re.findall(r'(\w+)="([^"]*)"', labels))
        found.setdefault(name, {})[at] = float(value)
    return found


@pytest.fixture(scope="module")
def told(ray_session, corpus, clip_folder, tmp_path_factory):
    """Six good videos, one of them from a server, one that is cut off, one that hangs, one that is
    not there; into Milvus Lite.
    """
    import ray

    folder = tmp_path_factory.mktemp("observed")
    good = sorted((corpus.parent / "videos").glob("*.mp4"))[:6]
    data = good[0].read_bytes()
    (folder / "cut.mp4").write_bytes(data[: len(data) // 2])
    (folder / "hangs.mp4").write_bytes(data)
    said = io.StringIO()
    with FileServer() as server, contextlib.redirect_stderr(said):
        far = server.put("/far.mp4", good[5].read_bytes())
        rows = [("hangs", "hangs.mp4"), *((path.stem, str(path)) for path in good[:5])]
        rows += [("far", f"{far}?token={SECRET}"), ("gone", "gone.mp4")]
        rows += [("cut", "cut.mp4")]
        with (folder / "manifest.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("video_id", "uri"), *rows])
        report = vidembed.embed(
            str(folder / "manifest.csv"),
            out=str(folder / "run"),
            weights=clip_folder,
            segment_seconds=1.0,
            decode_timeout=3,
            decode_actors=1,
            allow_root=[server.url, str(corpus.parent)],
            milvus=str(folder / "index.db"),
            log="json",
        )
    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    lines = [json.loads(line) for line in said.getvalue().splitlines() if line.startswith("{")]
    return Told(report, lines, _all_of(url, report.run_id), folder)


def _all_of(url: str, run_id: str) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """What is scraped when the job has ended. Its own last values are there at once, and gauges for
    20 seconds; those of Ray come every ten.
    """
    ours = {name for each in expressions() for name in metrics_of(each)} - OF_GPUS
    seen: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for _ in range(60):
        for name, samples in scrape(url).items():
            seen.setdefault(name, {}).update(samples)
        operators = [dict(at) for at in seen.get("ray_data_num_tasks_finished", {})]
        if ours <= seen.keys() and any(run_id in each["dataset"] for each in operators):
            break
        time.sleep(0.5)
    return seen


@pytest.mark.ray
@pytest.mark.milvus
class TestAJob:
    def test_every_metric_that_the_dashboard_names_is_scraped(self, told):
        from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

        named = {name for each in expressions() for name in metrics_of(each)}
        assert not named - told.samples.keys() - OF_GPUS
        assert {name.removeprefix("ray_") for name in OF_GPUS} <= METRICS_GAUGES.keys()

    def test_every_metric_is_on_the_page_of_the_docs_and_in_the_dashboard(self, told):
        from vidembed.pipeline.ray_metrics import COUNTERS, GAUGES, HISTOGRAMS

        names = [*(f"{name}_total" for name in COUNTERS), *GAUGES, *HISTOGRAMS]
        page = (ROOT / "docs" / "observability.md").read_text()
        assert [name for name in names if f"`ray_vidembed_{name}`" not in page] == []
        text = " ".join(expressions())
        assert [name for name in names if f"ray_vidembed_{name}" not in text] == []
        listed = set(re.findall(r"^\| `ray_vidembed_(\w+)`", page, re.MULTILINE))
        assert listed == set(names)

    def test_the_last_values_are_those_of_the_report(self, told):
        report = told.report
        assert (report.embedded, report.failed) == (6, 3)
        assert told.value("ray_vidembed_videos_total") == pytest.approx(6)
        assert told.value("ray_vidembed_clips_total", encoder="clip4clip") == report.clips
        assert told.value("ray_vidembed_projected_rows_total") == report.clips
        assert told.value("ray_vidembed_pending_videos") == 0
        for kind, stage in (("NotFound", "read"), ("Truncated", "decode"), ("Timeout", "decode")):
            assert told.value("ray_vidembed_failures_total", error=kind, stage=stage) == 1
        assert told.value("ray_vidembed_failures_total") == 3
        assert told.value("ray_vidembed_stage_seconds_count", stage="decode") == 9
        assert told.value("ray_vidembed_read_bytes_total") == report.decode["read_bytes"] > 0
        for stage, numbers in report.stages.items():
            busy = told.value("ray_vidembed_stage_busy_seconds_total", stage=stage)
            assert busy == pytest.approx(numbers["busy_s"], abs=0.01)
            assert told.value("ray_vidembed_stage_clips_total", stage=stage) == numbers["clips"]
        assert told.value("ray_vidembed_batch_slots_total") >= report.clips
        assert told.value("ray_vidembed_projection_lag_rows") == 0

    def test_no_label_of_a_metric_is_a_video_s(self, told):
        for name, samples in told.samples.items():
            if not name.startswith("ray_vidembed_"):
                continue
            labels = {label for at in samples for label, _ in at}
            assert not labels & {"video_id", "uri", "part"}, name

    def test_a_failed_video_is_a_line_with_run_and_video_and_reason(self, told):
        lines = [line for line in told.lines if line["event"] == "video failed"]
        failed = {line["video_id"]: line for line in lines}
        why = {
            name: (each["stage"], each["error"], each["attempts"]) for name, each in failed.items()
        }
        assert why == {
            "gone": ("read", "NotFound", 1),
            "cut": ("decode", "Truncated", 1),
            "hangs": ("decode", "Timeout", 1),
        }
        for line in failed.values():
            assert line["run_id"] == told.report.run_id
            assert line["level"] == "warning"
            assert line["message"]
            moment = datetime.strptime(line["time"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
            assert abs(moment.timestamp() - time.time()) < 3600

    def test_the_log_tells_of_start_and_end_of_encoder_parts_and_restarts(self, told):
        events = [line["event"] for line in told.lines]
        assert events[0] == "run started"
        assert events[-1] == "run ended"
        by = {line["event"]: line for line in told.lines}
        assert {"encoder loaded", "decoder restarted", "part committed", "part projected"} <= set(
            by
        )
        assert by["decoder restarted"]["why"] == "killed: deadline"
        assert (by["encoder loaded"]["device"], by["encoder loaded"]["dtype"]) == ("cpu", "float32")
        for event in ("part committed", "part projected"):
            rows = [line["rows"] for line in told.lines if line["event"] == event]
            assert sum(rows) == told.report.clips, event
        ended = by["run ended"]
        assert (ended["embedded"], ended["failed"], ended["clips"]) == (6, 3, told.report.clips)
        assert {line["run_id"] for line in told.lines} == {told.report.run_id}

    def test_the_run_s_id_is_in_the_report_and_in_the_record(self, told):
        run = told.folder / "run"
        assert json.loads((run / "run.json").read_text())["run_id"] == told.report.run_id
        assert json.loads((run / "report.json").read_text())["run_id"] == told.report.run_id
        assert told.report.run_id in (run / "report.html").read_text()

    def test_no_secret_is_in_the_log_or_the_metrics(self, told):
        assert SECRET not in json.dumps(told.lines)
        assert SECRET not in repr(told.samples)

    def test_ray_s_operators_have_the_names_of_the_stages(self, told):
        found = [dict(at) for at in told.samples["ray_data_num_tasks_finished"]]
        ours = {each["operator"] for each in found if told.report.run_id in each["dataset"]}
        names = {name.rpartition("_")[0] for name in ours}
        assert names == {"Input", "MapBatches(Decode)", "MapBatches(Encode[clip4clip])"}

    def test_the_report_tells_reading_from_decoding_and_what_milvus_lacked(self, told):
        decode, verdict = told.report.decode, told.report.verdict
        assert 0 < decode["read_s"] < told.report.stages["decode"]["busy_s"]
        assert 0 < decode["cpu_s"] < told.report.stages["decode"]["busy_s"]
        assert verdict["sentence"].startswith(verdict["kind"])
        assert verdict["busy"].keys() == {"decode", "encode", "write"}
        assert 0 < verdict["batch_fill"]["encode"] <= 1
        assert told.report.milvus["backlog_rows"] == verdict["backlog_rows"] <= told.report.clips
        page = (told.folder / "run" / "report.html").read_text()
        assert verdict["kind"] in page


# The verdict, by numbers such as real jobs have had


def work(stage: str, seconds: float, *, began: float = 10.0, **facts) -> Event:
    return Event(stage=stage, worker=f"{stage}-1", began=began, seconds=seconds, **facts)


def judged(*events: Event, seconds: float = 60.0, **times):
    statistics = Statistics(0.0, (ALONE,))
    for event in events:
        statistics.add(event)
    return judge(statistics, Times(started=0.0, seconds=seconds, **times))


def test_the_busiest_stage_is_the_verdict():
    decode, encode = work("decode", 49.0), work("encode", 20.0)
    # All of its own time, and little of the job's.
    write = work("write", 1.0, began=59.0)
    found = judged(decode, encode, write)
    assert found.kind == "decode-bound"
    assert (found.starting_s, found.working_s) == (10.0, 50.0)
    assert found.busy == {"decode": 0.98, "encode": 0.4, "write": 0.02}


def test_a_slow_encoder_is_named_with_the_fill_of_its_batches():
    found = judged(work("decode", 9.0), work("encode", 50.0, clips=30, slots=40))
    assert found.kind == "encode-bound"
    assert found.batch_fill == {"encode": 0.75}
    assert "75% full" in found.sentence


def test_decoders_that_wait_for_remote_files_are_bound_by_io():
    decode = work("decode", 49.0, effort={"read_s": 40.0, "cpu_s": 5.0})
    found = judged(decode, work("encode", 20.0))
    assert (found.kind, found.read_share) == ("I/O-bound", 0.8163)
    decode = work("decode", 49.0, effort={"read_s": 5.0, "cpu_s": 40.0})
    assert judged(decode, work("encode", 20.0)).kind == "decode-bound"


def test_writing_is_io_or_projection_by_what_the_write_tasks_waited_for():
    def write(sent_s: float) -> Event:
        committed = {ALONE: Committed(rows=9, sent=9, sent_s=sent_s)}
        return work("write", 48.0, committed=committed)

    around = work("decode", 10.0), work("encode", 20.0)
    assert judged(*around, write(40.0)).kind == "projection-bound"
    assert judged(*around, write(1.0)).kind == "I/O-bound"


def test_a_job_that_waits_longer_for_milvus_than_it_worked_is_bound_by_projection():
    events = work("decode", 49.0), work("encode", 20.0)
    found = judged(*events, projecting_s=200.0, backlog_rows=12345)
    assert (found.kind, found.backlog_rows) == ("projection-bound", 12345)
    assert "12,345 rows" in found.sentence


def test_a_job_that_was_too_short_says_so():
    found = judged(work("decode", 2.0), work("encode", 1.0), seconds=12.0)
    assert found.kind == "starting-bound"
    assert "too short" in found.sentence


def test_stages_that_all_waited_are_no_bottleneck():
    first, last = work("decode", 5.0), work("decode", 5.0, began=55.0)
    assert judged(first, work("encode", 20.0), last).kind == "unclear"
    assert judged(seconds=1.0).kind == "nothing to do"


# The log and the tally, without a job


def test_a_line_is_one_json_object_whatever_is_in_it(capsys):
    with log.on_stderr("json", "r1"):
        log.note("video failed", "decode", "warning", video_id='a\n"b"', message="é", seconds=1.5)
    (line,) = capsys.readouterr().err.splitlines()
    found = json.loads(line)
    assert (found["video_id"], found["message"], found["run_id"]) == ('a\n"b"', "é", "r1")


def test_without_log_nothing_is_printed_and_a_program_s_own_handler_still_hears(capsys):
    heard = []

    class Own(logging.Handler):
        def emit(self, record):
            heard.append((record.event, record.facts["video_id"]))

    own = Own()
    with log.on_stderr("none", "r1"):
        log.note("video failed", "decode", "warning", video_id="a")
        log.LOGGER.addHandler(own)
        log.note("video failed", "decode", "warning", video_id="b")
        log.LOGGER.removeHandler(own)
    assert capsys.readouterr().err == ""
    assert heard == [("video failed", "b")]


def test_the_driver_is_told_how_many_lines_it_did_not_get():
    state = MonitorState()
    for k in range(6000):
        state.remember(log.Line(0.0, "info", "part committed", {"rows": k}))
    lines, lost = state.take_lines()
    assert (len(lines), lost) == (5000, 1000)
    assert state.take_lines() == ((), 0)


def test_events_that_are_gathered_keep_the_seconds_of_each_video():
    heard = []
    tally = Gathered(heard.append)
    for seconds in (0.5, 2.0):
        tally(work("decode", seconds, videos=1, effort={"read_s": 0.25, "wanted": 2}))
    tally.flush()
    (event,) = heard
    assert event.each == (0.5, 2.0)
    assert event.effort == {"read_s": 0.5, "wanted": 4}
    assert (event.seconds, event.videos) == (2.5, 2)
