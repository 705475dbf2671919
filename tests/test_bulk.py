"""Bulk loads: files that Milvus imports itself, into a collection that the load makes, once."""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import ROOT
from tests.helpers.milvus_server import MilvusServer
from tests.helpers.runs import good, vectors, write_run
from tests.test_milvus_lite import SPEC, V, embeddings
from vidembed import schema
from vidembed.config import LoadConfig
from vidembed.errors import ConfigError, RunError
from vidembed.loading import load
from vidembed.store.bulk_api import RestImports, imports
from vidembed.store.bulk_files import Stage, import_rows, staged
from vidembed.store.milvus import Collection

pytestmark = [pytest.mark.milvus]

FIELDS = {f.name: "VARCHAR" for f in schema.embeddings(4, pa.schema([])) if f.type == pa.string()}
FIELDS |= dict.fromkeys(("segment", "segments", "frames", "width", "height"), "INT32")
FIELDS |= dict.fromkeys(("start_s", "end_s", "duration_s", "fps"), "DOUBLE")
FIELDS["embedding"] = "FLOAT_VECTOR"


def some(first: int, last: int) -> list[dict]:
    return [good(f"v{k}", V[k % 4]) for k in range(first, last)]


def options(run, milvus, stage, name: str, **more) -> LoadConfig:
    given = {"run": run.uri, "milvus": milvus.uri, "collection": name, "bulk": True}
    return LoadConfig.make({**given, "stage": str(stage), "bulk_megabytes": 1, **more})


@pytest.fixture
def collection(milvus, request):
    """The name of a collection, which is dropped at the end."""
    name = f"bulk_{abs(hash(request.node.name)) % 10**9}"
    yield name
    there = Collection(milvus.uri, name)
    if there.exists():
        there.drop()
    there.close()


# Files


def test_a_file_has_each_field_and_the_rest_of_the_metadata_as_json():
    when = datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC)
    rows = embeddings([good("a", V[0]), good("b", V[1]) | {"caption": None}])
    rows = rows.append_column("views", pa.array([5, 6])).append_column("at", pa.array([when, None]))
    made = import_rows(rows, FIELDS | {"views": "INT64"})
    assert set(made.column_names) == {*FIELDS, "views", "$meta"}
    assert [json.loads(text) for text in made["$meta"].to_pylist()] == [
        {"caption": "this is a", "at": when.isoformat()},
        {},
    ]
    assert made["embedding"].type == pa.list_(pa.float32())
    assert made["embedding"].to_pylist() == V[:2].tolist()


def test_a_missing_text_is_empty_and_a_missing_number_is_named():
    rows = embeddings([good("a", V[0]) | {"caption": None}])
    assert import_rows(rows, FIELDS | {"caption": "VARCHAR"})["caption"].to_pylist() == [""]
    with pytest.raises(RunError, match="a has no views"):
        import_rows(rows, FIELDS | {"views": "INT64"})


def test_half_precision_goes_as_bytes():
    made = import_rows(embeddings([good("a", V[1])]), FIELDS | {"embedding": "FLOAT16_VECTOR"})
    assert made["embedding"].type == pa.list_(pa.uint8())
    found = np.array(made["embedding"][0].as_py(), np.uint8).view("<f2")
    assert found.tolist() == V[1].tolist()


def test_files_are_cut_by_bytes_and_hold_every_row_once(tmp_path):
    rng = np.random.default_rng(0)
    rows = [good(f"v{k}", rng.normal(size=512)) for k in range(1500)]
    run = write_run(tmp_path / "run", rows[:1000], dim=512)
    run.commit(vectors(rows[1000:], 512))
    stage = Stage.under(str(tmp_path / "stage"), "token")
    files = list(staged(run, run.parts(), FIELDS, stage, 1 << 20))
    assert len(files) >= 3
    tables = [pq.read_table(file.path) for file in files]
    assert [len(table) for table in tables] == [file.rows for file in files]
    assert max(table.nbytes for table in tables) < 2 << 20
    ids = pa.concat_tables(tables)["id"].to_pylist()
    assert sorted(ids) == sorted(row["id"] for row in rows)
    stage.clear()
    assert not os.listdir(tmp_path / "stage")


