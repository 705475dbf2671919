"""What a plan says: the model by hand-made sums, prices, the sample, and plans of real videos."""

from __future__ import annotations

import csv
import datetime
import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest

import vidembed
from tests.conftest import ROOT
from vidembed import cli
from vidembed.config import EmbedConfig, PlanConfig
from vidembed.errors import ConfigError, RunError
from vidembed.manifest import open_manifest
from vidembed.planning import prices
from vidembed.planning.choices import clusters, look, moves
from vidembed.planning.machines import Cluster, Machine
from vidembed.planning.model import Costs, NotMeasuredError, Work, cpus_per_gpu, predict
from vidembed.planning.sample import sample

GB = 1e9
CPU_NODE = Machine(name="cpu", cpus=16, memory_bytes=32 * GB, network=1 * GB, price=0.5)
GPU_NODE = Machine(
    name="gpu", cpus=4, gpus=1, gpu="L4", memory_bytes=16 * GB, network=0.5 * GB, price=1.0
)
COSTS = Costs(
    decode_cpu_s=0.1,
    decode_wait_s=0.0,
    clips=2.0,
    read_bytes=0.0,
    clip_bytes=1e6,
    encode_s=0.05,
    encode_cpu_s=0.1,
    encode_threads=2,
    gpu_rates={"L4": 200.0},
    start_up_s=10.0,
    flow_cpu_s=0.0,
)


def work(videos: int = 100_000, **options) -> Work:
    return Work(videos=videos, config=EmbedConfig.make({"manifest": "m", "out": "o", **options}))


def cluster(**counts: int) -> Cluster:
    types = {"cpu": CPU_NODE, "gpu": GPU_NODE}
    return Cluster(tuple((types[name], count) for name, count in counts.items()))


# The model.


def test_each_rate_is_workers_by_the_seconds_of_a_video():
    found = predict(COSTS, cluster(gpu=1, cpu=1), work())
    # 20 CPUs, of which the encode actor has one and writers a quarter.
    assert found.pools.decode.most == 18
    assert found.limits["decode"] == pytest.approx(18 / 0.1)
    assert found.limits["encode"] == pytest.approx(200 / 2)
    assert found.limits["CPU"] == pytest.approx(20 / 0.1)
    # 16 of 20 decoders are not where the GPU is: 80% of two clips of 1 MB cross.
    assert found.limits["network"] == pytest.approx(0.5e9 / 1.6e6)
    assert found.bottleneck == "encode"
    assert found.next_limit == ("decode", pytest.approx(1.8))
    # The first batch of 16 clips is 8 videos, but a decoder makes a block first.
    assert found.seconds == pytest.approx(10 + 100_000 / 100, rel=0.02)
    assert found.seconds > 10 + 100_000 / 100


def test_on_cpus_alone_decode_and_encode_share_them():
    found = predict(COSTS, Cluster(((replace(CPU_NODE, cpus=2), 1),)), work())
    # 0.1 s of decoding and two clips of 0.1 s: 0.3 CPU seconds, of two a second.
    assert found.limits["CPU"] == pytest.approx(2 / 0.3)
    assert found.limits["decode"] == pytest.approx(20)
    assert found.limits["encode"] == pytest.approx(1 / 0.05 / 2)
    assert found.bottleneck == "CPU"


def test_twice_the_decode_cpus_are_twice_as_fast_until_encode_binds():
    costs = replace(COSTS, decode_cpu_s=1.0)
    rates = [look(costs, cluster(gpu=1, cpu=n), work()) for n in (1, 2, 4, 8, 16)]
    assert rates[0].bottleneck == "decode"
    for few, many in itertools.pairwise(rates[:3]):
        decoders = many.pools.decode.most / few.pools.decode.most
        assert many.rate / few.rate == pytest.approx(decoders)
    assert rates[-1].bottleneck == "encode"
    assert rates[-1].rate == pytest.approx(100)


def test_what_moving_the_bottleneck_would_bring_is_what_the_model_says_of_it():
    costs = replace(COSTS, decode_cpu_s=1.0)
    now, then = (look(costs, cluster(gpu=1, cpu=n), work()) for n in (4, 8))
    move = next(m for m in moves(costs, cluster(gpu=1, cpu=4), work()) if "cpu" in m.what)
    assert move.what == "8 × cpu"
    assert move.gain == pytest.approx(then.rate / now.rate)
    assert move.then == then.bottleneck


