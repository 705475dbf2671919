"""The manifests and the image of docs/kubernetes are what Kubernetes, KubeRay and vidembed take."""

from __future__ import annotations

import copy
import fnmatch
import json
import re
import shlex

import pytest
import ray
import yaml
from jsonschema import Draft7Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from tests.conftest import ROOT
from vidembed import cli

FOLDER = ROOT / "docs" / "kubernetes"
SCHEMAS = ROOT / "tests" / "schemas"
SECRET = re.compile(r"change-me$|\.example\.org$")
# Where the schema of each kind is.
KINDS = {
    "ConfigMap": "kubernetes.json#/$defs/io.k8s.api.core.v1.ConfigMap",
    "CronJob": "kubernetes.json#/$defs/io.k8s.api.batch.v1.CronJob",
    "Role": "kubernetes.json#/$defs/io.k8s.api.rbac.v1.Role",
    "RoleBinding": "kubernetes.json#/$defs/io.k8s.api.rbac.v1.RoleBinding",
    "Secret": "kubernetes.json#/$defs/io.k8s.api.core.v1.Secret",
    "ServiceAccount": "kubernetes.json#/$defs/io.k8s.api.core.v1.ServiceAccount",
    "RayCluster": "kuberay.json#/$defs/RayCluster",
    "RayCronJob": "kuberay.json#/$defs/RayCronJob",
    "RayJob": "kuberay.json#/$defs/RayJob",
}
REGISTRY = Registry().with_resources(
    (name, Resource.from_contents(json.loads((SCHEMAS / name).read_text()), DRAFT7))
    for name in ("kubernetes.json", "kuberay.json")
)
MANIFESTS = {
    f"{path.name}: {found['kind']} {number}": found
    for path in sorted(FOLDER.glob("*.yaml"))
    for number, found in enumerate(yaml.safe_load_all(path.read_text()))
}


def one(file: str, kind: str):
    (found,) = [m for name, m in MANIFESTS.items() if name.startswith(f"{file}: {kind} ")]
    return found


def problems(manifest) -> list[str]:
    validator = Draft7Validator({"$ref": KINDS[manifest["kind"]]}, registry=REGISTRY)
    return [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
        for error in validator.iter_errors(manifest)
    ]


def cluster():
    return one("raycluster.yaml", "RayCluster")["spec"]


def groups():
    return cluster()["workerGroupSpecs"]


def limit(group, name: str) -> float:
    (container,) = group["template"]["spec"]["containers"]
    return amount(container["resources"]["limits"].get(name, "0"))


def amount(quantity: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(\D*)", quantity).groups()
    return float(number) * {"": 1, "m": 1e-3, "Mi": 2**20, "Gi": 2**30}[unit]


@pytest.mark.parametrize("name", MANIFESTS)
def test_kubernetes_and_kuberay_know_every_field(name):
    assert problems(MANIFESTS[name]) == []


# Of each manifest at several depths: its own fields, KubeRay's, and those of a pod.
@pytest.mark.parametrize(
    ("file", "kind", "where", "wrong"),
    [
        ("raycluster.yaml", "RayCluster", ("spec",), "enableInTreeAutoscalling"),
        ("raycluster.yaml", "RayCluster", ("spec", "authOptions"), "secret"),
        ("raycluster.yaml", "RayCluster", ("spec", "autoscalerOptions"), "idleTimeout"),
        ("raycluster.yaml", "RayCluster", ("spec", "workerGroupSpecs", 1), "maxReplica"),
        ("raycluster.yaml", "RayCluster",
         ("spec", "workerGroupSpecs", 0, "template", "spec", "containers", 0), "volumeMount"),
        ("raycluster.yaml", "RayCluster",
         ("spec", "headGroupSpec", "template", "spec", "volumes", 0, "emptyDir"), "limit"),
        ("rayjob.yaml", "RayJob", ("spec",), "shutdownAfterJobFinish"),
        ("raycronjob.yaml", "RayCronJob", ("spec", "jobTemplate"), "entryPoint"),
        ("cronjob.yaml", "CronJob", ("spec",), "concurency"),
        ("cronjob.yaml", "CronJob", ("spec", "jobTemplate", "spec", "template", "spec"), "image"),
        ("cronjob.yaml", "Role", ("rules", 0), "verb"),
        ("config.yaml", "ConfigMap", (), "dat"),
        ("service-account.yaml", "ServiceAccount", ("metadata",), "annotation"),
    ],
)  # fmt: skip
def test_a_misspelt_field_is_found(file, kind, where, wrong):
    manifest = copy.deepcopy(one(file, kind))
    place = manifest
    for step in where:
        place = place[step]
    place[wrong] = "x"
    assert any(wrong in problem for problem in problems(manifest))


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("authOptions", "mode"), "tokens"),
        (("autoscalerOptions", "version"), "v3"),
        (("headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("workerGroupSpecs", 0, "maxReplicas"), "8"),
    ],
)
def test_a_wrong_value_is_found(where, value):
    manifest = copy.deepcopy(one("raycluster.yaml", "RayCluster"))
    place = manifest["spec"]
    for step in where[:-1]:
        place = place[step]
    place[where[-1]] = value
    assert problems(manifest)