def test_on_s3_the_server_is_told_the_key():
    stage = Stage.under("s3://milvus-bucket/staging", "token")
    where = f"{stage.folder}/000000.parquet"
    assert stage.path(where) == "staging/vidembed-bulk-token/000000.parquet"
    with pytest.raises(ConfigError, match="expected a folder, or s3://"):
        Stage.under("https://example.org/x", "token")


# The real server


def test_a_run_is_imported_and_later_loads_send_only_new_parts(milvus, tmp_path, collection):
    run = write_run(tmp_path / "run", some(0, 3000))
    run.commit(vectors(some(3000, 6000)))
    given = options(run, milvus, tmp_path / "stage", collection, index="HNSW")
    said: list[str] = []
    found = load(given, said.append)
    assert (found.sent, found.missing, found.projected, found.rows) == (6000, 0, 6000, 6000)
    assert any("6,000 rows imported" in line for line in said)
    assert os.listdir(tmp_path / "stage") == []
    there = Collection(milvus.uri, collection)
    hit = there.search(V[1:2], 1)[0][0]
    assert hit["caption"] == f"this is {hit['id']}"
    assert there.made_for()["fingerprint"] == run.fingerprint
    assert there.bulk_token() == ""
    there.close()
    with pytest.raises(ConfigError, match=r"is there already .* leave --bulk out"):
        load(given)
    run.commit(vectors(some(6000, 6010)))
    later = load(given.model_copy(update={"bulk": False, "stage": None}))
    assert (later.sent, later.rows) == (10, 6010)


def test_a_load_that_fails_leaves_a_mark_and_begins_anew(milvus, tmp_path, collection):
    run = write_run(tmp_path / "run", some(0, 20))
    # Servers of 2.3 import longer texts than the field is made for.
    part = run.commit(vectors([good("x" * 2000, V[0])]))
    given = options(run, milvus, tmp_path / "stage", collection)
    with pytest.raises(RunError, match="its id has 2,000 bytes, and the field holds 1,024"):
        load(given)
    assert not list((tmp_path / "stage").glob("*"))
    with pytest.raises(ConfigError, match="half filled by a bulk load"):
        load(given.model_copy(update={"bulk": False, "stage": None}))
    Path(part).unlink()
    said: list[str] = []
    assert load(given, said.append).rows == 20
    assert any("made anew" in line for line in said)


def test_what_the_server_says_of_a_file_that_it_cannot_read_is_said(milvus, tmp_path, collection):
    there = Collection(milvus.uri, collection)
    there.create(replace(SPEC, name=collection))
    file = tmp_path / "broken.parquet"
    file.write_bytes(b"PAR1 broken")
    api = imports(there)
    job = api.start(str(file))
    while not (state := api.state(job)).failed:
        assert not state.over
        time.sleep(0.2)
    assert "file is smaller than indicated" in state.failed
    assert api.find(str(file)) == job
    assert api.find("/never") is None
    there.close()


_KILLED_AT = """
import os, signal, sys
from vidembed.cli import main
from vidembed.store import bulk, ledger, milvus, projection

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

place, name, when = sys.argv[1].split(":")
owner = {"bulk": bulk._Bulk, "ledger": ledger.Ledger, "milvus": milvus.Collection,
         "projection": projection.Projection}[place]
plain = getattr(owner, name)

def after(*words, **more):
    plain(*words, **more)
    die()

setattr(owner, name, die if when == "before" else after)
sys.exit(main(sys.argv[2:]))
"""


