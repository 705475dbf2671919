"""`--encoder package.module:Class`: the example of the documentation, and what can go wrong."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vidembed
from tests.conftest import ROOT
from vidembed import cli
from vidembed.choice import Choice
from vidembed.encode import own, registry
from vidembed.errors import ConfigError, WeightsError
from vidembed.store.run import Run

NAME = "colours:ColourHistogram"
EXAMPLE = re.search(
    r"^```python\n(.*?)^```", (ROOT / "docs/own-encoder.md").read_text(), re.MULTILINE | re.DOTALL
)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Puts a module into the working directory of this test, which is forgotten afterwards."""
    before, path = set(sys.modules), list(sys.path)
    monkeypatch.chdir(tmp_path)

    def put(name: str, code: str) -> None:
        (tmp_path / f"{name}.py").write_text(code)
        sys.modules.pop(name, None)

    yield put
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
    sys.path[:] = path


@pytest.fixture
def example(write, tmp_path):
    """The folder of the documented example."""
    write("colours", EXAMPLE[1])
    return tmp_path


def changed(old: str, new: str) -> str:
    """The example with one thing else."""
    assert old in EXAMPLE[1]
    return EXAMPLE[1].replace(old, new)


# The example


def test_the_example_is_loaded_by_name_and_knows_colours(example):
    encoder = vidembed.load_encoder(NAME)
    frames = np.zeros((2, 4, 20, 30, 3), np.uint8)
    frames[0, :, :, :, 0] = 230
    frames[1, :, :, :, 2] = 230
    found = encoder.encode_text(["a red ball", "something blue"]) @ encoder.encode_video(frames).T
    assert np.allclose(found, np.eye(2))
    assert encoder.spec.name == NAME


def test_its_table_row_is_what_it_says_of_itself(example, capsys):
    assert cli.main(["encoders", NAME]) == 0
    told = capsys.readouterr().out
    assert "video, text" in told
    assert "32 x 32 pixels" in told
    assert not registry.entry(NAME).shipped


def test_doctor_looks_at_it(example, capsys):
    from vidembed.doctor import _weights

    finding = _weights(NAME, None)
    assert finding.state == "ok"
    assert "histogram, 11-d" in finding.found


def console_script(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """As a user's shell in this folder has it: nothing of the session that other tests share."""
    others = ("PYTHONPATH", "RAY_ADDRESS", "VIDEMBED_DECODE_DRILL")
    return subprocess.run(
        [str(Path(sys.executable).with_name("vidembed")), *words],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k not in others},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )


