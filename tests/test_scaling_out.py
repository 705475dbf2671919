"""Decoders and encoders go where their CPUs and GPUs are, one pool does not keep the other from its
place, frames stay in memory, and nodes that come and go cost what they were doing.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.helpers.mixed_cluster import ADDED, CPU_NODES, GPU_NODES, HEAD, Drill, counted
from vidembed.amounts import ActorRange
from vidembed.config import EmbedConfig
from vidembed.pipeline.object_store import Gathered, NodeStore, Portions, Stores, StoreUse
from vidembed.pipeline.pools import allocate
from vidembed.store.run import Run


def options(**given) -> EmbedConfig:
    return EmbedConfig.make(
        {"manifest": "m.csv", "out": "run", "encoder": "clip4clip-tiny"} | given
    )


@pytest.fixture(scope="module")
def drill(tmp_path_factory) -> Drill:
    """A head, three nodes of a CPU, and two of 2 CPUs and a GPU each, which two encoders share.
    One that decodes is killed while all work, and another with a GPU comes.
    """
    found = Drill(folder=tmp_path_factory.mktemp("mixed")).run(
        "--gpus-per-actor", "0.5", "--decode-actors", "3:5",
        "--cluster-cpus", "9", "--cluster-gpus", "3",
    )  # fmt: skip
    assert found.exit_code == 0, found.said
    return found


pytestmark = pytest.mark.timeout(600)


@pytest.mark.ray
def test_every_video_is_there_once_though_a_node_was_killed_and_another_came(drill):
    ids = Run.open(str(drill.out)).read(["id"])["id"].to_pylist()
    assert len(ids) == len(set(ids)) == drill.segments
    assert drill.killed_actors > 0
    assert drill.done_before < drill.videos, "it was over before anything could be killed"


@pytest.mark.ray
def test_decoders_take_the_nodes_without_gpu_and_encoders_only_those_with_one(drill):
    decoding, encoding = (counted(drill.work, stage) for stage in ("decode", "encode"))
    assert len(decoding.keys() & set(CPU_NODES)) > 1
    assert HEAD not in decoding
    assert {*GPU_NODES} <= encoding.keys() <= {*GPU_NODES, ADDED}


@pytest.mark.ray
def test_the_node_that_came_was_used(drill):
    assert any(work.node == ADDED for work in drill.work)


@pytest.mark.ray
def test_a_killed_node_costs_what_it_was_doing_and_no_more(drill):
    given = Counter(work.item for work in drill.work if work.stage == "decode")
    assert len(given) == drill.videos
    again = {video for video, times in given.items() if times > 1}
    assert again <= drill.killed_work


@pytest.mark.ray
def test_frames_stay_in_memory_that_holds_a_part_of_them_while_encoders_load_and_are_slow(drill):
    use = drill.report["object_store"]
    assert drill.frame_bytes > use["limit_bytes"]
    assert 0 < use["peak_bytes"] < use["limit_bytes"]
    assert 0 < use["fullest_share"] < 1
    assert use["spilled_bytes"] == 0
    assert "object store" in drill.said
    assert "Ray's object store held at most" in (drill.out / "report.html").read_text()


@pytest.mark.parametrize(
    ("cpus", "gpus", "gpus_per_node", "per_actor"),
    [(2, 1, 1, 1.0), (8, 1, 1, 0.25), (96, 8, 8, 1.0), (192, 8, 8, 0.5)],
)
def test_decoders_that_fill_a_node_leave_room_for_its_encoders(
    cpus, gpus, gpus_per_node, per_actor
):
    for others in (0, 272, 100_000):
        pools = allocate(cpus + others, gpus, 1, options(gpus_per_actor=per_actor))
        decoders = int(cpus / pools.decode_cpus + 1e-9)
        assert decoders == cpus
        encoders = gpus_per_node / per_actor
        assert decoders * pools.decode_cpus + encoders * pools.encode_cpus <= cpus


def test_two_gpus_shared_by_halves_hold_four_encoders_from_the_start():
    pools = allocate(10, 2, 5, options(gpus_per_actor=0.5))
    assert (pools.encode, pools.encode_first) == (ActorRange(4, 4), 4)
    assert pools.decode == ActorRange(1, 5)
    grows = allocate(10, 2, 5, options(gpus_per_actor=0.5, cluster_gpus=2))
    assert grows.encode == ActorRange(1, 4)


def store(megabytes: int, cpus: float = 8.0, gpus: float = 0.0) -> dict[str, float]:
    return {"CPU": cpus, "GPU": gpus, "object_store_memory": megabytes * 1e6}


def test_what_is_handed_over_at_once_fits_the_smallest_store():
    head, decoding, encoding = store(75, cpus=0), store(19_000, cpus=16), store(160, cpus=2, gpus=1)
    assert Stores([decoding]).portions(1, 16, 1.0) == Portions(64 << 20, 256 << 20) == Portions()
    assert Stores([head, encoding]).portions(1, 2, 1.0) == Portions(5_000_000, 20_000_000)
    assert Stores([head]).portions(1, 1, 1.0) == Portions()


def test_of_what_waits_each_encoder_gets_its_three_batches():
    stores = Stores([store(1500), *[store(4000, gpus=1)] * 4])
    assert stores.portions(1, 8, 1.0).batch_bytes == 187_500_000
    assert stores.portions(4, 8, 1.0).batch_bytes == 50_000_000
    share = stores.waiting_share(8, 1.0)
    assert share * 17_500e6 == pytest.approx(3 * 4 * 50_000_000, rel=1e-4)


class TestWhatWaitsForAnEncoder:
    def test_has_room_in_the_nodes_that_decode(self):
        decoding, encoding, head = store(4000), store(4000, gpus=1), store(4000, cpus=0)
        assert Stores([decoding]).waiting_share(8, 1.0) == 0.4
        assert Stores([decoding, head]).waiting_share(8, 1.0) == 0.2
        assert Stores([decoding, *[encoding] * 9]).waiting_share(8, 1.0) == 0.04
        assert Stores([encoding] * 10).waiting_share(80, 1.0) == 0.4
        assert Stores([head]).waiting_share(8, 1.0) == 0.4

    @pytest.mark.parametrize(
        ("decoders", "cpus", "nodes"),
        [(1, 1.0, 1), (8, 1.0, 1), (9, 1.0, 2), (9, 0.5, 1), (80, 1.0, 10), (99, 1.0, 10)],
    )
    def test_has_room_in_those_few_that_all_decoders_may_be_on(self, decoders, cpus, nodes):
        share = Stores([store(4000)] * 10).waiting_share(decoders, cpus)
        assert share == pytest.approx(0.4 * nodes / 10)

    def test_has_room_in_the_smallest_of_them(self):
        stores = Stores([store(4000), store(1000)])
        assert stores.waiting_share(8, 1.0) == pytest.approx(0.4 * 1 / 5)
        assert stores.waiting_share(9, 1.0) == pytest.approx(0.4)


def test_what_was_spilled_before_a_job_or_by_a_node_that_has_gone_is_told_apart():
    found = Gathered()
    assert found.use() == StoreUse()
    found.add({"a": NodeStore(10, 100, 5), "b": NodeStore(20, 100, 0)})
    found.add({"a": NodeStore(30, 100, 5), "b": NodeStore(60, 100, 7)})
    # b is killed, c comes, a does not answer once.
    found.add({"c": NodeStore(50, 200, 2)})
    found.add({"a": NodeStore(0, 100, 6), "c": NodeStore(50, 200, 2)})
    assert found.use() == StoreUse(
        limit_bytes=200, peak_bytes=90, fullest_share=0.6, spilled_bytes=1 + 7 + 2
    )
    found.add({})
    assert found.use().peak_bytes == 90
