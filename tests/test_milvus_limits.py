"""A Milvus server that limits how fast it is written to."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from tests.helpers.milvus_server import MilvusServer
from tests.helpers.runs import good
from tests.test_milvus_lite import SPEC
from vidembed import schema
from vidembed.store.milvus import Collection
from vidembed.store.milvus_calls import MilvusAwayError

pytestmark = [pytest.mark.milvus]

MB_A_SECOND = 0.03
LIMITS = {
    "quotaAndLimits__enabled": "true",
    "quotaAndLimits__dml__enabled": "true",
    "quotaAndLimits__quotaCenterCollectInterval": 0.5,
} | {
    f"quotaAndLimits__dml__{name}__{level}": MB_A_SECOND
    for name in ("insertRate", "upsertRate")
    for level in ("max", "collection__max")
}


def rows(first: int, count: int) -> pa.Table:
    made = [good(f"v{first + k}", np.eye(4)[k % 4]) for k in range(count)]
    return pa.table(
        {f.name: pa.array([r.get(f.name) for r in made], f.type)
         for f in schema.embeddings(4, pa.schema([]))}
    )  # fmt: skip


def turned_away(collection: Collection, table: pa.Table) -> bool:
    try:
        collection.upsert(table)
    except MilvusAwayError as error:
        return "limit" in str(error).lower()
    return False


def test_a_write_that_a_rate_limit_turns_away_is_tried_again_until_it_is_taken(tmp_path):
    with MilvusServer(tmp_path / "limited", **LIMITS) as server:
        collection = Collection(server.uri, "limited", patience_s=0.0)
        try:
            collection.ensure(replace(SPEC, name="limited"))
            # pymilvus waits for such limits by itself, and most are over before its patience
            # is: without it, what is written again is written again by us.
            collection._call |= {"retry_on_rate_limit": False}
            deadline, first = time.monotonic() + 60, 0
            # The server looks at its rates every half second.
            while not turned_away(collection, rows(first, 200)):
                first += 200
                assert time.monotonic() < deadline
            collection.patient(30.0)
            collection.upsert(rows(first, 200))
            assert collection.count() == first + 200
        finally:
            collection.close()
