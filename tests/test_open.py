"""A run and a collection, open for queries: the same questions, the same answers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

import vidembed
from tests.helpers.runs import good, record, vectors, write_run
from vidembed.encode import registry
from vidembed.errors import ConfigError, RunError, RunMismatchError
from vidembed.store.compact import compact
from vidembed.store.run import Run

pytestmark = [pytest.mark.milvus]

# Three segments each; captions of the tiny encoder's world.
VIDEOS = [f"video{k}" for k in range(12)]
LABELS = ["cat", "dog", None]
WORDS = ["a red circle", "a blue square", "a green triangle", "moving left", "moving up"]


def _rows(spec):
    encoder = registry.load(spec, "cpu", "float32")
    draw = np.random.default_rng(0)
    texts = encoder.encode_text(WORDS)
    for n, video in enumerate(VIDEOS):
        for segment in range(3):
            vector = texts[(n + segment) % len(texts)] + 0.08 * draw.normal(size=spec.dim)
            row = good(video, vector / np.linalg.norm(vector), segment, 3)
            yield row | {"label": LABELS[n % 3], "year": 2000 + n}


@pytest.fixture(scope="module")
def spec():
    return registry.describe("clip4clip-tiny")


@pytest.fixture(scope="module")
def run(tmp_path_factory, spec):
    """In four parts, one of which has no column `label`, as of an older manifest."""
    rows = list(_rows(spec))
    made = Run.create_or_resume(str(tmp_path_factory.mktemp("open") / "run"), record(spec))
    for at in range(0, len(rows), 9):
        table = vectors(rows[at : at + 9], spec.dim)
        if at:
            labels = pa.array([row["label"] for row in rows[at : at + 9]], pa.string())
            table = table.append_column("label", labels)
        years = pa.array([row["year"] for row in rows[at : at + 9]], pa.int64())
        made.commit(table.append_column("year", years))
    return made


@pytest.fixture(scope="module")
def collection(tmp_path_factory, run):
    uri = str(tmp_path_factory.mktemp("lite") / "videos.db")
    vidembed.load(run.uri, uri)
    return uri


@pytest.fixture(scope="module")
def indexes(run, collection):
    """The run in memory, the run read anew by each query, and the collection."""
    with (
        vidembed.open(run.uri) as kept,
        vidembed.open(run.uri, memory=0) as streamed,
        vidembed.open(collection) as found,
    ):
        yield kept, streamed, found


QUERIES = [
    {"text": "a red circle"},
    {"text": "a red circle", "top": 100},
    {"text": "moving up", "group_by": "video", "top": 5},
    {"text": "moving up", "filter": "label == 'cat' and start_s < 2"},
    {"text": "a blue square", "filter": "year >= 2005 and label in ['dog', 'cat']", "top": 4},
    {"text": "a blue square", "filter": "segment == 0 and year < 2003", "group_by": "video"},
    {"text": "a red circle", "filter": "year > 3000"},
    {"id": "video3#1"},
    {"id": "video3"},
    {"id": "video3", "group_by": "video", "top": 11},
    {"id": "video3", "filter": "year == 2003"},
]


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_run_and_collection_give_the_same_rows(indexes, query):
    kept, *others = (index.search(**query) for index in indexes)
    for other in others:
        assert [hit.id for hit in other] == [hit.id for hit in kept]
        for one, same in zip(other, kept, strict=True):
            assert one.score == pytest.approx(same.score, abs=2e-5)
            assert (one.video_id, one.uri, one.start_s, one.end_s) == (
                same.video_id, same.uri, same.start_s, same.end_s,
            )  # fmt: skip
            assert {k: v for k, v in one.metadata.items() if v is not None} == {
                k: v for k, v in same.metadata.items() if v is not None
            }


def _by_hand(run, spec, query, keep=lambda _row: True):
    """(id, score) of all rows, best first, by a plain product of all vectors."""
    rows = run.read().to_pylist()
    scores = {
        row["id"]: max(float(np.dot(one, row["embedding"])) for one in query)
        for row in rows
        if keep(row)
    }
    return sorted(scores.items(), key=lambda pair: (-round(pair[1], 6), pair[0]))


def test_answers_are_those_of_a_plain_product(run, spec, indexes):
    (text,) = registry.load(spec, "cpu", "float32").encode_text(["a green triangle"])
    expected = _by_hand(run, spec, [text], lambda row: row.get("label") == "dog")
    for index in indexes:
        hits = index.search("a green triangle", filter="label == 'dog'", top=50)
        assert [hit.id for hit in hits] == [key for key, _ in expected]
        assert [hit.score for hit in hits] == pytest.approx([s for _, s in expected], abs=2e-5)


def test_a_video_that_is_there_is_asked_with_all_its_segments_and_is_no_answer(run, spec, indexes):
    own = [row["embedding"] for row in run.read().to_pylist() if row["video_id"] == "video5"]
    expected = _by_hand(run, spec, own, lambda row: row["video_id"] != "video5")
    for index in indexes:
        hits = index.search(id="video5", top=50)
        assert [hit.id for hit in hits] == [key for key, _ in expected]
        assert len(hits) == 33


def test_a_segment_that_is_there_is_asked_alone_and_its_video_is_no_answer(run, spec, indexes):
    own = [row["embedding"] for row in run.read().to_pylist() if row["id"] == "video5#2"]
    expected = _by_hand(run, spec, own, lambda row: row["video_id"] != "video5")
    for index in indexes:
        assert [hit.id for hit in index.search(id="video5#2", top=7)] == [
            key for key, _ in expected[:7]
        ]


def test_by_video_each_comes_once_with_its_best_segment(indexes):
    for index in indexes:
        every = index.search("moving left", top=100)
        grouped = index.search("moving left", top=100, group_by="video")
        best = {}
        for hit in every:
            best.setdefault(hit.video_id, hit.id)
        assert [(hit.video_id, hit.id) for hit in grouped] == list(best.items())
        assert len(grouped) == len(VIDEOS)
        assert index.search("moving left", top=4, group_by="video") == grouped[:4]


def test_a_vector_finds_its_own_row_whatever_its_length(run, indexes):
    row = run.read().to_pylist()[7]
    for index in indexes:
        (hit,) = index.search(vector=5 * np.array(row["embedding"]), top=1)
        assert (hit.id, hit.score) == (row["id"], pytest.approx(1, abs=1e-5))


def test_rows_are_got_by_id_in_the_order_asked_for(indexes):
    for index in indexes:
        one, none, other = index.get(["video9#2", "nobody", "video1#0"])
        assert none is None
        assert (one.id, one.start_s, one.metadata["year"]) == ("video9#2", 2.0, 2009)
        assert (other.id, other.uri) == ("video1#0", "/videos/video1.mp4")


def test_an_index_says_what_it_is(run, collection, spec, indexes):
    kept, _, found = indexes
    assert (kept.kind, kept.place, kept.collection) == ("run", run.uri, None)
    assert (found.kind, found.place, found.collection) == ("collection", collection, "videos")
    for index in indexes:
        assert (index.encoder, index.metric, index.rows) == ("clip4clip-tiny", "COSINE", 36)
        assert index.fingerprint == spec.fingerprint == index.spec.fingerprint
        assert index.has_text
        assert sorted(index.columns) == ["caption", "label", "year"]


def test_texts_are_ranked_for_a_video_by_its_best_segment(spec, run, indexes):
    texts = registry.load(spec, "cpu", "float32").encode_text(WORDS)
    own = [row["embedding"] for row in run.read().to_pylist() if row["video_id"] == "video2"]
    scores = (texts @ np.array(own, np.float32).T).max(axis=1)
    order = np.argsort(-scores)
    for index in indexes:
        hits = index.rank_texts(WORDS, id="video2")
        assert [hit.text for hit in hits] == [WORDS[k] for k in order]
        assert [hit.position for hit in hits] == order.tolist()
        assert [hit.score for hit in hits] == pytest.approx(scores[order].tolist(), abs=2e-5)
        assert index.rank_texts(WORDS, id="video2", top=2) == hits[:2]


def test_the_matrix_of_a_run_is_the_plain_product(run, spec, indexes):
    kept, streamed, found = indexes
    by_id = {row["id"]: row["embedding"] for row in run.read().to_pylist()}
    texts = registry.load(spec, "cpu", "float32").encode_text(WORDS)
    for index in (kept, streamed):
        matrix = index.similarity(WORDS)
        assert (matrix.shape, matrix.dtype) == ((5, 36), np.float32)
        expected = texts @ np.array([by_id[key] for key in index.ids()], np.float32).T
        np.testing.assert_allclose(matrix, expected, atol=1e-5)
    with pytest.raises(ConfigError, match="open the run that it was loaded from"):
        found.similarity(WORDS)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({}, "give one of a text, video=, id= and vector="),
        ({"text": "x", "id": "video1"}, "give one of a text"),
        ({"id": "nobody"}, "no row and no video with the id 'nobody'"),
        ({"text": "x", "top": 0}, "expected 1 or more, got 0"),
        ({"text": "x", "group_by": "label"}, "expected 'video', got 'label'"),
        ({"vector": [1.0, 2.0]}, r"expected finite numbers \[128\]"),
        ({"vector": [float("nan")] * 128}, r"expected finite numbers \[128\]"),
        ({"vector": [0.0] * 128}, "has no direction"),
        ({"text": "x", "filter": "lable == 'cat'"}, "did you mean 'label'"),
        ({"text": "x", "filter": "label =="}, "--filter"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_said(indexes, query, said):
    for index in indexes:
        with pytest.raises(ConfigError, match=said):
            index.search(**query)


def test_parameters_of_an_index_are_for_a_collection(indexes):
    with pytest.raises(ConfigError, match="a run is searched exactly"):
        indexes[0].search("x", search_params={"ef": 8})


def test_another_encoder_than_the_one_that_made_the_vectors_is_refused(run, collection):
    with pytest.raises(RunMismatchError, match="was embedded with clip4clip-tiny, not clip4clip"):
        vidembed.open(run.uri, encoder="clip4clip")
    with pytest.raises(RunMismatchError, match="holds vectors of clip4clip-tiny, not clip4clip"):
        vidembed.open(collection, encoder="clip4clip")


def test_a_collection_s_name_is_not_for_a_run(run):
    with pytest.raises(ConfigError, match=r"is for Milvus, and .* is a run"):
        vidembed.open(run.uri, collection="videos")


def test_a_place_with_nothing_in_it_is_named(tmp_path, spec, collection):
    with pytest.raises(ConfigError, match="is no run"):
        vidembed.open(tmp_path)
    with pytest.raises(ConfigError, match="has no collection 'other'"):
        vidembed.open(collection, collection="other")
    empty = Run.create_or_resume(str(tmp_path / "run"), record(spec))
    with pytest.raises(ConfigError, match="has no embeddings to search"):
        vidembed.open(empty.uri).search("x")


def test_several_threads_get_the_answers_of_one(run, indexes):
    """From the first query on, which loads the encoder and the vectors."""
    texts = [f"{a} {b}" for a in WORDS[:3] for b in WORDS[3:]]
    alone = [[hit.id for hit in indexes[0].search(text, top=5)] for text in texts]
    for index in (vidembed.open(run.uri), *indexes[1:]):
        with ThreadPoolExecutor(len(texts)) as pool:
            together = list(pool.map(lambda text: index.search(text, top=5), texts))  # noqa: B023
        assert [[hit.id for hit in hits] for hits in together] == alone


# A run's own


@pytest.fixture
def random_run(tmp_path):
    """500 rows in ten parts."""
    draw = np.random.default_rng(3)
    made = Run.create_or_resume(str(tmp_path / "random"), record(dim=16))
    for at in range(0, 500, 50):
        some = [good(f"v{at + k:03d}", draw.normal(size=16)) for k in range(50)]
        made.commit(vectors(some, 16))
    return made


@pytest.mark.parametrize("memory", [0, 5 * 50 * 16 * 4, 1 << 30])
def test_the_answer_does_not_depend_on_what_is_kept(random_run, memory):
    draw = np.random.default_rng(4)
    table = random_run.read()
    every = np.stack(table["embedding"].to_pylist()).astype(np.float32)
    with vidembed.open(random_run.uri, memory=memory) as index:
        for _ in range(3):
            query = draw.normal(size=16).astype(np.float32)
            query /= np.linalg.norm(query)
            expected = np.argsort(-(every @ query))[:20]
            hits = index.search(vector=query, top=20)
            assert [hit.id for hit in hits] == [table["id"][int(k)].as_py() for k in expected]


def test_no_more_is_kept_than_was_allowed(random_run):
    part = 50 * 16 * 4
    with vidembed.open(random_run.uri, memory=5 * part) as index:
        index.search(vector=np.ones(16), filter="start_s < 100")
        index.search(id="v003")
        groups = index.exact._groups
        kept = sum(v.nbytes for v in groups._vectors.values())
        kept += sum(column.nbytes for column in groups._columns.values())
        assert part <= kept <= 5 * part
    with vidembed.open(random_run.uri, memory=0) as index:
        index.search(vector=np.ones(16), filter="start_s < 100")
        assert not index.exact._groups._vectors
        assert not index.exact._groups._columns


def test_vectors_that_are_kept_are_not_read_again(random_run):
    with vidembed.open(random_run.uri) as index:
        before = index.search(vector=np.ones(16), top=3)
        for part in random_run.parts():
            vector = random_run.read_part(part)["embedding"][7].as_py()
            with open(part, "r+b") as file:
                file.seek(file.read().index(np.array(vector, np.float32).tobytes()))
                file.write(b"damaged")
        assert index.search(vector=np.ones(16), top=3) == before
        with pytest.raises(RunError, match="damaged"):
            vidembed.open(random_run.uri).search(vector=np.ones(16), top=3)


def test_rows_of_equal_score_come_by_id_from_whatever_part(tmp_path):
    made = Run.create_or_resume(str(tmp_path / "run"), record())
    names = [f"v{k:02d}" for k in np.random.default_rng(0).permutation(40)]
    for at in range(0, 40, 9):
        made.commit(vectors([good(name, [1, 2, 3, 4]) for name in names[at : at + 9]]))
    for top in (1, 7, 40, 99):
        hits = vidembed.open(made.uri).search(vector=np.ones(4), top=top)
        assert [hit.id for hit in hits] == sorted(names)[:top]


def test_an_index_sees_what_a_run_gains_and_survives_its_compaction(random_run):
    with vidembed.open(random_run.uri) as index:
        query = np.full(16, 3.0)
        before = index.search(vector=query, top=5)
        random_run.commit(vectors([good("new", query)], 16))
        assert index.search(vector=query, top=1)[0].id == "new"
        compact(random_run, 1 << 20)
        assert [hit.id for hit in index.search(vector=query, top=6)] == [
            "new", *(hit.id for hit in before),
        ]  # fmt: skip
        assert index.rows == 501
        assert index.get(["v123"])[0].id == "v123"


def test_a_run_report_and_a_path_are_places(tmp_path, random_run):
    class Report:
        out = random_run.uri

    assert vidembed.open(Report()).rows == 500
    assert vidembed.open(tmp_path / "random").rows == 500


def test_parts_of_earlier_versions_are_read(tmp_path):
    """They were written with dictionaries and compression, and elements that may be null."""
    import pyarrow.parquet as pq

    made = write_run(tmp_path / "run", [good(k, np.eye(4)[n]) for n, k in enumerate("abcd")])
    (part,) = made.parts()
    table = made.read_part(part)
    kind = pq.read_schema(part).field("embedding").type
    assert not kind.value_field.nullable
    metadata = pq.read_schema(part).metadata
    pq.write_table(
        table.replace_schema_metadata(metadata), part, compression="zstd", write_page_checksum=True
    )
    assert pq.read_schema(part).field("embedding").type.value_field.nullable
    made.commit(vectors([good("e", [0.5, 0.5, 0.5, 0.5])]))
    assert sorted(made.read()["id"].to_pylist()) == ["a", "b", "c", "d", "e"]
    hits = vidembed.open(made.uri).search(vector=np.eye(4)[2], top=2)
    assert [(hit.id, hit.score) for hit in hits] == [("c", 1.0), ("e", 0.5)]
