"""The real Milvus server: indexes and types that Lite lacks, restarts, passwords, writers."""

from __future__ import annotations

import datetime
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest

import vidembed
from tests.helpers.milvus_server import MilvusServer
from tests.helpers.runs import good, vectors, write_run
from tests.test_milvus_lite import ROWS, SPEC, V, embeddings
from vidembed import schema
from vidembed.config import LoadConfig
from vidembed.errors import ConfigError, RunError, RunMismatchError
from vidembed.store.milvus import Collection
from vidembed.store.milvus_calls import MilvusAwayError
from vidembed.store.projection import Projection, collection_spec
from vidembed.store.target import Target

if TYPE_CHECKING:
    from vidembed.store.run import Run

pytestmark = [pytest.mark.milvus]


@pytest.fixture
def opened():
    held = []

    def keep(thing):
        held.append(thing)
        return thing

    yield keep
    for thing in held:
        thing.close()


@pytest.fixture
def collection(milvus, opened, request):
    """A collection of its own for each test, made by the options given."""
    made = []

    def make(**changes) -> Collection:
        name = f"c{abs(hash(request.node.name)) % 10**9}_{len(made)}"
        found = opened(Collection(milvus.uri, name))
        found.ensure(replace(SPEC, name=name, **changes))
        made.append(found)
        return found

    yield make
    for each in made:
        each._client.drop_collection(each.name)


def projection(run, uri, **options) -> Projection:
    config = LoadConfig.make({"run": run.uri, "milvus": uri, **options})
    return Projection.begin(run, uri, collection_spec(run, config, config.collection))


@pytest.mark.parametrize(
    ("index", "params"),
    [
        ("FLAT", {}),
        ("IVF_FLAT", {"nlist": 4}),
        ("HNSW", {"M": 8, "efConstruction": 32}),
        ("DISKANN", {}),
        ("AUTOINDEX", {}),
    ],
)
def test_every_index_finds_the_nearest_and_has_the_parameters_asked_for(index, params, collection):
    made = collection(index=index, index_params=params)
    made.upsert(embeddings(ROWS))
    assert made.search(V[1:2], 1)[0][0]["id"] == "b"
    described = made._client.describe_index(made.name, "embedding")
    assert described["index_type"] == index
    assert {k: int(described[k]) for k in params} == params


@pytest.mark.parametrize("metric", ["IP", "L2"])
def test_other_metrics_order_by_nearness(metric, collection):
    made = collection(metric=metric)
    made.upsert(embeddings(ROWS))
    assert [h["id"] for h in made.search(V[1:2], 3)[0]] == ["b", "c", "a"]


def test_upserts_replace_deletes_delete_and_every_key_is_asked_for(collection):
    made = collection()
    made.upsert(embeddings(ROWS))
    made.upsert(embeddings(ROWS[:2]))
    assert (made.count(), made.lacking(["a", "x", "c"])) == (3, ["x"])
    made.delete(["a", "x"])
    assert (made.count(), made.lacking(["a", "b"])) == (2, ["a"])


def test_float16_vectors_are_refused_where_the_server_finds_the_wrong_ones(collection):
    with pytest.raises(ConfigError, match=r"Milvus 2\.3\..* needs 2\.4 or newer"):
        collection(vector_type="float16")


def test_metadata_columns_may_be_fields_that_split_and_index_a_collection(collection):
    made = collection(
        columns={"caption": "VARCHAR", "views": "INT64"},
        partition_key="caption",
        scalar_index=("views",),
    )
    table = embeddings(ROWS).append_column("views", pa.array([5, 6, 7]))
    made.upsert(table)
    fields = {f["name"]: f for f in made._described()["fields"]}
    assert fields["caption"].get("is_partition_key")
    assert "views" in made._client.list_indexes(made.name)
    found = made._client.query(made.name, filter="views > 5", output_fields=["id", "caption"])
    assert sorted(row["id"] for row in found) == ["b", "c"]
    hit = made.search(V[:1], 1)[0][0]
    assert (hit["caption"], hit["views"]) == ("this is a", 5)


