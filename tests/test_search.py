"""One query against a run or a collection: the nearest rows, and what cannot be compared."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import vidembed
from tests.helpers import checkpoints as make
from tests.helpers.runs import bad, good, record, vectors, write_run
from tests.helpers.videos import write_video
from vidembed.cli import main
from vidembed.encode import registry
from vidembed.errors import ConfigError, RunMismatchError, WeightsError
from vidembed.store.run import Run

pytestmark = [pytest.mark.milvus]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return make.write_reference(folder / "pytorch_model.bin.0", make.reference_state("seqTransf"))


@pytest.fixture(scope="module")
def spec(weights):
    return registry.describe("clip4clip", str(weights))


@pytest.fixture(scope="module")
def encoder(spec):
    return registry.load(spec, "cpu", "float32")


@pytest.fixture
def run(tmp_path, spec, encoder):
    """Three videos at the places of three texts, in two parts."""
    texts = encoder.encode_text(["a dog runs", "a cat sleeps", "rain"])
    rows = [good(name, vector) for name, vector in zip("abc", texts, strict=True)]
    made = write_run(tmp_path / "run", [*rows[:2], bad("x")], spec)
    made.commit(vectors(rows[2:], spec.dim))
    return made


def test_a_text_finds_the_row_that_lies_nearest(run):
    hits = vidembed.search("a cat sleeps", run=run.uri)
    assert hits[0].id == "b"
    assert hits[0].score == pytest.approx(1, abs=1e-5)
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)
    assert len(hits) == 3
    first = hits[0]
    assert (first.video_id, first.uri) == ("b", "/videos/b.mp4")
    assert (first.start_s, first.end_s) == (0.0, 1.0)
    assert first.metadata == {"caption": "this is b"}


def test_top_limits_the_answer_over_all_parts(run):
    (hit,) = vidembed.search("rain", run=run.uri, top=1)
    assert hit.id == "c"


def test_a_video_finds_itself(tmp_path, run, encoder, spec):
    path = write_video(tmp_path / "query.mp4", frames=72)
    frames, _ = vidembed.read_frames(str(path), count=12, sampling="clip4clip")
    run.commit(vectors([good("self", encoder.encode_video(frames[None])[0])], spec.dim))
    (hit,) = vidembed.search(video=str(path), run=run.uri, top=1)
    assert hit.id == "self"
    assert hit.score == pytest.approx(1, abs=1e-5)


def test_a_query_video_that_cannot_be_decoded_is_named(tmp_path, run):
    (tmp_path / "bad.mp4").write_text("no video")
    with pytest.raises(ConfigError, match=r"--video Unsupported: .*bad\.mp4"):
        vidembed.search(video=str(tmp_path / "bad.mp4"), run=run.uri)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "give one of a text, --video FILE and --id ID"),
        ({"text": "x", "video": "y.mp4"}, "give one of a text, --video FILE and --id ID"),
        ({"text": "x", "run": None}, "give --run RUN, or --milvus URI"),
        ({"text": "x", "milvus": "x.db"}, "give --run RUN, or --milvus URI"),
        ({"text": "x", "top": 0}, "--top: "),
    ],
)
def test_words_that_contradict_each_other_are_refused(options, said, run):
    with pytest.raises(ConfigError, match=said):
        vidembed.search(**{"run": run.uri} | options)


def test_a_place_without_a_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is no run"):
        vidembed.search("x", run=str(tmp_path))


def test_another_encoder_than_the_run_s_is_refused(run):
    with pytest.raises(RunMismatchError, match="was embedded with clip4clip, not clip4clip-tiny"):
        vidembed.search("x", run=run.uri, encoder="clip4clip-tiny")


def test_other_weights_than_the_run_s_are_refused(tmp_path, run):
    other = make.write_reference(tmp_path / "other.bin", make.reference_state(seed=3))
    with pytest.raises(RunMismatchError, match="was embedded with other weights"):
        vidembed.search("x", run=run.uri, weights=str(other))


def test_weights_that_are_gone_are_named(tmp_path):
    path = make.write_reference(tmp_path / "gone.bin", make.reference_state())
    spec = registry.describe("clip4clip", str(path))
    run = write_run(tmp_path / "run", [good("a", np.ones(spec.dim))], spec)
    path.unlink()
    with pytest.raises(WeightsError, match=r"no weights at .*gone\.bin"):
        vidembed.search("x", run=run.uri)


def test_a_run_of_many_parts_is_searched_exactly(tmp_path):
    draw = np.random.default_rng(0)
    every = draw.normal(size=(60, 4)).astype(np.float32)
    run = Run.create_or_resume(str(tmp_path / "run"), record())
    for at in range(0, 60, 7):
        part = every[at : at + 7]
        run.commit(vectors([good(f"v{at + k}", v) for k, v in enumerate(part)]))
    query = draw.normal(size=4).astype(np.float32)
    for top in (1, 5, 60, 100):
        rows = vidembed.open(run.uri).search(vector=query, top=top)
        order = np.argsort(-(every @ query))[:top]
        assert [row.id for row in rows] == [f"v{k}" for k in order]


def test_distances_of_l2_are_squared_and_negative(tmp_path):
    run = Run.create_or_resume(str(tmp_path / "run"), record(metric="L2"))
    run.commit(vectors([good("near", [1, 0, 0, 0]), good("far", [3, 0, 0, 0])]))
    rows = vidembed.open(run.uri).search(vector=np.zeros(4))
    assert [(row.id, row.score) for row in rows] == [("near", -1.0), ("far", -9.0)]


# In a collection


@pytest.fixture
def collection(tmp_path, run):
    uri = str(tmp_path / "lite.db")
    vidembed.load(run.uri, uri)
    return uri


def test_a_collection_gives_the_same_answer_as_its_run(run, collection):
    exact = vidembed.search("a cat sleeps", run=run.uri)
    found = vidembed.search("a cat sleeps", milvus=collection)
    assert [hit.id for hit in found] == [hit.id for hit in exact]
    for one, other in zip(found, exact, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-4)
        assert one.metadata == other.metadata
        assert (one.uri, one.start_s, one.end_s) == (other.uri, other.start_s, other.end_s)


def test_a_collection_is_searched_with_the_weights_it_was_made_with_only(tmp_path, collection):
    other = make.write_reference(tmp_path / "other.bin", make.reference_state(seed=3))
    with pytest.raises(RunMismatchError, match="would compare what does not compare"):
        vidembed.search("x", milvus=collection, weights=str(other))


def test_weights_of_a_collection_may_be_named_from_elsewhere(tmp_path, weights, collection):
    moved = shutil.copy(weights, tmp_path / "moved.bin")
    hits = vidembed.search("rain", milvus=collection, weights=str(moved), top=1)
    assert hits[0].id == "c"


def test_a_collection_that_is_not_there_is_named(collection):
    with pytest.raises(ConfigError, match="has no collection 'other'; it has: videos"):
        vidembed.search("x", milvus=collection, collection="other")


def test_a_collection_of_another_encoder_than_asked_for_is_refused(collection):
    with pytest.raises(RunMismatchError, match="holds vectors of clip4clip, not clip4clip-tiny"):
        vidembed.search("x", milvus=collection, encoder="clip4clip-tiny")


# Of rows that are there already


def test_what_is_there_finds_its_like_and_not_itself(run, collection):
    for place in ({"run": run.uri}, {"milvus": collection}):
        hits = vidembed.search(id="b", **place)
        assert sorted(hit.id for hit in hits) == ["a", "c"]


def test_an_id_needs_no_encoder(tmp_path):
    path = make.write_reference(tmp_path / "gone.bin", make.reference_state())
    spec = registry.describe("clip4clip", str(path))
    run = write_run(tmp_path / "run", [good(k, np.ones(spec.dim)) for k in "ab"], spec)
    path.unlink()
    (hit,) = vidembed.search(id="a", run=run.uri)
    assert hit.id == "b"


# Texts for a video


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("a cat sleeps\n\n  a dog runs \nrain\n", encoding="utf-8")
    return path


def test_texts_are_ranked_for_a_video_that_is_there(run, collection, texts):
    for place in ({"run": run.uri}, {"milvus": collection}):
        hits = vidembed.search(texts=str(texts), id="c", **place)
        assert hits[0].text == "rain"
        assert hits[0].score == pytest.approx(1, abs=1e-4)
        assert sorted(hit.position for hit in hits) == [0, 1, 2]
        assert vidembed.search(texts=str(texts), id="c", top=1, **place) == hits[:1]


def test_texts_are_ranked_for_a_file_without_any_index(tmp_path, weights, encoder, texts):
    path = write_video(tmp_path / "query.mp4", frames=72)
    frames, _ = vidembed.read_frames(str(path), count=12, sampling="clip4clip")
    (video,) = encoder.encode_video(frames[None])
    words = ["a cat sleeps", "a dog runs", "rain"]
    scores = encoder.encode_text(words) @ video
    hits = vidembed.search(
        texts=str(texts), video=str(path), encoder="clip4clip", weights=str(weights)
    )
    order = np.argsort(-scores)
    assert [hit.text for hit in hits] == [words[k] for k in order]
    assert [hit.score for hit in hits] == pytest.approx(scores[order].tolist(), abs=1e-5)


@pytest.mark.parametrize("name", ["texts.csv", "texts.jsonl"])
def test_texts_of_a_table_are_its_caption_sentence_or_text(tmp_path, run, name):
    path = tmp_path / name
    if name.endswith("csv"):
        path.write_text("n,sentence,other\n1,rain,7\n2,a dog runs,8\n", encoding="utf-8")
    else:
        path.write_text(
            '{"sentence": "rain", "other": 7}\n{"sentence": "a dog runs", "other": 8}\n',
            encoding="utf-8",
        )
    hits = vidembed.search(texts=str(path), id="a", run=run.uri)
    assert [hit.text for hit in hits] == ["a dog runs", "rain"]
    with pytest.raises(ConfigError, match=r"no column nothing; it has .*sentence"):
        vidembed.search(texts=str(path), id="a", run=run.uri, text_column="nothing")


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (None, {}, "no such file"),
        (b"\n \n", {}, "there is no text in it"),
        (b"\xff\xfe\x00", {}, "nor UTF-8 text"),
        (b"rain", {"text_column": "caption"}, "is no table, its texts are its lines"),
        (b"rain", {"text": "x", "id": None}, "--texts ranks texts for a video"),
        (b"rain", {"filter": "a == 1"}, "--filter is for a search of videos"),
        (b"rain", {"run": None}, "or with --video an --encoder"),
    ],
)
def test_texts_that_cannot_be_ranked_are_refused(tmp_path, run, content, options, said):
    path = tmp_path / "t.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        vidembed.search(**{"texts": str(path), "id": "a", "run": run.uri} | options)


def test_an_encoder_without_a_text_tower_is_asked_for_no_texts(tmp_path, texts):
    name = "tests.helpers.silent_encoder:Silent"
    spec = registry.describe(name)
    silent = write_run(tmp_path / "silent", [good("a", np.ones(spec.dim))], spec)
    for asked in (
        {"text": "x", "run": silent.uri},
        {"texts": str(texts), "id": "a", "run": silent.uri},
        {"texts": str(texts), "video": "nowhere.mp4", "encoder": name},
    ):
        with pytest.raises(ConfigError, match="Silent has no text tower"):
            vidembed.search(**asked)
    assert not vidembed.open(silent.uri).has_text


# The command


def test_the_command_prints_a_line_of_json_for_each_result(run, texts, capsys):
    assert main(["search", "a cat sleeps", "--run", run.uri, "--json", "--top", "2"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["id"] == "b"
    assert set(lines[0]) == {
        "id", "video_id", "score", "uri", "start_s", "end_s", "metadata", "first_score",
    }  # fmt: skip
    assert len(lines) == 2
    words = ["search", "--texts", str(texts), "--id", "c", "--run", run.uri]
    assert main([*words, "--json"]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert first == {"text": "rain", "score": pytest.approx(1, abs=1e-4), "position": 2}


def test_the_command_prints_a_table_for_people(run, texts, capsys):
    words = ["--run", run.uri]
    assert main(["search", "a cat sleeps", *words, "--filter", "caption like '%b'"]) == 0
    said = capsys.readouterr().out
    assert "this is b" in said
    assert "this is a" not in said
    assert main(["search", "--texts", str(texts), "--id", "a", *words]) == 0
    assert "a dog runs" in capsys.readouterr().out.splitlines()[1]
    assert main(["search", "a cat", *words, "--filter", "caption == 'nothing'"]) == 0
    assert capsys.readouterr().out == "No row fits.\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["x", "--filter", "caption = 'a'"], "--filter"),
        (["x", "--filter", "label == 'a'"], "caption"),
        (["--id", "nobody"], "no row and no video with the id 'nobody'"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_line_with_exit_code_2(run, options, said, capsys):
    assert main(["search", *options, "--run", run.uri]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