def test_a_load_that_is_killed_anywhere_and_begun_again_doubles_nothing(
    milvus, tmp_path, collection
):
    run = write_run(tmp_path / "run", some(0, 400))
    words = ["load", run.uri, "--milvus", milvus.uri, "--collection", collection]
    words += ["--bulk", "--stage", str(tmp_path / "stage")]
    for place in (
        "ledger:note_bulk:after",
        "bulk:_started:after",
        "projection:reconcile:after",
        "ledger:note_held:after",
        "milvus:bulk_finished:before",
    ):
        command = [sys.executable, "-c", _KILLED_AT, place, *words]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert ended.returncode == -signal.SIGKILL, (place, ended.stderr)
    assert load(options(run, milvus, tmp_path / "stage", collection)).rows == 400
    assert os.listdir(tmp_path / "stage") == []


def test_killed_after_the_last_step_it_is_finished(milvus, tmp_path, collection):
    run = write_run(tmp_path / "run", some(0, 40))
    words = ["load", run.uri, "--milvus", milvus.uri, "--collection", collection]
    bulk = ["--bulk", "--stage", str(tmp_path / "stage")]
    command = [sys.executable, "-c", _KILLED_AT, "milvus:bulk_finished:after", *words, *bulk]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    plain = LoadConfig.make({"run": run.uri, "milvus": milvus.uri, "collection": collection})
    found = load(plain)
    assert (found.sent, found.rows) == (0, 40)
    with pytest.raises(ConfigError, match="is there already"):
        load(options(run, milvus, tmp_path / "stage", collection))
    assert load(plain).rows == 40


def test_another_s_half_filled_collection_is_left_alone(milvus, tmp_path, collection):
    one, other = write_run(tmp_path / "one", some(0, 5)), write_run(tmp_path / "two", some(5, 9))
    command = [sys.executable, "-c", _KILLED_AT, "bulk:_started:before", "load", one.uri]
    command += ["--milvus", milvus.uri, "--collection", collection]
    command += ["--bulk", "--stage", str(tmp_path / "stage")]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    with pytest.raises(ConfigError, match="is there already"):
        load(options(other, milvus, tmp_path / "stage", collection))
    assert load(options(one, milvus, tmp_path / "stage", collection)).rows == 5


def test_files_are_staged_on_s3_in_milvus_s_own_bucket(s3, tmp_path):
    host, _, port = s3.endpoint.removeprefix("http://").partition(":")
    run = write_run(tmp_path / "run", some(0, 2000))
    with MilvusServer(
        tmp_path / "own",
        common__storageType="minio",
        minio__address=host,
        minio__port=int(port),
        minio__accessKeyID=s3.environment["AWS_ACCESS_KEY_ID"],
        minio__secretAccessKey=s3.environment["AWS_SECRET_ACCESS_KEY"],
        minio__bucketName="test",
        minio__rootPath="milvus",
    ) as server:
        found = load(options(run, server, f"{s3.bucket}/staging", "videos"))
        assert (found.sent, found.missing, found.rows) == (2000, 0, 2000)
    left = s3.client().list_objects_v2(Bucket="test", Prefix="staging/")
    assert left.get("Contents", []) == []


def test_what_cannot_be_imported_is_refused_before_anything_is_made(tmp_path):
    run = write_run(tmp_path / "run", some(0, 1))
    words = {"run": run.uri, "milvus": str(tmp_path / "x.db"), "bulk": True}
    with pytest.raises(ConfigError, match="--bulk and --stage need each other"):
        LoadConfig.make(words)
    with pytest.raises(ConfigError, match="Milvus Lite has no import"):
        load(LoadConfig.make({**words, "stage": str(tmp_path)}))
    empty = write_run(tmp_path / "empty", [])
    with pytest.raises(ConfigError, match="has no embeddings yet"):
        load(LoadConfig.make({**words, "run": empty.uri, "milvus": "http://x:1", "stage": "/s"}))


# The REST API, as it is documented: the server of the tests is older