@pytest.mark.parametrize("rows_first", [False, True])
@pytest.mark.parametrize("calls", [0, 1, 2])
def test_a_collection_whose_maker_was_killed_before_its_indexes_were_there_gets_them(
    calls, rows_first, milvus, opened, monkeypatch
):
    wanted = replace(
        SPEC,
        name=f"killed_{calls}_{rows_first}".lower(),
        index="HNSW",
        columns={"views": "INT64"},
        scalar_index=("views",),
    )
    first = opened(Collection(milvus.uri, wanted.name))
    made = []

    def dies_after(*index, **how):
        if len(made) == calls:
            raise KeyboardInterrupt
        made.append(create_index(*index, **how))

    create_index = first._client.create_index
    monkeypatch.setattr(first._client, "create_index", dies_after)
    if calls == 2:
        monkeypatch.setattr(first._client, "load_collection", dies_after)
    with pytest.raises(KeyboardInterrupt):
        first.ensure(wanted)
    found = opened(Collection(milvus.uri, wanted.name))
    try:
        table = embeddings(ROWS).append_column("views", pa.array([5, 6, 7]))
        if rows_first:
            found.upsert(table)
        found.ensure(wanted)
        found.upsert(table)
        assert found._client.describe_index(wanted.name, "embedding")["index_type"] == "HNSW"
        assert "views" in found._client.list_indexes(wanted.name)
        assert (found.count(), found.search(V[1:2], 1)[0][0]["id"]) == (3, "b")
        found.ensure(wanted)
    finally:
        found.drop()


def test_a_missing_text_is_empty_and_a_missing_number_is_an_error_that_names_the_row(collection):
    made = collection(columns={"caption": "VARCHAR"})
    made.upsert(embeddings([good("a", V[0]) | {"caption": None}]))
    assert made.search(V[:1], 1)[0][0]["caption"] == ""
    numbers = collection(columns={"views": "INT64"})
    with pytest.raises(RunError, match="a has no views"):
        numbers.upsert(embeddings(ROWS[:1]).append_column("views", pa.nulls(1, pa.int64())))


def test_fields_come_from_the_manifest_s_columns_and_others_are_refused(milvus, tmp_path, opened):
    run = write_run(tmp_path / "run", ROWS)
    spec = collection_spec(
        run,
        LoadConfig.make({"run": run.uri, "milvus": milvus.uri, "partition_key": "caption"}),
        "videos",
    )
    assert spec.columns == {"caption": "VARCHAR"}
    with pytest.raises(ConfigError, match="no column 'topic'; it has caption"):
        projection(run, milvus.uri, scalar_index="topic")
    plain = opened(projection(run, milvus.uri, collection="plain"))
    with pytest.raises(RunMismatchError, match="has no field caption"):
        projection(run, milvus.uri, collection="plain", scalar_index="caption")
    plain.collection._client.drop_collection("plain")