@pytest.mark.ray
def test_the_console_script_embeds_searches_and_evaluates_in_the_folder_of_the_module(
    example, corpus
):
    def call(*words: str) -> str:
        done = console_script(example, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    call("embed", str(corpus), "--out", "run", "--encoder", NAME, "--progress", "none")
    hits = [json.loads(h) for h in call("search", "red", "--run", "run", "--json").splitlines()]
    with open(corpus, newline="") as file:
        rows = {row["video_id"]: row for row in csv.DictReader(file)}
    red = [
        h["video_id"]
        for h in hits
        if "red" in (rows[h["video_id"]][k] for k in ("color", "background"))
    ]
    assert red == [h["video_id"] for h in hits[: len(red)]]
    assert red
    call("evaluate", "run", "--queries", str(corpus))
    scores = json.loads(next((example / "run" / "evaluation").rglob("*.json")).read_text())
    assert scores["text_to_video"]["R@5"] > 2 * 5 / 24


@pytest.mark.ray
def test_an_encoder_that_fails_to_load_is_one_line_and_the_traceback_is_in_the_log(
    write, tmp_path, corpus
):
    begins = "    def __init__(self, spec, device, dtype):\n"
    write("colours", changed(begins, begins + "        raise RuntimeError('no layer conv9')\n"))
    words = ["embed", str(corpus), "--out", "run", "--encoder", NAME, "--progress", "none"]
    done = console_script(tmp_path, *words)
    assert done.returncode == 1
    assert not done.stdout
    assert done.stderr == "vidembed: RuntimeError: no layer conv9\n"
    assert "in __init__" in (tmp_path / "run" / "logs" / "driver.log").read_text()


@pytest.mark.ray
def test_workers_of_a_session_that_began_elsewhere_find_the_module_too(
    ray_session, example, corpus
):
    out = str(example / "both")
    reports = vidembed.embed(
        str(corpus), out=out, encoder=f"{NAME},again:{NAME}", limit=4, batch_size=2
    )
    assert {label: report.embedded for label, report in reports.items()} == {
        "ColourHistogram": 4,
        "again": 4,
    }
    run = Run.open(f"{out}/ColourHistogram")
    assert run.identity["encoder"] == NAME
    assert vidembed.search("blue", run=run.uri, top=1)
    with pytest.raises(ConfigError, match=r"--out .*ColourHistogram resumes that of"):
        vidembed.embed(str(corpus), out=out, encoder=NAME, limit=4)


@pytest.mark.ray
def test_a_job_whose_vectors_are_not_as_promised_fails_and_says_so(
    ray_session, write, tmp_path, corpus, capsys
):
    write("colours", changed("dim=len(COLOURS)", "dim=7"))
    words = ["embed", str(corpus), "--out", str(tmp_path / "run"), "--encoder", NAME]
    assert cli.main([*words, "--limit", "2", "--progress", "none"]) == 1
    told = capsys.readouterr().err
    last = told.splitlines()[-1]
    assert "encode_video of two gave float32 (2, 11); its spec promises float32 (2, 7)" in last


# Identity


def test_another_source_is_another_encoder_and_the_same_elsewhere_is_the_same(
    write, tmp_path, monkeypatch
):
    write("colours", EXAMPLE[1])
    first = registry.describe(NAME)
    write("colours", changed('"red": (220', '"red": (221'))
    assert registry.describe(NAME).fingerprint != first.fingerprint
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(tmp_path / "colours.py", elsewhere / "colours.py")
    again = registry.describe(NAME).fingerprint
    monkeypatch.chdir(elsewhere)
    assert registry.describe(NAME).fingerprint == again


def test_an_encoder_that_changed_since_it_was_described_is_refused(write):
    write("colours", EXAMPLE[1])
    spec = registry.describe(NAME)
    write("colours", EXAMPLE[1] + "\n")
    with pytest.raises(WeightsError, match="is not what the run was started with"):
        registry.load(spec)


def test_digests_are_of_bytes_in_their_order_and_name_a_file_that_is_absent(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"1")
    two.write_bytes(b"2")
    assert own.digest(one) == own.digest(str(one)) != own.digest(two)
    assert own.digest(one, two) != own.digest(two, one)
    with pytest.raises(WeightsError, match="three: No such file"):
        own.digest(tmp_path / "three")


def test_weights_become_absolute_and_sampling_can_be_asked_for(write, tmp_path):
    write(
        "colours",
        changed('weights="", digest=digest(cls)', "weights=weights, digest=digest(cls, weights)"),
    )
    (tmp_path / "w.bin").write_bytes(b"weights")
    spec = registry.describe(NAME, "w.bin").sampled(count=9)
    assert spec.weights == str(tmp_path / "w.bin")
    assert registry.load(spec, "cpu").spec.clip.sampling.count == 9
    assert registry.entry(NAME).presets == {}
    with pytest.raises(ConfigError, match="describe failed with TypeError"):
        registry.describe(NAME)


# What is wrong is said before anything is started


@pytest.mark.parametrize(
    ("module", "code", "name", "told"),
    [
        ("a1", "", "b1:Class", "there is no module b1 in "),
        (
            "a2",
            "import not_there",
            "a2:Class",
            "a2 cannot be imported: ModuleNotFoundError: No mod",
        ),
        ("a3", "1 / 0", "a3:Class", "a3 cannot be imported: ZeroDivisionError: division by zero"),
        ("a4", "class Other: ...", "a4:Class", "a4 has no class Class; it has: Other"),
        ("a5", "Class = 3", "a5:Class", "a5 has no class Class"),
        ("a6", "class Class: ...", "a6:Class", "lacks a class method describe(weights, preset)"),
        ("a7", "", "a-7:Class", "expected package.module:Class"),
        ("a8", "", "__main__:Class", "put Class into a module that workers can import"),
        ("a9", "", "json.nothing:Class", "(json is "),
    ],
)
def test_a_name_that_leads_nowhere_is_one_clear_message(write, capsys, module, code, name, told):
    write(module, code)
    assert cli.main(["embed", ".", "--out", "run", "--encoder", name]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert f"encoder {name}" in error
    assert len(error.splitlines()) == 1
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("def encode_text", "def encode_words", r"lacks encode_text\(texts\)$"),
        ("dim=len(COLOURS)", "dim=0", "needs a dim of at least 1 and a digest, got dim=0"),
        ("return EncoderSpec(", "return dict(", "describe gave dict, expected an EncoderSpec"),
        ("digest=digest(cls)", "digest=1 / 0", "describe failed with ZeroDivisionError"),
    ],
)
def test_a_class_that_breaks_the_contract_is_refused_without_being_made(write, old, new, told):
    write("colours", changed(old, new))
    with pytest.raises(ConfigError, match=told):
        registry.describe(NAME)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("self.spec = spec", "pass", "lacks spec"),
        ("(rows, np.float32)", "(rows, np.float64)", "encode_video of two gave float64"),
        ("COLOURS] for text in texts", "COLOURS] for text in texts[1:]", r"\(1, 11\)"),
    ],
)
def test_an_encoder_that_is_not_as_described_is_refused_when_it_is_loaded(write, old, new, told):
    write("colours", changed(old, new))
    with pytest.raises(ConfigError, match=told):
        registry.load(registry.describe(NAME))


def test_labels_tell_two_of_one_class_apart_and_a_small_letter_is_explained():
    chosen = Choice.of((NAME, f"other:{NAME}"), None)
    assert [(c.label, c.encoder) for c in chosen] == [("ColourHistogram", NAME), ("other", NAME)]
    with pytest.raises(ValueError, match="begins with a capital letter"):
        Choice.of("my.colours:histogram", None)
