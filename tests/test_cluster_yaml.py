"""cluster.yaml is what Ray and AWS take, and a cluster that grows by it embeds videos."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

import jsonschema
import pytest
import torch
import yaml
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.conftest import ROOT
from tests.helpers.growing_cluster import GrowingCluster
from vidembed.config import EmbedConfig
from vidembed.errors import ConfigError
from vidembed.pipeline.pools import allocate
from vidembed.store.run import Run

CLUSTER = yaml.safe_load((ROOT / "cluster.yaml").read_text())
HEAD = CLUSTER["available_node_types"][CLUSTER["head_node_type"]]
WORKERS = {
    name: kind
    for name, kind in CLUSTER["available_node_types"].items()
    if name != CLUSTER["head_node_type"]
}


def at_its_largest(name: str) -> int:
    return sum(kind["resources"].get(name, 0) * kind["max_workers"] for kind in WORKERS.values())


def options(**given) -> EmbedConfig:
    return EmbedConfig.make(
        {"manifest": "m.csv", "out": "run", "encoder": "clip4clip-tiny"} | given
    )


# What `ray up` does with the file before it speaks to AWS: AWS's own defaults are filled in, and
# the whole is held against the schema that the wheel of Ray brings.
def launched(config: dict) -> dict:
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


def test_ray_takes_the_file():
    prepared = launched(CLUSTER)
    assert prepared["head_node_type"] == "head"
    assert prepared["available_node_types"]["encode-gpu-spot"]["min_workers"] == 0


@pytest.mark.parametrize(
    ("where", "key"),
    [((), "idle_timeout_minuts"), (("available_node_types", "decode-spot"), "max_worker"),
     (("docker",), "head_imag")],
)  # fmt: skip
def test_ray_would_not_take_it_with_a_misspelt_key(where, key):
    config = copy.deepcopy(CLUSTER)
    place = config
    for step in where:
        place = place[step]
    place[key] = 1
    with pytest.raises(jsonschema.ValidationError, match=key):
        launched(config)


def ec2_problems(node_config: dict) -> str:
    model = ServiceModel(Loader().load_service_model("ec2", "service-2"), "ec2")
    words = {**node_config, "MinCount": 1, "MaxCount": 1}
    return (
        ParamValidator()
        .validate(words, model.operation_model("RunInstances").input_shape)
        .generate_report()
    )


@pytest.mark.parametrize("name", CLUSTER["available_node_types"])
def test_ec2_knows_every_word_of_a_machine(name):
    machine = CLUSTER["available_node_types"][name]["node_config"]
    assert not ec2_problems(machine)
    assert "InstanceMarketOption" in ec2_problems({**machine, "InstanceMarketOption": {}})


def test_workers_are_spot_machines_that_go_when_nobody_needs_them_and_the_head_is_neither():
    for kind in WORKERS.values():
        assert kind["min_workers"] == 0
        assert kind["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert "InstanceMarketOptions" not in HEAD["node_config"]
    assert HEAD["resources"] == {"CPU": 0}
    assert any("--num-cpus=0" in line for line in CLUSTER["head_start_ray_commands"])
    assert CLUSTER["max_workers"] == sum(kind["max_workers"] for kind in WORKERS.values())


def test_whoever_has_gpus_has_the_image_with_cuda_and_nobody_else():
    images = {
        name: kind.get("docker", {}).get("worker_image", CLUSTER["docker"]["worker_image"])
        for name, kind in WORKERS.items()
    }
    for name, image in images.items():
        assert image.endswith(":cuda" if WORKERS[name]["resources"].get("GPU") else ":cpu")


def test_the_cluster_has_a_token_and_no_open_dashboard():
    run_options = CLUSTER["docker"]["run_options"]
    assert "-e RAY_AUTH_MODE=token" in run_options
    path = next(o.partition("RAY_AUTH_TOKEN_PATH=")[2] for o in run_options if "TOKEN_PATH" in o)
    assert path in CLUSTER["file_mounts"]
    assert any("--dashboard-host=127.0.0.1" in line for line in CLUSTER["head_start_ray_commands"])


def test_the_documentation_names_the_size_that_the_file_allows():
    told = re.findall(
        r"--cluster-cpus (\d+) --cluster-gpus (\d+)", (ROOT / "docs/cluster.md").read_text()
    )
    assert told
    assert set(told) == {(str(at_its_largest("CPU")), str(at_its_largest("GPU")))}


def test_a_cluster_that_grows_is_shared_out_as_it_will_be():
    with pytest.raises(ConfigError, match=r"no CPU; of one that grows, --cluster-cpus"):
        allocate(0, 0, 1, options())
    with pytest.raises(ConfigError, match=r"no GPU; of one that grows, --cluster-gpus"):
        allocate(4, 0, 1, options(device="cuda"))
    grown = allocate(at_its_largest("CPU"), at_its_largest("GPU"), 20, options())
    assert (grown.encode.most, grown.encode_gpus, grown.decode_cpus) == (4, 1.0, 0.998)
    assert grown.decode.most == at_its_largest("CPU") - 4 - 1


def test_a_ray_that_is_started_here_does_not_grow(command, corpus, tmp_path):
    words = ["embed", str(corpus), "--out", str(tmp_path / "run"), "--encoder", "clip4clip-tiny"]
    done = subprocess.run(
        [*command, *words, "--cluster-cpus", "4"],
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "of a cluster that grows; without --ray-address" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", ["encoder", "encoder=", "=1", "encoder=0", "encoder=inf"])
def test_a_resource_needs_a_name_and_an_amount(words):
    with pytest.raises(ConfigError, match=r"--encode-resources: expected NAME=AMOUNT"):
        options(encode_resources=words)


def test_resources_are_said_by_a_flag_and_by_a_mapping():
    flag = options(encode_resources="accelerator_type:L4=0.01,encoder=1")
    assert flag == options(encode_resources={"accelerator_type:L4": 0.01, "encoder": 1})
    assert allocate(4, 1, 1, flag).encode_resources == {"accelerator_type:L4": 0.01, "encoder": 1.0}


@pytest.fixture(scope="module")
def growing():
    """The worker types of cluster.yaml as processes of this machine: 2 CPUs and one machine of
    each at most, the GPUs declared, and the role of the GPU machines as a resource, for torch finds
    no GPU here.
    """
    types = {}
    for name, kind in WORKERS.items():
        resources = {**kind["resources"], "CPU": 2, "object_store_memory": 150_000_000}
        if "GPU" in resources:
            resources["encoder"] = 1
        types[name] = {"resources": resources, "min_workers": kind["min_workers"], "max_workers": 1}
    # A short path: Ray's sockets lie in it, and their names may have 107 bytes.
    with (
        tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder,
        GrowingCluster(
            Path(folder),
            types,
            max_workers=2,
            upscaling_speed=CLUSTER["upscaling_speed"],
            idle_timeout_minutes=CLUSTER["idle_timeout_minutes"],
        ) as cluster,
    ):
        yield cluster


def embedding(command, cluster, corpus, out, *words) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*command, "embed", str(corpus), "--out", str(out), "--encoder", "clip4clip-tiny", *words],
        env=cluster.environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def embed(*given) -> tuple[int, str]:
    """(The exit code, what was said.)"""
    with embedding(*given) as job:
        try:
            said = job.communicate(timeout=400)[1]
        except subprocess.TimeoutExpired:
            job.kill()
            raise
    return job.returncode, said


def parent(pid: int) -> int:
    try:
        return int(Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_what_a_cluster_does_not_have_and_will_not_get_is_refused_and_nothing_is_waited_for(
    growing, command, corpus, tmp_path
):
    code, said = embed(command, growing, corpus, tmp_path / "run")
    assert code == 2, said
    assert "the Ray cluster has no CPU; of one that grows, --cluster-cpus" in said


def types_of_actors(growing, job) -> dict[str, set[str]]:
    """The types of machine that actors with each class were on, while `job` ran."""
    found: dict[str, set[str]] = {"Encode": set(), "Decode": set()}
    while job.poll() is None:
        members = {member.pid: member.words for member in growing.members()}
        for pid, words in members.items():
            for stage in found:
                if f"({stage}" in words and words.startswith("ray::"):
                    raylet = members.get(parent(pid), "")
                    found[stage] |= {
                        name
                        for name in WORKERS
                        if ("encoder,1" in raylet) == ("GPU" in WORKERS[name]["resources"])
                        and "raylet" in raylet
                    }
        time.sleep(0.2)
    return found


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_job_brings_the_machines_that_decode_and_the_one_that_encodes(
    growing, command, corpus, tmp_path
):
    run = tmp_path / "run"
    assert "node(s) of type" not in growing.log()
    with embedding(
        command, growing, corpus, run, "--device", "cpu",
        "--encode-actors", "2", "--encode-resources", "encoder=0.5",
        "--cluster-cpus", "4", "--cluster-gpus", "1", "--cluster-wait", "300",
    ) as job:  # fmt: skip
        machines = types_of_actors(growing, job)
        said = job.communicate()[1]
    assert job.returncode == 0, said + growing.log()
    assert "waiting for nodes: the first actors need 3.25 CPU, 1 encoder" in said
    assert "the nodes have come" in said
    assert growing.said("Adding 1 node(s) of type encode-gpu-spot")
    assert machines["Encode"] == {"encode-gpu-spot"}
    # The two encoders have taken both CPUs there.
    assert machines["Decode"] == {"decode-spot"}
    assert len(Run.open(str(run)).read(["id"])) == 24


@pytest.mark.ray
@pytest.mark.timeout(600)
@pytest.mark.skipif(torch.cuda.is_available(), reason="it would encode")
def test_an_encoder_that_claims_a_gpu_gets_to_the_machine_that_declares_one(
    growing, command, corpus, tmp_path
):
    code, said = embed(
        command, growing, corpus, tmp_path / "run", "--limit", "2",
        "--cluster-cpus", "4", "--cluster-gpus", "1", "--cluster-wait", "300",
    )  # fmt: skip
    assert code == 1, said
    assert "torch sees no GPU here" in said


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_machines_that_no_type_offers_are_waited_for_as_long_as_was_said(
    growing, command, corpus, tmp_path
):
    code, said = embed(
        command, growing, corpus, tmp_path / "run", "--device", "cuda", "--gpus-per-actor", "2",
        "--cluster-cpus", "4", "--cluster-gpus", "2", "--cluster-wait", "3",
    )  # fmt: skip
    assert code == 1, said
    assert "waiting for nodes: the first actors need 1.139 CPU, 2 GPU" in said
    assert "after 3 s there is no room for the first actors" in said
    assert "`ray status`" in said
    assert "Traceback" not in said