def test_all_three_have_the_same_cluster_and_both_jobs_are_one():
    job = one("rayjob.yaml", "RayJob")["spec"]
    assert job["rayClusterSpec"] == cluster()
    assert one("raycronjob.yaml", "RayCronJob")["spec"]["jobTemplate"] == job


def test_kuberay_goes_by_the_version_of_ray_that_is_in_the_image():
    assert cluster()["rayVersion"] == ray.__version__
    assert f"ray=={ray.__version__}\n" in (ROOT / ".ci/constraints.txt").read_text()


def test_a_cluster_has_a_token_grows_and_shrinks_to_its_head():
    assert cluster()["authOptions"] == {"mode": "token"}
    assert cluster()["enableInTreeAutoscaling"]
    assert cluster()["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in [cluster()["headGroupSpec"], *groups()]:
        assert group["template"]["spec"]["restartPolicy"] == "Never"
    for group in groups():
        assert group["minReplicas"] == group["replicas"] == 0 < group["maxReplicas"]


def test_the_job_counts_on_what_the_groups_may_grow_to():
    options = yaml.safe_load(one("config.yaml", "ConfigMap")["data"]["refresh.yaml"])
    for name, told in (("cpu", "cluster_cpus"), ("nvidia.com/gpu", "cluster_gpus")):
        assert options[told] == sum(g["maxReplicas"] * limit(g, name) for g in groups())


def test_rays_objects_have_room_in_shared_memory_and_requests_are_limits():
    for group in [cluster()["headGroupSpec"], *groups()]:
        pod = group["template"]["spec"]
        (shm,) = [v["emptyDir"] for v in pod["volumes"] if v["name"] == "shm"]
        assert shm["medium"] == "Memory"
        assert amount(shm["sizeLimit"]) >= 0.3 * limit(group, "memory")
        assert {"name": "shm", "mountPath": "/dev/shm"} in pod["containers"][0]["volumeMounts"]
        resources = pod["containers"][0]["resources"]
        assert resources["requests"] == resources["limits"]


def test_gpus_are_asked_for_where_the_image_has_cuda_and_where_gpu_nodes_are_tolerated():
    for group in groups():
        pod = group["template"]["spec"]
        image = pod["containers"][0]["image"]
        tolerated = {t["key"] for t in pod["tolerations"]}
        gpus = bool(limit(group, "nvidia.com/gpu"))
        assert gpus == image.endswith(":cuda") == ("nvidia.com/gpu" in tolerated)
        assert "spot" in tolerated


def test_what_a_manifest_refers_to_is_made_by_another():
    made = {(m["kind"], m["metadata"].get("name")) for m in MANIFESTS.values()}
    for group in [cluster()["headGroupSpec"], *groups()]:
        pod = group["template"]["spec"]
        assert ("ServiceAccount", pod["serviceAccountName"]) in made
        for volume in pod["volumes"]:
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in made
        for container in pod["containers"]:
            for source in container.get("envFrom", []):
                assert ("Secret", source["secretRef"]["name"]) in made
            for variable in container.get("env", []):
                wanted = variable["valueFrom"]["secretKeyRef"]
                (secret,) = [
                    m for m in MANIFESTS.values() if m["metadata"].get("name") == wanted["name"]
                ]
                assert wanted["key"] in secret["stringData"]


def test_no_secret_is_in_a_manifest():
    for manifest in MANIFESTS.values():
        if manifest["kind"] == "Secret":
            assert all(SECRET.search(value) for value in manifest["stringData"].values())
    data = one("config.yaml", "ConfigMap")["data"]
    assert not re.search(r"token|secret|password", "".join(data.values()), re.IGNORECASE)


def test_the_commands_of_the_job_are_vidembeds_and_so_are_their_options(tmp_path):
    data = one("config.yaml", "ConfigMap")["data"]
    entry = shlex.split(one("rayjob.yaml", "RayJob")["spec"]["entrypoint"])
    mounted = "/etc/vidembed/"
    program, name, flag, path = entry
    assert (program, name, flag) == ("vidembed", "refresh", "--config")
    local = tmp_path / path.removeprefix(mounted)
    local.write_text(data[local.name])
    words = cli.make_parser().parse_args([name, "--config", str(local)])
    assert words.command == name
    given = yaml.safe_load(local.read_text())
    options = cli.COMMANDS[name].options.make(given)
    for key, value in given.items():
        assert options.plain()[key] == value, key
    with pytest.raises(Exception, match="unknown option --cluster-cpu"):
        cli.COMMANDS[name].options.make({**given, "cluster_cpu": 1})


def test_no_two_nights_work_at_once():
    """By what creates jobs, by a deadline shorter than a day, and by the run's own lease."""
    assert one("cronjob.yaml", "CronJob")["spec"]["concurrencyPolicy"] == "Forbid"
    assert one("cronjob.yaml", "CronJob")["spec"]["schedule"] == "0 1 * * *"
    assert one("rayjob.yaml", "RayJob")["spec"]["activeDeadlineSeconds"] < 24 * 3600
    options = yaml.safe_load(one("config.yaml", "ConfigMap")["data"]["refresh.yaml"])
    assert options["if_running"] == "wait"


def test_the_cron_job_may_create_the_job_that_it_is_given():
    created = one("rayjob.yaml", "RayJob")
    # `kubectl create` makes a name; a fixed one would be there already the next night.
    assert "name" not in created["metadata"]
    (rule,) = one("cronjob.yaml", "Role")["rules"]
    assert rule == {"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create"]}
    pod = one("cronjob.yaml", "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"] == ["create", "--filename=/jobs/rayjob.yaml"]
    (volume,) = pod["volumes"]
    told = f"kubectl create configmap {volume['configMap']['name']} --from-file=docs/kubernetes/"
    assert f"{told}rayjob.yaml" in (FOLDER / "cronjob.yaml").read_text()


