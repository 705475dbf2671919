"""What a Ray that vidembed starts for itself consists of, and that a user's own is left alone."""

from __future__ import annotations

import json
import subprocess
import sys

# In a process of its own: what is counted are its children, and what is replaced is Ray's.
SESSION = """
import json
import os
from pathlib import Path

import ray
import ray._private.node
from ray.data._internal import stats

from vidembed import local_ray


class Double:
    def __call__(self, batch):
        return {"id": batch["id"] * 2}


def lines_below(pid):
    # The command lines of all processes that this one has started. A thread or a process that
    # ends meanwhile is none.
    found = []
    for child in Path(f"/proc/{pid}/task").glob("*/children"):
        for each in read(child).split():
            line = read(Path(f"/proc/{each}/cmdline")).replace(chr(0), " ")
            found += [line, *lines_below(each)]
    return found


def read(path):
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


before = ray._private.node.Node.start_monitor, stats.get_or_create_stats_actor
with local_ray.started(num_cpus=2, logging_level="ERROR"):
    pool = ray.data.ActorPoolStrategy(size=1)
    rows = ray.data.range(6).map_batches(Double, compute=pool).take_all()
    lines = lines_below(os.getpid())
    named = [actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)]
after = ray._private.node.Node.start_monitor, stats.get_or_create_stats_actor
print(json.dumps({
    "rows": sorted(row["id"] for row in rows),
    "processes": lines,
    "named": named,
    "as before": before == after,
    "over": not ray.is_initialized(),
}))
"""


def test_a_ray_of_vidembed_s_own_has_no_processes_that_one_job_has_no_use_for():
    done = subprocess.run(
        [sys.executable, "-c", SESSION], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["rows"] == [0, 2, 4, 6, 8, 10]
    assert any("raylet" in line for line in found["processes"])
    for word in ("log_monitor.py", "monitor.py", "dashboard.py"):
        assert not [line for line in found["processes"] if word in line]
    assert found["named"] == []
    assert found["as before"]
    assert found["over"]


def test_a_clip4clip_is_loaded_and_encodes_without_transformers_and_torch_s_compiler():
    """Each of them takes a second or more to import, in each process that encodes."""
    code = """
import sys
import numpy as np
from vidembed.encode import registry

encoder = registry.load_encoder("clip4clip-tiny", device="cpu")
encoder.encode_video(np.zeros((1, *encoder.spec.clip.shape), np.uint8))
encoder.encode_text(["a red circle"])
print(sorted({"transformers", "torch._dynamo", "sympy"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
