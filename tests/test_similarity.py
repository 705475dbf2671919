"""The matrix of texts and rows, as a file: whole, in bounded memory, or not at all."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

import vidembed
from tests.helpers.runs import good, record, vectors
from vidembed import sources
from vidembed.cli import main
from vidembed.encode import registry
from vidembed.errors import ConfigError, RunError
from vidembed.query import matrix as module
from vidembed.store.run import Run

TEXTS = ["a red circle", "a blue square", "a green triangle", "moving left", "moving up"]


@pytest.fixture(scope="module")
def spec():
    return registry.describe("clip4clip-tiny")


@pytest.fixture(scope="module")
def run(tmp_path_factory, spec):
    """53 rows in five parts."""
    draw = np.random.default_rng(0)
    made = Run.create_or_resume(str(tmp_path_factory.mktemp("similar") / "run"), record(spec))
    for at in range(0, 53, 12):
        rows = [good(f"v{k:02d}", draw.normal(size=spec.dim)) for k in range(at, min(at + 12, 53))]
        made.commit(vectors(rows, spec.dim))
    return made


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(TEXTS), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def expected(run, spec):
    """Scores by id, and by text in the order of the file."""
    encoded = registry.load(spec, "cpu", "float32").encode_text(TEXTS)
    return {
        row["id"]: encoded @ np.array(row["embedding"], np.float32)
        for row in run.read().to_pylist()
    }


@pytest.fixture(params=["whole", "in small blocks"])
def _blocks(request, monkeypatch):
    if request.param == "in small blocks":
        # Two texts of a part, and ten rows of the five texts.
        monkeypatch.setattr(module, "_BLOCK_BYTES", 200)


@pytest.mark.usefixtures("_blocks")
def test_npy_is_a_matrix_of_texts_by_rows_with_their_names_beside(tmp_path, run, texts, expected):
    out = tmp_path / "new" / "scores.npy"
    done = vidembed.similarity(run.uri, texts, str(out))
    assert (done.out, done.texts, done.rows) == (str(out), 5, 53)
    found = np.load(out, mmap_mode="r")
    names = json.loads(out.with_suffix(".json").read_text())
    assert (found.shape, found.dtype) == ((5, 53), np.float32)
    assert found.flags.c_contiguous
    assert names["texts"] == TEXTS
    assert sorted(names["ids"]) == sorted(expected)
    assert (names["encoder"], names["metric"]) == ("clip4clip-tiny", "COSINE")
    assert names["fingerprint"] == run.fingerprint
    np.testing.assert_allclose(found, np.array([expected[k] for k in names["ids"]]).T, atol=1e-4)
    assert sorted(p.name for p in out.parent.iterdir()) == ["scores.json", "scores.npy"]


@pytest.mark.usefixtures("_blocks")
def test_parquet_has_a_row_for_each_of_the_run_s(tmp_path, run, texts, expected):
    out = tmp_path / "scores.parquet"
    vidembed.similarity(run.uri, texts, str(out))
    table = pq.read_table(out)
    assert json.loads(table.schema.metadata[b"vidembed.texts"]) == TEXTS
    assert table.schema.metadata[b"vidembed.fingerprint"].decode() == run.fingerprint
    assert table.column_names == ["id", "video_id", "start_s", "end_s", "scores"]
    assert table.schema.field("scores").type.list_size == 5
    assert sorted(table["id"].to_pylist()) == sorted(expected)
    for row in table.to_pylist():
        np.testing.assert_allclose(row["scores"], expected[row["id"]], atol=1e-4)


def test_both_files_and_the_matrix_in_memory_hold_the_same_numbers(tmp_path, run, texts):
    for name in ("a.npy", "a.parquet"):
        vidembed.similarity(run.uri, texts, str(tmp_path / name))
    table = pq.read_table(tmp_path / "a.parquet")
    with vidembed.open(run.uri) as index:
        assert index.ids() == table["id"].to_pylist()
        matrix = index.similarity(TEXTS)
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), matrix, atol=1e-5)
    np.testing.assert_allclose(np.array(table["scores"].to_pylist()).T, matrix, atol=1e-5)


@pytest.mark.s3
@pytest.mark.parametrize("name", ["scores.npy", "scores.parquet"])
def test_the_matrix_may_go_to_an_object_store(tmp_path, s3, run, texts, expected, name):
    out = f"{s3.bucket}/similarity/{name}"
    vidembed.similarity(run.uri, texts, out)
    local = tmp_path / name
    local.write_bytes(sources.read_whole(out))
    if name.endswith("npy"):
        ids = json.loads(sources.read_whole(out.replace(".npy", ".json")))["ids"]
        found = np.load(local)
    else:
        table = pq.read_table(local)
        ids, found = table["id"].to_pylist(), np.array(table["scores"].to_pylist()).T
    np.testing.assert_allclose(found, np.array([expected[k] for k in ids]).T, atol=1e-4)


@pytest.mark.parametrize("name", ["scores.npy", "scores.parquet"])
def test_a_matrix_that_fails_on_the_way_leaves_nothing(tmp_path, spec, texts, name):
    made = Run.create_or_resume(str(tmp_path / "run"), record(spec))
    for key in "ab":
        made.commit(vectors([good(key, np.ones(spec.dim))], spec.dim))
    with open(made.parts()[-1], "r+b") as file:
        file.seek(file.read().index(np.ones(8, np.float32).tobytes()))
        file.write(b"damaged")
    out = tmp_path / "out"
    with pytest.raises(RunError, match="damaged"):
        vidembed.similarity(made.uri, texts, str(out / name))
    assert list(out.iterdir()) == []


def test_a_matrix_that_was_there_stays_until_the_new_one_is_whole(tmp_path, run, texts):
    out = tmp_path / "scores.npy"
    vidembed.similarity(run.uri, texts, str(out))
    (tmp_path / "one.txt").write_text("a red circle", encoding="utf-8")
    vidembed.similarity(run.uri, str(tmp_path / "one.txt"), str(out))
    assert np.load(out).shape == (1, 53)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"out": "scores.csv"}, "expected a path ending in .npy or .parquet"),
        ({"texts": "nowhere.csv"}, "no such file"),
        ({"texts": "nowhere.txt"}, "no such file"),
        ({"run": "nowhere"}, "is no run"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, run, texts, options, said, capsys):
    words = {"run": run.uri, "texts": texts, "out": str(tmp_path / "x.npy")} | options
    command = ["similarity", words["run"], "--texts", words["texts"], "--out", words["out"]]
    assert main(command) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("x.*"))


def test_a_run_of_another_encoder_s_weights_is_refused(tmp_path, spec, texts):
    identity = spec.identity | {"weights": "0" * 64}
    made = Run.create_or_resume(str(tmp_path / "run"), record(spec, identity=identity))
    made.commit(vectors([good("a", np.ones(spec.dim))], spec.dim))
    with pytest.raises(ConfigError, match=r"expected a path"):
        vidembed.similarity(made.uri, texts, str(tmp_path / "x.txt"))
    assert main(["similarity", made.uri, "--texts", texts, "--out", str(tmp_path / "x.npy")]) == 2


def test_the_command_says_what_it_wrote(tmp_path, run, texts, capsys):
    out = str(tmp_path / "scores.npy")
    assert main(["similarity", run.uri, "--texts", texts, "--out", out]) == 0
    assert capsys.readouterr().out == f"5 texts x 53 rows: {out}\n"
