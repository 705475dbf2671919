"""The benchmark of encoders runs with torch and transformers alone, and says what it has not
measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.encoding import inputs, measure, seeds
from benchmarks.encoding.report import NOT_YET
from tests.conftest import ROOT
from vidembed.clips import ClipSpec, Resize, Sampling
from vidembed.encode import registry

# What a machine with torch and transformers need not have.
ABSENT = ("ray", "pymilvus", "milvus_lite", "decord", "av", "torchcodec", "pyarrow", "s3fs",
          "aiohttp", "ftfy", "pydantic", "rich", "pandas")  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory, clip_folder):
    """What `benchmarks/encoders.py` leaves, for the shipped encoder and one with given weights."""
    out = tmp_path_factory.mktemp("results")
    script = str(ROOT / "benchmarks" / "encoders.py")
    words = ["--device", "cpu", "--short", "--out", str(out), "--only", "clip4clip",
             "clip4clip-tiny", "--weights", f"clip4clip={clip_folder}",
             "--dtypes", "float32", "bfloat16"]  # fmt: skip
    code = (
        f"import runpy, sys\nfor name in {ABSENT!r}: sys.modules[name] = None\n"
        f"sys.argv = {[script, *words]!r}\nrunpy.run_path({script!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=out
    )
    assert done.returncode == 0, done.stderr
    (record,) = out.glob("encoders-*-cpu.json")
    return json.loads(record.read_text()), record.with_suffix(".md").read_text()


def test_it_runs_from_the_source_tree_with_torch_and_transformers_alone(written):
    record, page = written
    assert record["encoders"].keys() == {"clip4clip", "clip4clip-tiny"}
    assert record["versions"]["torch"] == torch.__version__
    assert record["commit"] in page
    assert record["machine"] in page


def test_types_are_compared_by_cosine_and_speed_is_there_for_each(written):
    record, _ = written
    for result in record["encoders"].values():
        full, half = result["timings"]
        assert (full["dtype"], half["dtype"]) == ("float32", "bfloat16")
        assert full["cosines"] == pytest.approx([1, 1], abs=1e-6)
        assert all(0.99 < cosine < 1 for cosine in half["cosines"])
        assert full["seconds"]["1"] > 0
        assert full["problem"] == half["problem"] == ""
        assert result["gmacs"] > 0
    assert record["peak_flops"] > 0


def test_what_needs_a_gpu_is_said_to_be_not_yet_measured(written):
    _, page = written
    for name in ("clip4clip", "clip4clip-tiny"):
        assert any(f"`{name}`" in line and NOT_YET in line for line in page.splitlines())
    assert "`clip4clip` | real |" in page
    assert "`clip4clip-tiny` | shipped |" in page


def test_multiply_adds_are_those_of_the_table():
    spec = registry.describe("clip4clip-tiny")
    encoder = registry.load(spec, "cpu", "float32")
    counted = measure.giga_macs(encoder, inputs.clips(spec.clip, 1, None))
    assert counted == pytest.approx(float(registry.entry("clip4clip-tiny").gmacs), abs=0.1)


def test_attention_is_counted_on_a_cpu_too():
    class Attends:
        def encode_video(self, frames):
            query = torch.zeros(1, 2, 10, 8)
            torch.nn.functional.scaled_dot_product_attention(query, query, query)

    # Two heads, products of 10 x 8 x 10 and of 10 x 10 x 8.
    assert measure.giga_macs(Attends(), np.zeros(1)) == pytest.approx(2 * 2 * 10 * 10 * 8 / 1e9)


def test_what_is_compiled_is_what_the_encoder_calls_itself():
    spec = registry.describe("clip4clip-tiny")
    encoder = registry.load(spec, "cpu", "float32")
    found = measure.outermost(encoder, inputs.clips(spec.clip, 1, None))
    kinds = [type(module).__name__ for module in found]
    assert kinds[0] == "VisionTower"
    assert "Layer" not in kinds


def test_clips_come_from_files_with_their_frames_evenly_taken(tmp_path):
    video = np.repeat(np.arange(10, dtype=np.uint8), 8 * 8 * 3).reshape(10, 8, 8, 3)
    np.save(tmp_path / "a.npy", video)
    spec = ClipSpec(sampling=Sampling(kind="uniform", count=4), resize=Resize(short_side=8, crop=8))
    found = inputs.clips(spec, 3, tmp_path)
    assert found.shape == (3, 4, 8, 8, 3)
    assert found[2, :, 0, 0, 0].tolist() == [0, 2, 5, 7]
    with pytest.raises(SystemExit, match="holds no"):
        inputs.clips(spec, 1, tmp_path / "empty")


@pytest.mark.parametrize("name", registry.ENTRIES)
def test_weights_can_be_drawn_for_every_encoder_that_does_not_ship_with_its_own(name):
    row = registry.entry(name)
    assert row.shipped or seeds.known(row), f"benchmarks/encoding/seeds.py does not know {name}"


def test_an_encoder_whose_weights_cannot_be_drawn_asks_for_real_ones(tmp_path):
    row = replace(registry.entry("clip4clip-tiny"), package="vidembed.encode.unheard_of")
    with pytest.raises(seeds.NoSeedError, match="--weights clip4clip-tiny=PATH"):
        seeds.weights(row, tmp_path)