class _Documented(BaseHTTPRequestHandler):
    """Answers as the pages of Milvus's RESTful API (v2, Import) say."""

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        action = self.path.removeprefix("/v2/vectordb/jobs/import/")
        server.asked.append((action, body, self.headers.get("Authorization")))
        if action in server.unknown:
            self._say(404, b"404 page not found")
            return
        answer = getattr(self, "_" + action)(body)
        if server.lose and server.lose.pop() == action:
            self._say(503, b"")
            return
        self._say(200, json.dumps(answer).encode())

    def _list(self, body):
        records = [{"jobId": job, "state": "Importing"} for job in self.server.jobs]
        return {"code": 0, "data": {"records": records}}

    def _create(self, body):
        if self.headers.get("Authorization") == "Bearer wrong":
            return {"code": 1800, "message": "user hasn't authenticated"}
        ((path,),) = body["files"]
        job = str(448761313698322011 + len(self.server.jobs))
        self.server.jobs[job] = path
        return {"code": 0, "data": {"jobId": job}}

    def _describe(self, body):
        path = self.server.jobs[body["jobId"]]
        state = {"Failed": "Failed", "slow": "Importing"}.get(path, "Completed")
        return {
            "code": 0,
            "data": {
                "jobId": body["jobId"],
                "collectionName": "quick_setup",
                "state": state,
                "progress": 100,
                "reason": "the file is not there" if state == "Failed" else "",
                "importedRows": 100000,
                "totalRows": 100000,
                "details": [{"fileName": f'id:448 paths:"{path}" ', "importedRows": 100000}],
            },
        }

    _get_progress = _describe

    def _say(self, code, data):
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@contextmanager
def documented(unknown=()):
    with ThreadingHTTPServer(("127.0.0.1", 0), _Documented) as server:
        server.asked, server.jobs, server.lose, server.unknown = [], {}, [], unknown
        server.uri = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_rest_creates_a_job_a_file_and_describes_it(monkeypatch):
    monkeypatch.setenv("MILVUS_TOKEN", "root:secret")
    with documented() as server:
        rest = RestImports(server.uri, "quick_setup")
        assert rest.exists()
        job = rest.start("a6fb/1.parquet")
        body = {"collectionName": "quick_setup", "files": [["a6fb/1.parquet"]]}
        assert server.asked[-1] == ("create", body, "Bearer root:secret")
        state = rest.state(job)
        assert (state.rows, state.over, state.failed) == (100000, True, "")
        assert rest.state(rest.start("Failed")).failed == "the file is not there"
        assert not rest.state(rest.start("slow")).over
        assert rest.find("slow") == list(server.jobs)[-1]
        assert rest.find("never") is None


def test_rest_of_another_word_for_progress_and_none_at_all():
    with documented(unknown=["describe"]) as server:
        rest = RestImports(server.uri, "quick_setup")
        assert rest.state(rest.start("a")).over
    with documented(unknown=["list", "create", "describe", "get_progress"]) as server:
        assert not RestImports(server.uri, "quick_setup").exists()


def test_rest_says_what_the_server_says(monkeypatch):
    from pymilvus.exceptions import MilvusException

    monkeypatch.setenv("MILVUS_TOKEN", "wrong")
    with documented() as server, pytest.raises(MilvusException, match="hasn't authenticated"):
        RestImports(server.uri, "quick_setup").start("a")


def test_a_request_whose_answer_is_lost_is_looked_for_and_not_made_again(
    milvus, tmp_path, monkeypatch
):
    from vidembed.store import bulk
    from vidembed.store.projection import Projection

    monkeypatch.setattr(bulk, "_AGAIN_S", 0.1)
    run = write_run(tmp_path / "run", some(0, 1))
    projection = Projection(run, milvus.uri, "anything")
    given = bulk.BulkOptions(stage="/s", file_bytes=1, patience_s=10)
    each = bulk._Bulk(run, run.parts(), projection, given, print)
    with documented() as server:
        server.lose = ["create"]
        job = each._started(RestImports(server.uri, "quick_setup"), "a.parquet")
        assert server.jobs == {job: "a.parquet"}
        assert [action for action, *_ in server.asked].count("create") == 1
    projection.close()