def test_large_clips_make_the_network_of_the_gpu_node_the_bottleneck():
    found = predict(replace(COSTS, clip_bytes=20e6), cluster(gpu=1, cpu=4), work())
    assert found.bottleneck == "network"
    away = 64 / 68
    assert found.rate == pytest.approx(0.5e9 / (2 * 20e6 * away))
    # Read by decoders besides: it binds where they are.
    found = predict(replace(COSTS, read_bytes=1e9), cluster(cpu=2), work())
    assert found.rate == pytest.approx(2 * 1e9 / 1e9)


def test_milvus_binds_where_it_takes_fewer_rows_than_are_made():
    found = predict(replace(COSTS, milvus_rows=30.0), cluster(gpu=1, cpu=1), work())
    assert found.bottleneck == "Milvus"
    assert found.rate == pytest.approx(15)


def test_waiting_for_bytes_takes_a_decoders_time_and_no_cpu():
    waiting = predict(replace(COSTS, decode_wait_s=0.1), cluster(gpu=1, cpu=1), work())
    assert waiting.limits["decode"] == pytest.approx(18 / 0.2)
    assert waiting.limits["CPU"] == pytest.approx(20 / 0.1)


def test_efficiency_and_the_speed_of_cpus_scale_what_cpus_do_and_not_the_gpu():
    there = cluster(gpu=1, cpu=1)
    plain = predict(COSTS, there, work()).limits
    slow = predict(replace(COSTS, efficiency=0.5), there, work()).limits
    fast = predict(replace(COSTS, cpu_speed=2.0), there, work()).limits
    for name in ("decode", "CPU"):
        assert slow[name] == pytest.approx(plain[name] / 2)
        assert fast[name] == pytest.approx(plain[name] * 2)
    assert slow["encode"] == fast["encode"] == plain["encode"]


def test_with_so_many_cpus_as_it_says_a_gpu_is_just_busy():
    needed = cpus_per_gpu(COSTS, "L4")
    assert needed == pytest.approx(1 + 100 * 0.1)
    enough = replace(GPU_NODE, cpus=math.ceil(needed) + 1)
    assert predict(COSTS, Cluster(((enough, 1),)), work()).rate == pytest.approx(100)
    short = replace(GPU_NODE, cpus=math.floor(needed) - 1)
    assert predict(COSTS, Cluster(((short, 1),)), work()).bottleneck == "decode"


def test_an_encoder_whose_rate_nobody_knows_is_not_guessed():
    with pytest.raises(NotMeasuredError, match="needs --encode-rate A10G=CLIPS_PER_S"):
        predict(COSTS, Cluster(((replace(GPU_NODE, gpu="A10G"), 1),)), work())
    on_gpu = replace(COSTS, encode_s=None)
    with pytest.raises(NotMeasuredError, match="on CPUs was not measured"):
        predict(on_gpu, cluster(cpu=1), work())
    found, left_out = clusters(
        COSTS, [GPU_NODE, replace(GPU_NODE, name="other", gpu="A10G"), CPU_NODE], work(), None
    )
    assert left_out == ["other: not measured: needs --encode-rate A10G=CLIPS_PER_S"]
    assert {machine.name for each in found for machine, _ in each.groups} == {"gpu", "cpu"}


@pytest.mark.parametrize("hours", [0.5, 2.0, 48.0])
def test_a_deadline_is_met_by_no_node_more_than_it_takes(hours):
    found, _ = clusters(COSTS, [GPU_NODE, CPU_NODE], work(3_000_000), hours * 3600)
    assert found
    for each in found:
        assert look(COSTS, each, work(3_000_000)).seconds <= hours * 3600
        for machine, count in each.groups:
            if count > 1:
                fewer = each.with_count(machine.name, count - 1)
                assert look(COSTS, fewer, work(3_000_000)).seconds > hours * 3600


def test_clips_that_wait_are_held_against_the_object_store():
    found = predict(replace(COSTS, clip_bytes=50e6), cluster(gpu=1, cpu=1), work())
    assert found.store_limit == pytest.approx(0.3 * 48 * GB)
    # 18 decoders, each with a table that is full at 64 MiB and one on its way; two batches of 16.
    assert found.store_bytes == pytest.approx(36 * (64 << 20) + 32 * 50e6)


# Prices.