def test_write_tasks_send_their_parts_themselves_at_the_same_time(milvus, tmp_path, opened):
    rows = [good(f"v{k}", V[k % 4]) for k in range(40)]
    run = write_run(tmp_path / "run", rows[:10])
    each = opened(projection(run, milvus.uri, collection="parallel"))
    target = Target.of(milvus.uri, "parallel")
    parts = [run.commit(vectors(rows[at : at + 10])) for at in (10, 20, 30)]
    threads = [threading.Thread(target=target.send, args=(run, part)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert each.lacking() == run.parts()[:0] + [p for p in run.parts() if p not in parts]
    assert each.catch_up() == 10
    assert (each.count(), each.rows, each.reconcile().missing) == (40, 40, 0)
    each.collection._client.drop_collection("parallel")


def parts_of_ten(folder: Path, count: int) -> Run:
    rows = [good(f"v{k}", V[k % 4]) for k in range(10 * count)]
    run = write_run(folder, rows[:10])
    for at in range(10, len(rows), 10):
        run.commit(vectors(rows[at : at + 10]))
    return run


def test_a_part_that_is_damaged_ends_the_writing_and_what_was_written_is_noted(
    milvus, tmp_path, opened
):
    run = parts_of_ten(tmp_path / "run", 6)
    each = opened(projection(run, milvus.uri, collection="damaged"))
    part = Path(run.parts()[2])
    whole = part.read_bytes()
    part.write_bytes(whole[:100])
    with pytest.raises(RunError, match=part.name):
        each.catch_up()
    assert each.count() == each.rows
    assert 10 <= each.rows < 60
    assert str(part) in each.lacking()
    part.write_bytes(whole)
    each.catch_up()
    assert (each.lacking(), each.rows, each.count()) == ([], 60, 60)
    assert each.reconcile().missing == 0
    each.collection._client.drop_collection("damaged")


_SEND = """
import sys
from vidembed.store.projection import Projection
from vidembed.store.run import Run

projection = Projection(Run.open(sys.argv[1]), sys.argv[2], "interrupted")
projection.collection.patient(300.0)
projection.collection.fields()
print("ready", flush=True)
sys.stdin.readline()
projection.catch_up()
"""


def test_ctrl_c_does_not_wait_for_a_server_that_does_not_answer(milvus, tmp_path, opened):
    run = parts_of_ten(tmp_path / "run", 4)
    each = opened(projection(run, milvus.uri, collection="interrupted"))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", _SEND, run.uri, milvus.uri], **pipes)
    assert process.stdout.readline() == b"ready\n"
    with milvus.paused():
        process.stdin.write(b"go\n")
        process.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(3)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        said = process.communicate(timeout=60)[1].decode()
        seconds = time.monotonic() - began
    assert "KeyboardInterrupt" in said
    assert seconds < 10
    each.catch_up()
    assert (each.lacking(), each.count()) == ([], 40)
    each.collection._client.drop_collection("interrupted")


def test_no_secret_is_shown_where_a_target_is_printed(monkeypatch):
    monkeypatch.setenv("MILVUS_TOKEN", "very-secret")
    target = Target.of("http://127.0.0.1:9", "videos")
    assert target.environment == {"MILVUS_TOKEN": "very-secret"}
    assert "very-secret" not in repr(target)
    assert Target.of("/data/x.db", "videos") is None


def test_requests_are_cut_by_bytes(collection):
    made = collection(dim=1024)
    wide = np.random.default_rng(0).normal(size=(9000, 1024)).astype(np.float32)
    rows = pa.table(
        {
            f.name: pa.FixedSizeListArray.from_arrays(wide.ravel(), 1024)
            if f.name == "embedding"
            else pa.array(_column(f, 9000), f.type)
            for f in schema.embeddings(1024, pa.schema([]))
        }
    )
    assert rows.nbytes > 2 * (16 << 20)
    assert made.upsert(rows) == 9000
    assert made.count() == 9000


def _column(field, n) -> list:
    if field.type == pa.string():
        return [f"v{k}" for k in range(n)]
    return [1] * n


# A server of their own: it is killed, and asks for passwords


def test_a_server_that_is_killed_comes_back_with_all_that_it_took_and_calls_wait_for_it(
    tmp_path, opened
):
    with MilvusServer(tmp_path / "own") as server:
        run = write_run(tmp_path / "run", ROWS[:2])
        each = opened(projection(run, server.uri))
        assert each.catch_up() == 2
        server.kill()
        part = run.commit(vectors(ROWS[2:]))
        each.collection.patient(0.0)
        with pytest.raises(MilvusAwayError):
            each.send(part)
        target = Target.of(server.uri, "videos")
        began = time.monotonic()
        assert not target.send(run, part)
        assert not target.send(run, part)
        assert time.monotonic() - began < 40
        each.collection.patient(90.0)
        later = threading.Timer(3.0, server.start)
        later.start()
        assert each.catch_up() == 1
        later.join()
        assert (each.reconcile().missing, each.count()) == (0, 3)


def test_a_server_that_asks_for_a_password_gets_it_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("MILVUS_TOKEN", raising=False)
    run = write_run(tmp_path / "run", ROWS)
    with MilvusServer(tmp_path / "locked", authorization_enabled=True) as server:
        for token in (None, "root:wrong"):
            if token:
                monkeypatch.setenv("MILVUS_TOKEN", token)
            with pytest.raises(vidembed.VidembedError, match="MILVUS_TOKEN"):
                vidembed.load(run.uri, server.uri)
        monkeypatch.setenv("MILVUS_TOKEN", "root:Milvus")
        found = vidembed.load(run.uri, server.uri)
        assert (found.sent, found.projected, found.rows) == (3, 3, 3)
    about = next((tmp_path / "run" / "projections").glob("*/about.json"))
    assert "root:Milvus" not in about.read_text()


def test_a_server_behind_tls_is_reached_with_its_authority_s_certificate_and_not_without(
    tmp_path, monkeypatch
):
    pem, key = certificate(tmp_path)
    run = write_run(tmp_path / "run", ROWS)
    files = {"server_pem_path": str(pem), "server_key_path": str(key), "ca_pem_path": str(pem)}
    with MilvusServer(tmp_path / "tls", tls_mode=1, **files) as server:
        uri = server.uri.replace("http", "https").replace("127.0.0.1", "localhost")
        monkeypatch.setenv("MILVUS_CA_PEM", str(tmp_path / "absent.pem"))
        with pytest.raises(ConfigError, match=r"MILVUS_CA_PEM=.*no such file"):
            vidembed.load(run.uri, uri)
        monkeypatch.delenv("MILVUS_CA_PEM")
        with pytest.raises(ConfigError, match="does not answer"):
            vidembed.load(run.uri, uri)
        monkeypatch.setenv("MILVUS_CA_PEM", str(pem))
        assert vidembed.load(run.uri, uri).projected == 3


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed one for localhost, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, secret = folder / "server.pem", folder / "server.key"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    return pem, secret