def instructions() -> list[tuple[str, str]]:
    lines = [
        line
        for line in (FOLDER / "Dockerfile").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    whole = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in whole.splitlines()]


def ignored(path: str) -> bool:
    """By .dockerignore: the last line that fits decides."""
    answer = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!")
            if path == pattern or fnmatch.fnmatch(path, pattern) or path.startswith(f"{pattern}/"):
                answer = not line.startswith("!")
    return answer


def test_the_image_copies_what_there_is_and_docker_is_shown_nothing_else():
    copied = [
        source for word, rest in instructions() if word == "COPY" for source in rest.split()[:-1]
    ]
    assert {"vidembed", "jobs", ".ci/constraints.txt", "pyproject.toml"} <= set(copied)
    for source in copied:
        assert (ROOT / source).exists()
        assert not ignored(source)
    for name in (".git", ".venv/bin/python", "tests/conftest.py", "runs/videos/a.mp4", "docs"):
        assert ignored(name)


def test_the_image_has_the_environment_of_the_makefile():
    commands = " ".join(rest for word, rest in instructions() if word == "RUN")
    makefile = (ROOT / "Makefile").read_text()
    for part in ("grep '^torch==' .ci/constraints.txt", "-c .ci/constraints.txt"):
        assert part in makefile
        assert part in commands
    (base,) = [rest for word, rest in instructions() if word == "FROM"]
    assert base.startswith("python:3.11-")
    users = [rest for word, rest in instructions() if word == "USER"]
    assert users == [
        str(cluster()["headGroupSpec"]["template"]["spec"]["securityContext"]["runAsUser"])
    ]