ROW = "  a: {cpus: 4, price: 0.1}\n"
HEAD = "date: 2026-11-22\ncurrency: EUR\nregion: here\ntypes:\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + "  a: {cpus: four, price: 1}\n", "a: cpus: expected a number of at least 0"),
        (HEAD + ROW + "  b: {cpus: 4, price: -1}\n", "b: price: expected a number of at least 0"),
        (HEAD + ROW + "  b: {price: 1}\n", "b: cpus: say how many CPUs it has"),
        (HEAD + ROW + "  b: {cpus: 4, gpus: 1}\n", "b: gpus and gpu"),
        (HEAD + ROW + "  b: {cpus: 4, prize: 1}\n", "b: unknown prize; a type has cpus, gpus"),
        (HEAD + ROW + "  b: 3\n", "b: expected {cpus: N"),
        (HEAD, "types: expected NAME"),
        ("types: {}\n", "expected date, currency, region, types"),
        (HEAD.replace("2026-11-22", "lately") + ROW, "date 'lately': expected a day"),
        ("a: [\n", "not valid YAML"),
    ],
)
def test_a_price_file_that_is_off_is_refused_with_its_row_and_the_remedy(tmp_path, text, said):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        prices.read(str(tmp_path / "p.yaml"))
    assert said in str(caught.value)
    assert "--prices" in str(caught.value)


def test_the_shipped_prices_are_complete_and_warn_after_a_year():
    book = prices.read(None)
    for machine in book.types.values():
        assert machine.price
        assert machine.memory_bytes
        assert machine.network
    assert not book.warnings(book.date + datetime.timedelta(days=365))
    (told,) = book.warnings(book.date + datetime.timedelta(days=366))
    assert "more than a year ago" in told
    # As cluster.yaml has them.
    assert {"m7i.4xlarge", "g6.2xlarge"} <= set(book.types)


def test_clusters_are_named_by_types_of_the_price_file():
    book = prices.read(None)
    found = book.cluster("g6.xlarge=2+c7i.4xlarge")
    assert (found.cpus, found.gpus, found.nodes) == (24, 2, 3)
    assert found.per_hour(spot=False) == pytest.approx(2 * 0.8048 + 0.714)
    for words in ("g6.xlarge=0", "g6.xlarge=two", "t9.nano=1"):
        with pytest.raises(ConfigError, match=f"--nodes {words}"):
            book.cluster(words)


# The sample.


