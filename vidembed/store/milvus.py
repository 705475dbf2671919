"""A Milvus collection: made, checked, written by upsert, searched."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from vidembed.errors import ConfigError, RunMismatchError
from vidembed.store.milvus_calls import Asking, check_uri, connect, disconnect, is_lite
from vidembed.store.milvus_index import IndexFacts, index_facts
from vidembed.store.milvus_rows import fields_of, records
from vidembed.store.milvus_search import Searching

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["Collection", "CollectionSpec", "check_uri", "is_lite"]

# Bytes a request: a server takes 64 MiB, and answers sooner to less.
_BATCH_BYTES = 16 << 20
# Milvus Lite takes long over more rows than these at once; keys are asked for in as many.
_BATCH_ROWS = 1000
_PROPERTY = "vidembed."
_BULK = _PROPERTY + "bulk"
_INDEX_PARAMS: dict[str, dict[str, int]] = {
    "IVF_FLAT": {"nlist": 1024},
    "HNSW": {"M": 16, "efConstruction": 200},
}
_MADE_FOR = ("encoder", "weights", "fingerprint", "metric", "clip")


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionSpec:
    """What a collection is for: vectors of one encoder, compared by one metric.

    clip: sampling and preprocessing as JSON, so that a search by video prepares its query alike.
    index_params: over the usual ones. vector_type: `float32` or `float16`. columns: metadata that
    are fields of their own, by name, with their type; the others are dynamic. partition_key,
    scalar_index: which of `columns` rows are spread by, and which are indexed for filters. bulk:
    what marks a collection as half filled, by the bulk load that makes it.
    """

    name: str
    dim: int
    metric: str
    index: str
    encoder: str
    weights: str
    fingerprint: str
    clip: str
    index_params: dict[str, Any] = field(default_factory=dict)
    vector_type: str = "float32"
    columns: dict[str, str] = field(default_factory=dict)
    partition_key: str | None = None
    scalar_index: tuple[str, ...] = ()
    bulk: str = ""


class Collection:
    """One collection of one server, or of one Milvus Lite folder.

    Milvus Lite has a single writer: open it in one process at a time. patience_s: see `Asking`;
    call_s: of one call.
    """

    def __init__(self, uri: str, name: str, patience_s: float = 10.0, call_s: float = 30.0) -> None:
        """Connect. Raises ConfigError where nothing answers or the token is refused."""
        self.uri, self.name = uri, name
        # By itself pymilvus would try for minutes, in the middle of a stage.
        self._call = {"timeout": call_s}
        self._ask = connect(uri)
        self._ask.patience_s = patience_s
        self._client = self._ask.client
        self._fields: dict[str, Any] = {}
        self._searching = Searching(self)

    @property
    def is_lite(self) -> bool:
        return is_lite(self.uri)

    def patient(self, seconds: float) -> None:
        """From now on, wait so long for what passes by itself."""
        self._ask.patience_s = seconds

    @property
    def asking(self) -> Asking:
        """The connection, for calls that are no others' business."""
        return self._ask

    def close(self) -> None:
        """Disconnect; Milvus Lite gives its folder free for other processes."""
        disconnect(self._ask)

    def current(self) -> Collection:
        """The collection that an alias means now, on the same connection; itself, where it is no
        alias.

        A search that goes by an alias may be answered from two collections: Milvus 2.3 looks the
        alias up once for the nearest rows and once more for their fields.
        """
        name = str(self._described()["collection_name"])
        if name == self.name:
            return self
        found = copy.copy(self)
        found.name, found._fields, found._searching = name, {}, Searching(found)
        return found

    def exists(self) -> bool:
        return bool(self._ask(lambda: self._client.has_collection(self.name, **self._call)))

    def collections(self) -> list[str]:
        """The names of all collections there."""
        return list(self._ask(lambda: self._client.list_collections(**self._call)))

    def made_for(self) -> dict[str, str]:
        """The encoder, weights, fingerprint and metric that the collection holds vectors of.

        Raises ConfigError where there is no such collection or vidembed did not make it.
        """
        if not self.exists():
            names = self.collections()
            raise ConfigError(
                f"{self.uri} has no collection {self.name!r}; it has: {', '.join(names) or 'none'}"
            )
        found = self._described().get("properties") or {}
        made = {k: str(found.get(_PROPERTY + k, "")) for k in _MADE_FOR}
        if not made["fingerprint"]:
            raise ConfigError(
                f"collection {self.name!r} in {self.uri} carries no fingerprint: vidembed did not "
                f"make it; name another --collection"
            )
        return made

    def ensure(self, spec: CollectionSpec) -> None:
        """Make the collection, or check that it is the one that `spec` describes, and whole.

        Raises RunMismatchError where it holds vectors of another encoder or metric.
        """
        self._refuse_what_it_lacks(spec)
        if not self.exists():
            self.create(spec)
            return
        if (behind := self.current().name) != self.name:
            raise ConfigError(
                f"{self.name!r} in {self.uri} is an alias, of {behind}: `vidembed reindex` writes "
                f"what stands behind it; name another --collection"
            )
        made = self.made_for()
        if self.bulk_token():
            raise ConfigError(
                f"collection {self.name!r} in {self.uri} is half filled by a bulk load that was "
                f"not finished: repeat that `load --bulk`, or drop the collection"
            )
        for what, wanted in (("fingerprint", spec.fingerprint), ("metric", spec.metric)):
            if made[what] != wanted:
                raise RunMismatchError(
                    f"collection {self.name!r} in {self.uri} was made for {made['encoder']} with "
                    f"{what} {made[what]}, not {spec.encoder} with {wanted}: vectors of two kinds "
                    f"do not compare; name another --collection"
                )
        absent = sorted(set(spec.columns) - set(self.fields()))
        if absent:
            raise RunMismatchError(
                f"collection {self.name!r} in {self.uri} has no field {', '.join(absent)}: fields "
                f"for --partition-key and --scalar-index are made with a collection; name another "
                f"--collection"
            )
        self._complete(spec)

    def _check_half_precision(self) -> None:
        if self.is_lite:
            raise ConfigError("Milvus Lite has float32 vectors only; --vector-type is for a server")
        version = self.version()
        # 2.3 takes such vectors, keeps them, and finds the wrong ones.
        if version < (2, 4):
            raise ConfigError(
                f"Milvus {'.'.join(map(str, version))} at {self.uri} does not search float16 "
                f"vectors rightly: it needs 2.4 or newer; leave --vector-type out"
            )

    def version(self) -> tuple[int, ...]:
        """The server's, as numbers: 2, 3, 5."""
        said = str(self._ask(lambda: self._client.get_server_version(**self._call)))
        return tuple(int(n) for n in re.findall(r"\d+", said)[:3])

    def _refuse_what_it_lacks(self, spec: CollectionSpec) -> None:
        if self.is_lite and spec.index == "DISKANN":
            raise ConfigError("Milvus Lite has no DISKANN index; use HNSW or IVF_FLAT, or a server")
        if spec.vector_type != "float32":
            self._check_half_precision()

    def create(self, spec: CollectionSpec) -> None:
        """Make the collection, which is not there. Raises ConfigError for what Milvus lacks."""
        self._refuse_what_it_lacks(spec)
        layout = self._client.create_schema(auto_id=False, enable_dynamic_field=True)
        for name, kind, params in fields_of(spec):
            layout.add_field(name, kind, **params)
        properties = {
            _PROPERTY + "encoder": spec.encoder,
            _PROPERTY + "weights": spec.weights,
            _PROPERTY + "fingerprint": spec.fingerprint,
            _PROPERTY + "metric": spec.metric,
            _PROPERTY + "clip": spec.clip,
        }
        if spec.bulk:
            properties[_BULK] = spec.bulk
        self._ask(
            lambda: self._client.create_collection(
                spec.name,
                schema=layout,
                properties=properties,
                consistency_level="Strong",
            ),
        )
        self._complete(spec)

    def _complete(self, spec: CollectionSpec) -> None:
        """Make the indexes that are not there. Collection and indexes are calls of their own, and
        whoever made the one may have been killed before the other.
        """
        absent = [
            name
            for name in ("embedding", *spec.scalar_index)
            if not self._ask(partial(self._client.list_indexes, spec.name, name, **self._call))
        ]
        if not absent:
            return
        for name in absent:
            index = self._client.prepare_index_params()
            index.add_index(name, **(_vector_index(spec) if name == "embedding" else {}))
            # Rows that are there already are indexed in the server's time.
            build = partial(self._client.create_index, spec.name, index, sync=False, **self._call)
            self._ask(build)
        self.load()

    def drop(self) -> None:
        """Delete the collection, with all rows of whoever wrote them."""
        self._ask(lambda: self._client.drop_collection(self.name, **self._call))

    def bulk_token(self) -> str:
        """Of the bulk load that is filling the collection; empty where none is."""
        return str((self._described().get("properties") or {}).get(_BULK) or "")

    def bulk_finished(self) -> None:
        """From now on it is a collection like any other."""
        self._ask.alter(self.name, {_BULK: ""}, **self._call)

    def upsert(self, rows: pa.Table) -> int:
        """Write rows of `schema.embeddings`, keyed by `id`; any repetition is harmless."""
        typed = self.fields()
        width = max(1, rows.nbytes // max(1, len(rows)))
        step = max(1, min(_BATCH_BYTES // width, _BATCH_ROWS if self.is_lite else 10 * _BATCH_ROWS))
        for at in range(0, len(rows), step):
            some = records(rows.slice(at, step), typed)
            self._ask(partial(self._client.upsert, self.name, some, **self._call))
        return len(rows)

    def delete(self, ids: Sequence[str]) -> None:
        """Delete the rows of these keys; those that are not there are no error."""
        for at in range(0, len(ids), _BATCH_ROWS):
            some = list(ids[at : at + _BATCH_ROWS])
            self._ask(partial(self._client.delete, self.name, ids=some, **self._call))

    def lacking(self, ids: Sequence[str]) -> list[str]:
        """Those of these keys that the collection does not have."""
        found: set[str] = set()
        self.load()
        for at in range(0, len(ids), _BATCH_ROWS):
            some = list(ids[at : at + _BATCH_ROWS])
            rows = self._ask(
                partial(self._client.get, self.name, ids=some, output_fields=["id"], **self._call)
            )
            found.update(row["id"] for row in rows)
        return [key for key in ids if key not in found]

    def count(self) -> int:
        """Rows that a search would see, deleted ones left out."""
        self.load()
        found = self._ask(
            lambda: self._client.query(
                self.name, filter="", output_fields=["count(*)"], **self._call
            )
        )
        return int(found[0]["count(*)"])

    def search(
        self,
        vectors: NDArray[np.float32],
        top: int,
        *,
        filter: str = "",  # noqa: A002
        params: Mapping[str, Any] | None = None,
        group_by: str | None = None,
        fields: Sequence[str] | None = None,
        consistency: str | None = None,
    ) -> list[list[dict[str, Any]]]:
        """The `top` nearest rows of each vector [n, dim], best first: fields, `id` and `score`, the
        collection's own measure. Fewer where there are not so many, or an index gives back
        no more.

        filter: see docs/filters.md; params: of the index, as {"ef": 128}; group_by: a field of
        which each value comes once, with its best row; fields: which to bring, by default all but
        the vector; consistency: `Strong` waits for all that was written before, up to 0.2 s on a
        server, and is a collection's own; `Eventually` does not. Raises ConfigError for a filter or
        parameters that the collection does not take.
        """
        return self._searching.search(
            vectors,
            top,
            filter=filter,
            params=params,
            group_by=group_by,
            fields=fields,
            consistency=consistency,
        )

    def get(
        self,
        ids: Sequence[str],
        fields: Sequence[str] | None = None,
        *,
        consistency: str | None = None,
    ) -> list[dict[str, Any] | None]:
        """The row of each key, None where there is none. fields: which to bring, by default all but
        the vector; `embedding` comes as float32 [dim]. consistency: see `search`.
        """
        return self._searching.get(ids, fields, consistency)

    def columns(self) -> list[str]:
        """The names of the metadata, as the first rows have it."""
        return self._searching.columns()

    def index_facts(self) -> IndexFacts:
        """The index's kind, metric and parameters, as far as the server tells, and the rows."""
        return index_facts(self)

    def flush(self) -> None:
        """Have what was written become segments that are not written to any more."""
        self._ask(lambda: self._client.flush(self.name, **self._call))

    def refresh(self) -> None:
        """Have searches see what was imported, or indexed, while the collection was loaded."""
        if self.is_lite:
            # It waits for what never comes where it is asked for the other.
            self._ask(lambda: self._client.release_collection(self.name, **self._call))
            self.load()
            return
        self.load()
        self._ask(lambda: self._client.refresh_load(self.name, **self._call))

    def load(self) -> None:
        """Have it answer."""
        # A collection is released by a restart of Lite; to load one that is loaded costs nothing.
        self._ask(lambda: self._client.load_collection(self.name, **self._call))

    def _described(self) -> dict[str, Any]:
        found: dict[str, Any] = self._ask(
            lambda: self._client.describe_collection(self.name, **self._call)
        )
        return found

    def fields(self) -> dict[str, str]:
        """The fields that are no dynamic ones, and their types."""
        if not self._fields:
            fields = self._described()["fields"]
            self._fields = {each["name"]: each["type"].name for each in fields}
        return self._fields

    def dim(self) -> int:
        """Of the vectors."""
        fields = {each["name"]: each for each in self._described()["fields"]}
        return int(fields["embedding"]["params"]["dim"])


def _vector_index(spec: CollectionSpec) -> dict[str, Any]:
    params = _INDEX_PARAMS.get(spec.index, {}) | spec.index_params
    return {"index_type": spec.index, "metric_type": spec.metric, "params": params}
