"""The recipes of the documentation, run as they stand there.

The data are drawn clips under the data sets' names, in their layouts. The weights have the official
names and shapes, and random numbers. Only the paths at the top of a recipe are others here.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import ray
import torch
from safetensors.torch import load_file

from benchmarks.encoding.seeds import weights
from tests.conftest import ROOT
from tests.helpers import checkpoints
from vidembed.encode import registry
from vidembed.synthetic import write_corpus
from vidembed.synthetic.corpus import CorpusFormat

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

RECIPES = ROOT / "docs" / "recipes"
PLACE = re.compile(r"^([A-Z][A-Z0-9]*)=\S+$", re.MULTILINE)
SECONDS = 600
RETRIEVAL = {"R@1", "R@5", "R@10", "MdR", "MnR", "MRR", "queries", "gallery", "ci95"}


def script(recipe: str, places: Mapping[str, Path]) -> str:
    """All bash of a recipe in its order, with other places at its top."""
    text = (RECIPES / recipe).read_text(encoding="utf-8")
    found = "\n".join(re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    assert set(PLACE.findall(found)) == set(places)
    return PLACE.sub(lambda line: f'{line[1]}="{places[line[1]]}"', found)


def run(recipe: str, places: Mapping[str, Path]) -> str:
    """Run it, in a folder of its own; every step must succeed. Returns what it prints."""
    commands = Path(sys.executable).parent
    # One Ray for all of them: a recipe leaves it to whoever runs it which that is.
    surroundings = {
        "PATH": f"{commands}:{os.environ['PATH']}",
        "RAY_ADDRESS": ray.get_runtime_context().gcs_address,
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script(recipe, places)],
        cwd=places["RUNS"].parent,
        env=os.environ | surroundings,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def evaluation(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "evaluation.json").read_text())
    return found


def shape(table: dict[str, Any]) -> tuple[int, int]:
    return table["queries"], table["gallery"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """(file, caption) of drawn clips, a second or so long."""
    form = CorpusFormat(seconds=(1.0, 1.5), fps=(12, 15))
    manifest = write_corpus(tmp_path_factory.mktemp("drawn"), 8, seed=5, form=form)
    with manifest.open(newline="") as file:
        return [(manifest.parent / row["uri"], row["caption"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def drawn_weights(tmp_path_factory):
    """Random numbers under the names and shapes of an encoder's official file."""
    folder = tmp_path_factory.mktemp("weights")

    def made(encoder: str, name: str, wrapped: str | None = None) -> Path:
        state = load_file(weights(registry.entry(encoder), folder))
        torch.save({wrapped: state} if wrapped else state, folder / name)
        return folder / name

    return made


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def write_csv(path: Path, names: list[str], rows: list[tuple[object, ...]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(rows)


def test_text_to_video_on_msrvtt(clips, tmp_path):
    data = tmp_path / "msrvtt"
    rows = []
    for n, (clip, caption) in enumerate(clips):
        copy(clip, data / "test_1k_compress" / f"video{7010 + n}.mp4")
        rows.append((f"ret{n}", f"msr{7010 + n}", f"video{7010 + n}", caption))
    write_csv(data / "MSRVTT_JSFUSION_test.csv", ["key", "vid_key", "video_id", "sentence"], rows)
    file = checkpoints.write_reference(
        tmp_path / "pytorch_model.bin.1", checkpoints.reference_state()
    )
    runs = tmp_path / "runs"
    printed = run("msrvtt-clip4clip.md", {"MSRVTT": data, "WEIGHTS": file, "RUNS": runs})
    for name in ("towhee", "paper"):
        found = evaluation(runs / name / "evaluation")
        assert (found["layout"], found["left_out"]) == ("msrvtt-1ka", {})
        for direction in ("text_to_video", "video_to_text"):
            assert found[direction].keys() >= RETRIEVAL
            assert shape(found[direction]) == (8, 8)
    through = evaluation(runs / "towhee" / "through-milvus")
    assert through["backend"] == "milvus"
    assert through["milvus"]["ann_recall"]["@10"] > 0
    # Of 8 vectors, 16 lists are all.
    exact = evaluation(runs / "towhee" / "evaluation")["text_to_video"]
    assert through["text_to_video"]["R@5"] == exact["R@5"]
    assert "video70" in printed


def test_reverse_video_search(clips, drawn_weights, tmp_path):
    data = tmp_path / "reverse"
    actions = ("country_line_dancing", "eating_cake")
    rows = []
    for n, (clip, _) in enumerate(clips[:2]):
        action = actions[n]
        copy(clip, data / "train" / action / f"{clip.stem}.mp4")
        rows.append((n, f"./train/{action}/{clip.stem}.mp4", action))
    write_csv(data / "reverse_video_search.csv", ["id", "path", "label"], rows)
    clip, _ = clips[2]
    copy(clip, data / "test" / actions[0] / f"{clip.stem}.mp4")
    places = {
        "DATA": data,
        "X3D": drawn_weights("x3d_m", "X3D_M.pyth", "model_state"),
        "MVIT": drawn_weights("mvit_base_32x3", "MVIT_B_32x3_f294077834.pyth", "model_state"),
        "RUNS": tmp_path / "runs",
    }
    run("reverse-video-search.md", places)
    for name in ("x3d_m_raw", "x3d_m", "mvit_base_32x3"):
        found = evaluation(places["RUNS"] / "train" / name / "evaluation")
        assert (found["layout"], found["left_out"]) == ("reverse-search", {})
        table = found["video_to_video"]
        assert table.keys() >= {"mHR@10", "mAP@10", "mAP_cut@10", "nDCG@10", "ci95"}
        assert shape(table) == (1, 2)
        # All of the gallery is among the first ten.
        assert table["mHR@10"] == 1
    raw = places["RUNS"] / "train" / "x3d_m_raw"
    assert evaluation(raw / "evaluation")["metric"] == "L2"
    through = evaluation(raw / "through-milvus")["video_to_video"]
    assert through["mAP@10"] == evaluation(raw / "evaluation")["video_to_video"]["mAP@10"]


def test_text_to_video_on_youcook2(clips, drawn_weights, tmp_path):
    data, rows = tmp_path / "youcook2", []
    for (clip, caption), name in zip(clips, ("xHr8X2Wpmno", "V53XmPeyjIU"), strict=False):
        copy(clip, data / "validation" / "226" / f"{name}.mp4")
        rows.append((1, 0, 226, caption, name))
    rows.append((9, 4, 105, "a video that could not be had", "mZwK0TBI1iY"))
    write_csv(data / "validation_youcook.csv", ["end", "start", "task", "text", "video_id"], rows)
    file = drawn_weights("s3d_milnce", "s3d_howto100m.pth")
    words = sorted({word for _, caption in clips for word in caption.split()})
    np.save(file.parent / "s3d_dict.npy", np.array([*words, "pour", "the", "salad"]))
    runs = tmp_path / "runs"
    printed = run("youcook2-milnce.md", {"YOUCOOK": data, "WEIGHTS": file, "RUNS": runs})
    found = evaluation(runs / "run" / "evaluation")
    assert found["layout"] == "youcook2"
    assert found["left_out"] == {"failed in the run": 1}
    assert found["text_to_video"].keys() >= RETRIEVAL
    assert shape(found["text_to_video"]) == (2, 2)
    assert found["text_to_video"]["by"]["task"].keys() == {"226"}
    assert "xHr8X2Wpmno_0_1" in printed


def test_both_ways_on_mugen(clips, drawn_weights, tmp_path):
    data, records = tmp_path / "coinrun", []
    for n, (clip, caption) in enumerate(clips[:4]):
        name = f"model_gamev2_reward_1.0_seed_402_level_{n:04}_video_frames_0175_to_0270"
        file = f"model_gamev2_reward_1.0_seed_402/videos/{name}.mp4"
        copy(clip, data / file)
        texts = [{"type": "auto", "text": f"Mugen is {caption}"}]
        # The last one has no manual text.
        texts += [{"type": "manual", "text": caption}] * (n < 3)
        records.append({"video": {"id": name, "video_file": file}, "annotations": texts})
    annotations = data / "coinrun_dataset_jsons" / "release" / "test.json"
    annotations.parent.mkdir(parents=True)
    annotations.write_text(json.dumps({"metadata": {"split": "test"}, "data": records}))
    places = {
        "VIDEOS": data,
        "ANNOTATIONS": annotations,
        "WEIGHTS": drawn_weights("videoclip_mugen", "videoclip_mugen.pt"),
        "RUNS": tmp_path / "runs",
    }
    printed = run("mugen-videoclip.md", places)
    found = evaluation(places["RUNS"] / "run" / "evaluation")
    assert (found["layout"], found["left_out"]) == ("mugen", {"no text": 1})
    for direction in ("text_to_video", "video_to_text"):
        assert found[direction].keys() >= RETRIEVAL
        assert found[direction]["queries"] == 3
    assert shape(evaluation(places["RUNS"] / "run" / "auto")["text_to_video"]) == (4, 4)
    assert "Mugen is killed by a gear" in printed


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.md")), ids=lambda path: path.name)
def test_every_recipe_is_run_here_or_has_nothing_to_run(recipe):
    source = Path(__file__).read_text(encoding="utf-8")
    assert (f'run("{recipe.name}"' in source) == ("```bash" in recipe.read_text(encoding="utf-8"))