def test_the_sample_has_a_row_of_each_stretch_of_the_manifest(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("video_id,uri\n" + "".join(f"v{k:04d},v{k}.mp4\n" for k in range(1003)))
    manifest = open_manifest(str(path))
    drawn = sample(manifest, 100, seed=1)["video_id"].to_pylist()
    numbers = sorted(int(name[1:]) for name in drawn)
    assert len(set(numbers)) == 100
    assert all(10 * k <= n <= 10 * k + 13 for k, n in enumerate(numbers))
    assert drawn != sorted(drawn)
    assert sample(manifest, 100, seed=1)["video_id"].to_pylist() == drawn
    assert sample(manifest, 100, seed=2)["video_id"].to_pylist() != drawn
    assert len(sample(manifest, 5000, seed=1)) == 1003


# Whole plans.

TINY = {"encoder": "clip4clip-tiny", "sample": 6, "start_up": 9.0, "efficiency": 0.8}


def test_a_plan_of_real_videos_says_what_each_number_is(corpus, tmp_path, capsys):
    out, store = tmp_path / "plan.json", tmp_path / "store"
    words = [
        "plan", str(corpus), "--encoder", "clip4clip-tiny", "--sample", "6", "--start-up", "9",
        "--efficiency", "0.8", "--encode-rate", "L4=300", "--videos", "1000000",
        "--nodes", "g6.xlarge=1+c7i.4xlarge=1,g5.xlarge=1", "--cpus", "8",
        "--store", str(store), "--out", str(out),
    ]  # fmt: skip
    assert cli.main(words) == 0
    said, found = capsys.readouterr().out, json.loads(out.read_text())
    assert not list(store.iterdir())
    assert (found["videos"], found["sampled"], found["failures"]) == (1_000_000, 6, {})
    figures = {figure["name"]: figure for figure in found["figures"]}
    assert {f["origin"] for f in figures.values()} == {"measured", "given", "assumed"}
    assert figures["efficiency"]["origin"] == figures["encode on L4"]["origin"] == "given"
    low, high = figures["decode"]["interval"]
    assert 0 < low <= figures["decode"]["value"] <= high < 5
    assert figures["clips"]["value"] == 1
    # Frames of clip4clip-tiny: 8 of 64 x 64.
    assert figures["clip"]["value"] == pytest.approx(8 * 64 * 64 * 3 / 1e6)
    (lacking,) = found["not_measured"]
    assert lacking.startswith("1 × g5.xlarge: not measured: needs --encode-rate A10G")
    both = {"g6.xlarge": 1, "c7i.4xlarge": 1}
    mix = next(each for each in found["outlooks"] if each["nodes"] == both)
    assert mix["videos_per_s"] <= 300
    assert mix["cost"] == pytest.approx((0.8048 + 0.714) * mix["seconds"] / 3600)
    assert mix["seconds_interval"][0] <= mix["seconds"] <= mix["seconds_interval"][1]
    alone = next(each for each in found["outlooks"] if each["cost"] is None)
    assert alone["name"].startswith("1 × 8 CPUs")
    here = found["here"]
    assert here["seconds"] == pytest.approx(9 + 1e6 / here["videos_per_s"], rel=0.01)
    assert "cheapest: 1 × g6.xlarge + 1 × c7i.4xlarge" in said
    assert "needs --encode-rate A10G=CLIPS_PER_S" in said


def test_videos_that_fail_are_part_of_the_sample_and_a_sample_of_them_alone_is_no_plan(
    corpus, tmp_path, capsys
):
    good = next(csv.DictReader(corpus.open()))["uri"]
    lines = "".join(f"bad{k},nowhere{k}.mp4\n" for k in range(3))
    path = tmp_path / "m.csv"
    path.write_text(f"video_id,uri\n{lines}good,{corpus.parent / good}\n")
    words = ["--encoder", "clip4clip-tiny", "--start-up", "9", "--efficiency", "0.8", "--json"]
    assert cli.main(["plan", str(path), *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["failures"] == {"NotFound": 3}
    clips = next(figure for figure in found["figures"] if figure["name"] == "clips")
    assert clips["value"] == pytest.approx(0.25)
    assert any("3 of 4 videos of the sample failed: NotFound 3" in w for w in found["warnings"])
    path.write_text(f"video_id,uri\n{lines}")
    with pytest.raises(RunError, match=r"no video of the sample could be decoded \(NotFound 3\)"):
        vidembed.plan(str(path), **TINY)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gpus": 1}, "--gpus needs --cpus"),
        ({"encode_rate": "L4=fast"}, "--encode-rate: expected CLIPS_PER_S"),
        ({"milvus": "m.db", "milvus_rate": 10}, "give one"),
        ({"decoder": "torchcodec", "device": "cuda"}, "decodes on GPUs"),
        ({"overwrite": True}, "unknown option --overwrite"),
        ({"segment_stride": 2}, "--segment-stride needs --segment-seconds"),
    ],
)
def test_what_a_plan_cannot_be_asked_is_said(options, said):
    with pytest.raises(ConfigError) as caught:
        PlanConfig.make({"manifest": "m.csv", **options})
    assert said in str(caught.value)


def test_a_rate_may_be_one_number_or_one_for_each_kind():
    def rates(value):
        return PlanConfig.make({"manifest": "m", "encode_rate": value}).encode_rate

    assert rates("120") == {"": 120.0}
    assert rates(["L4=300", "A10G=280"]) == rates({"L4": 300, "A10G": 280})


@pytest.mark.s3
def test_what_is_read_from_s3_is_counted_as_network(s3, corpus):
    remote = s3.upload(corpus.parent, "planned")
    plan = vidembed.plan(f"{remote}/manifest.csv", store="s3://test/plans", **TINY)
    size = np.mean([path.stat().st_size for path in (corpus.parent / "videos").iterdir()])
    read = plan.figure("read")
    assert read.note == "over the network"
    assert 0.2 * size < read.value * 1e6 < 3 * size
    from vidembed import sources

    # The server keeps an entry for the folder itself.
    left = sources.walk_files("s3://test/plans")
    assert not [path for path in left if not path.endswith("/")]


@pytest.mark.ray
def test_start_up_and_efficiency_are_measured_by_real_runs(corpus, monkeypatch):
    monkeypatch.setattr("vidembed.planning.survey._TRIAL_S", 1.0)
    given = {"encoder": "clip4clip-tiny", "sample": 4}
    plan = vidembed.plan(str(corpus), **given)
    start_up, efficiency = plan.figure("start-up"), plan.figure("efficiency")
    assert start_up.origin == efficiency.origin == "measured"
    assert start_up.value > 1
    assert 0.1 <= efficiency.value <= 1.25
    assert plan.here.seconds > start_up.value


@pytest.mark.milvus
def test_a_milvus_is_measured_with_a_collection_that_is_gone_afterwards(corpus, tmp_path):
    from pymilvus import MilvusClient

    uri = str(tmp_path / "m.db")
    plan = vidembed.plan(str(corpus), milvus=uri, **TINY)
    rate = plan.figure("Milvus")
    assert rate.origin == "measured"
    assert rate.value > 50
    assert plan.here.limits["Milvus"] == pytest.approx(rate.value)
    client = MilvusClient(uri)
    try:
        assert client.list_collections() == []
    finally:
        client.close()


def test_the_price_file_is_shipped_with_the_package():
    import tomllib

    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "prices.yaml" in data["package-data"]["vidembed.planning"]
