"""Milvus Lite: upserts that may be repeated, refusals of what does not compare, and healing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import vidembed
from tests.helpers.runs import CLIP, bad, good, record, vectors, write_run
from vidembed import schema
from vidembed.config import LoadConfig
from vidembed.errors import ConfigError, RunError, RunMismatchError
from vidembed.store.milvus import Collection, CollectionSpec, check_uri, is_lite
from vidembed.store.projection import Projection, collection_spec
from vidembed.store.run import Run

pytestmark = [pytest.mark.milvus]

SPEC = CollectionSpec(
    name="videos",
    dim=4,
    metric="COSINE",
    index="FLAT",
    encoder="clip4clip",
    weights="w",
    fingerprint="f" * 16,
    clip=json.dumps(CLIP.describe()),
)
V = np.eye(4, dtype=np.float32)
ROWS = [good("a", V[0]), good("b", V[1]), good("c", (V[0] + V[1]) / 2**0.5)]


@pytest.fixture
def uri(tmp_path):
    return str(tmp_path / "milvus" / "lite.db")


@pytest.fixture
def opened():
    """Opens collections and projections, and closes them: Lite has a single writer."""
    held = []

    def keep(thing):
        held.append(thing)
        return thing

    yield keep
    for thing in held:
        thing.close()


@pytest.fixture
def collection(uri, opened):
    found = opened(Collection(uri, "videos"))
    found.ensure(SPEC)
    return found


def embeddings(rows) -> pa.Table:
    table = vectors(rows)
    return table.select(schema.embeddings(4, schema.metadata_of(table.schema)).names)


def test_rows_upserted_twice_are_there_once(collection):
    assert collection.upsert(embeddings(ROWS)) == 3
    assert collection.upsert(embeddings(ROWS[:2])) == 2
    assert collection.count() == 3


def test_an_upsert_replaces_the_row_of_the_same_id(collection):
    collection.upsert(embeddings(ROWS))
    collection.upsert(embeddings([good("a", V[3]) | {"caption": "changed"}]))
    ((hit, *_),) = collection.search(V[3:4], 3)
    assert (hit["id"], hit["caption"]) == ("a", "changed")
    assert collection.count() == 3


def test_more_rows_than_a_request_takes_are_all_written(collection):
    many = [good(f"v{k}", V[k % 4]) for k in range(2300)]
    assert collection.upsert(embeddings(many)) == 2300
    assert collection.count() == 2300


def test_a_search_returns_the_nearest_first_with_all_its_fields(collection):
    collection.upsert(embeddings(ROWS))
    first, second = collection.search(np.stack([V[0], V[1]]), 2)
    assert [hit["id"] for hit in first] == ["a", "c"]
    assert [hit["id"] for hit in second] == ["b", "c"]
    assert first[0]["score"] == pytest.approx(1.0, abs=1e-5)
    assert first[1]["score"] == pytest.approx(0.5**0.5, abs=1e-5)
    expected = {k: v for k, v in good("a", V[0]).items() if k != "embedding"}
    assert {k: first[0][k] for k in expected} == expected


def test_a_collection_whose_maker_was_killed_before_its_index_was_there_gets_it(
    uri, opened, monkeypatch
):
    first = opened(Collection(uri, "videos"))

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(first._client, "create_index", killed)
    with pytest.raises(KeyboardInterrupt):
        first.ensure(SPEC)
    first.close()
    found = opened(Collection(uri, "videos"))
    found.ensure(SPEC)
    found.upsert(embeddings(ROWS))
    assert (found.count(), found.search(V[1:2], 1)[0][0]["id"]) == (3, "b")
    assert found.index_facts().kind == "FLAT"


def test_metadata_of_any_type_goes_into_the_dynamic_field(collection):
    import datetime

    table = embeddings(ROWS[:1])
    table = table.append_column("tags", pa.array([["x", "y"]]))
    table = table.append_column("made", pa.array([datetime.date(2024, 5, 1)]))
    table = table.append_column("nothing", pa.nulls(1, pa.string()))
    collection.upsert(table)
    ((hit,),) = collection.search(V[:1], 1)
    assert (hit["tags"], hit["made"]) == (["x", "y"], "2024-05-01")
    assert "nothing" not in hit


def test_a_collection_says_what_it_was_made_for(collection):
    made = collection.made_for()
    assert made["encoder"] == "clip4clip"
    assert made["fingerprint"] == "f" * 16
    assert json.loads(made["clip"]) == json.loads(SPEC.clip)
    collection.ensure(SPEC)


@pytest.mark.parametrize(
    "other", [{"fingerprint": "e" * 16}, {"metric": "L2"}], ids=["encoder", "metric"]
)
def test_a_collection_of_another_kind_is_refused(other, collection):
    with pytest.raises(RunMismatchError, match="vectors of two kinds do not compare"):
        collection.ensure(replace(SPEC, **other))


def test_a_collection_that_vidembed_did_not_make_is_refused(uri, opened):
    from pymilvus import MilvusClient

    Path(uri).parent.mkdir()
    client = MilvusClient(uri=uri)
    client.create_collection("foreign", dimension=4)
    client.close()
    with pytest.raises(ConfigError, match="carries no fingerprint"):
        opened(Collection(uri, "foreign")).ensure(replace(SPEC, name="foreign"))


def test_a_collection_that_is_not_there_is_named_with_those_that_are(collection, uri, opened):
    collection.close()
    with pytest.raises(ConfigError, match="has no collection 'other'; it has: videos"):
        opened(Collection(uri, "other")).made_for()


def test_an_index_that_lite_has_not_is_refused_instead_of_silently_replaced(uri, opened):
    with pytest.raises(ConfigError, match="Milvus Lite has no DISKANN index"):
        opened(Collection(uri, "videos")).ensure(replace(SPEC, index="DISKANN"))


@pytest.mark.parametrize("index", ["FLAT", "IVF_FLAT", "HNSW", "AUTOINDEX"])
def test_every_index_that_lite_has_finds_the_nearest(index, uri, opened):
    collection = opened(Collection(uri, "videos"))
    collection.ensure(replace(SPEC, index=index))
    collection.upsert(embeddings(ROWS))
    assert collection.search(V[1:2], 1)[0][0]["id"] == "b"


@pytest.mark.parametrize("metric", ["IP", "L2"])
def test_other_metrics_order_by_nearness(metric, uri, opened):
    collection = opened(Collection(uri, "videos"))
    collection.ensure(replace(SPEC, metric=metric))
    collection.upsert(embeddings(ROWS))
    assert [h["id"] for h in collection.search(V[1:2], 3)[0]] == ["b", "c", "a"]


def test_addresses_are_checked_before_anything_is_started():
    assert is_lite("/data/x.db")
    assert is_lite("x.db")
    assert not is_lite("http://host:19530")
    check_uri("https://host:19530")
    for wrong in ("milvus", "localhost:19530", "/data/milvus", "s3://bucket/x.db"):
        with pytest.raises(ConfigError, match=r"expected a path ending in \.db"):
            check_uri(wrong)


def test_a_server_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.delenv("MILVUS_TOKEN", raising=False)
    with pytest.raises(ConfigError, match=r"Milvus at http://127\.0\.0\.1:9 does not answer"):
        Collection("http://127.0.0.1:9", "videos")


# From a run's Parquet


def projection(run: Run, uri: str, **spec) -> Projection:
    options = LoadConfig.make({"run": run.uri, "milvus": uri, **spec})
    return Projection.begin(run, uri, collection_spec(run, options, options.collection))


def test_what_a_run_has_is_projected_once(tmp_path, uri, opened):
    run = write_run(tmp_path / "run", [*ROWS[:2], bad("x")])
    first = opened(projection(run, uri))
    assert (first.catch_up(), first.rows, first.count()) == (2, 2, 2)
    assert first.catch_up() == 0
    run.commit(vectors(ROWS[2:]))
    assert (first.catch_up(), first.rows, first.count()) == (1, 3, 3)
    first.close()
    again = opened(projection(run, uri))
    assert (again.catch_up(), again.rows) == (0, 3)


def test_the_ledger_is_beside_the_run_and_names_no_secret(tmp_path, uri, opened, monkeypatch):
    monkeypatch.setenv("MILVUS_TOKEN", "very-secret")
    run = write_run(tmp_path / "run", ROWS)
    opened(projection(run, uri)).catch_up()
    (ledger,) = (tmp_path / "run" / "projections").iterdir()
    assert json.loads((ledger / "about.json").read_text())["collection"] == "videos"
    (note,) = ledger.glob("*.in")
    assert note.name == f"{Path(run.parts()[0]).stem}.3.in"
    assert not any("very-secret" in file.read_text() for file in ledger.iterdir())


def test_a_collection_whose_files_were_deleted_is_filled_again(tmp_path, uri, opened):
    run = write_run(tmp_path / "run", ROWS)
    first = projection(run, uri)
    first.catch_up()
    first.close()
    place = Path(uri)
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    healed = opened(projection(run, uri))
    assert (healed.catch_up(), healed.count()) == (3, 3)


def test_a_part_that_was_sent_and_not_noted_is_sent_again_without_harm(tmp_path, uri, opened):
    run = write_run(tmp_path / "run", ROWS)
    first = projection(run, uri)
    first.catch_up()
    first.close()
    shutil.rmtree(tmp_path / "run" / "projections")
    again = opened(projection(run, uri))
    assert (again.catch_up(), again.count()) == (3, 3)


def test_keys_that_got_lost_are_found_missing_and_written_again(tmp_path, uri, opened):
    run = write_run(tmp_path / "run", ROWS)
    first = opened(projection(run, uri))
    first.catch_up()
    assert (first.reconcile().keys, first.reconcile().missing) == (3, 0)
    first.collection.delete(["b"])
    # A row of another run keeps the count as it was.
    first.collection.upsert(embeddings([good("other", V[2])]))
    found = first.reconcile()
    assert (found.keys, found.missing) == (3, 1)
    assert first.collection.lacking(["a", "b", "c", "other", "never"]) == ["never"]


def test_what_a_run_has_removed_is_deleted_once_and_not_where_it_came_back(tmp_path, uri, opened):
    run = write_run(tmp_path / "run", ROWS)
    each = opened(projection(run, uri))
    each.catch_up()
    run.keep("embeddings", lambda table: pc.equal(table["id"], "c"))
    run.commit(vectors(ROWS[:1]))
    each.catch_up()
    assert each.count() == 3
    assert each.withdraw() == 1
    assert (each.count(), each.collection.lacking(["a", "b", "c"])) == (2, ["b"])
    assert each.withdraw() == 0


def test_what_is_removed_embedded_and_removed_again_is_deleted_again(tmp_path, uri, opened):
    run = write_run(tmp_path / "run", ROWS)
    each = opened(projection(run, uri))
    for _ in range(2):
        run.commit(vectors(ROWS))
        each.catch_up()
        run.keep("embeddings", lambda table: pc.not_equal(table["id"], "a"))
        assert (each.withdraw(), each.count()) == (1, 2)


def test_two_runs_of_one_encoder_share_a_collection(tmp_path, uri, opened):
    for name, rows in (("one", ROWS[:2]), ("two", ROWS[2:])):
        each = projection(write_run(tmp_path / name, rows), uri)
        assert each.catch_up() == len(rows)
        total = each.count()
        each.close()
    assert total == 3


def test_a_run_of_another_encoder_is_kept_out(tmp_path, uri):
    first = projection(write_run(tmp_path / "one", ROWS), uri)
    first.close()
    other = Run.create_or_resume(str(tmp_path / "two"), record(fingerprint="e" * 16))
    with pytest.raises(RunMismatchError):
        projection(other, uri)


def test_load_says_what_it_sent_and_what_is_there(tmp_path, uri):
    run = write_run(tmp_path / "run", [*ROWS, bad("x")])
    first = vidembed.load(run.uri, uri)
    assert (first.sent, first.missing, first.projected, first.rows) == (3, 0, 3, 3)
    again = vidembed.load(run.uri, uri)
    assert (again.sent, again.projected, again.rows) == (0, 3, 3)


def test_load_of_a_damaged_part_names_it(tmp_path, uri):
    run = write_run(tmp_path / "run", ROWS)
    part = Path(run.parts()[0])
    part.write_bytes(b"PAR1")
    with pytest.raises(RunError, match=part.name):
        vidembed.load(run.uri, uri)


def test_load_of_what_is_no_run_is_refused(tmp_path, uri):
    with pytest.raises(ConfigError, match="is no run"):
        vidembed.load(str(tmp_path), uri)
