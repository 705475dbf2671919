"""The scores of every text with every row of a run, as one file."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vidembed import retrieval, sources
from vidembed.errors import ConfigError, RunError
from vidembed.query.index import open_run
from vidembed.query.texts import read_texts
from vidembed.remote.filesystems import reached

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from vidembed.config import SimilarityConfig
    from vidembed.query.groups import Group
    from vidembed.query.run_index import RunIndex

# Of scores in memory at once.
_BLOCK_BYTES = 64 << 20
_KEYS = ["id", "video_id", "start_s", "end_s"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Similarity:
    """A matrix that was written. out: where; texts, rows: its shape."""

    out: str
    texts: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """texts: their vectors [texts, dim]. names: what the file says of itself and of its texts."""

    run: RunIndex
    groups: Sequence[Group]
    texts: NDArray[np.float32]
    names: dict[str, Any]

    @property
    def rows(self) -> int:
        return sum(group.rows for group in self.groups)

    def scores(self, texts: slice, group: Group, rows: slice) -> NDArray[np.float32]:
        vectors = self.run.vectors(group)[rows]
        return retrieval.similarity(self.texts[texts], vectors, self.run.metric)


def similarity(config: SimilarityConfig) -> Similarity:
    """Write the matrix, whole or not at all; memory is bounded whatever its size.

    `.npy`: float32 [texts, rows], and before it NAME.json, which names texts and rows. `.parquet`:
    a row for each of the run's, with `scores`, a fixed-size list of float32 [texts], whose texts
    are in the file's metadata `vidembed.texts`. Raises ConfigError, WeightsError or RunError.
    """
    write = _format(config.out)
    out = sources.absolute(config.out)
    texts = read_texts(config.texts, config.text_column)
    with open_run(config.run, weights=config.weights, device=config.device, memory=0) as index:
        run = index.exact
        groups = run.listed()
        names = {
            "texts": texts,
            "metric": index.metric,
            "encoder": index.encoder,
            "fingerprint": index.fingerprint,
            "run": index.place,
        }
        job = _Job(run=run, groups=groups, texts=index.encode_texts(texts), names=names)
        write(job, out)
        return Similarity(out=out, texts=len(texts), rows=job.rows)


def _format(out: str) -> Callable[[_Job, str], None]:
    if out.endswith(".npy"):
        return _write_npy
    if out.endswith(".parquet"):
        return _write_parquet
    raise ConfigError(f"--out {out}: expected a path ending in .npy or .parquet")


def _write_npy(job: _Job, out: str) -> None:
    ids = [key for group in job.groups for key in job.run.read(group, ["id"])["id"].to_pylist()]
    facts = json.dumps({**job.names, "ids": ids})
    with _whole(out) as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (len(job.texts), job.rows)}
        )
        file.flush()
        _fill(job, file.fileno(), file.tell())
        sources.write_whole(f"{out.removesuffix('.npy')}.json", facts.encode())


def _fill(job: _Job, descriptor: int, begin: int) -> None:
    """Each text's scores lie one after the other: a group of rows fills a piece of each."""
    at = 0
    for group in job.groups:
        step = max(1, _BLOCK_BYTES // (4 * group.rows))
        for first in range(0, len(job.texts), step):
            block = job.scores(slice(first, first + step), group, slice(None))
            for text, scores in enumerate(block.astype("<f4", copy=False), start=first):
                _put(descriptor, scores.tobytes(), begin + 4 * (text * job.rows + at))
        at += group.rows


def _put(descriptor: int, data: bytes, at: int) -> None:
    while data:
        done = os.pwrite(descriptor, data, at)
        data, at = data[done:], at + done


def _write_parquet(job: _Job, out: str) -> None:
    count = len(job.texts)
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False), count)
    keys = job.run.read(job.groups[0], _KEYS).schema
    said = {
        f"vidembed.{k}": v if isinstance(v, str) else json.dumps(v) for k, v in job.names.items()
    }
    layout = keys.append(pa.field("scores", kind)).with_metadata(said)
    step = max(1, _BLOCK_BYTES // (4 * count))
    with (
        _whole(out) as file,
        pq.ParquetWriter(file, layout, compression="zstd", use_dictionary=_KEYS) as writer,
    ):
        for group in job.groups:
            table = job.run.read(group, _KEYS)
            for first in range(0, group.rows, step):
                rows = slice(first, first + step)
                scores = np.ascontiguousarray(job.scores(slice(None), group, rows).T)
                column = pa.FixedSizeListArray.from_arrays(pa.array(scores.ravel()), type=kind)
                part = table.slice(first, step).append_column(layout.field("scores"), column)
                writer.write_table(part.cast(layout))


@contextmanager
def _whole(out: str) -> Iterator[IO[bytes]]:
    """A file to write that appears at `out` when all is written, or never."""
    local = sources.is_local(out)
    folder, name = os.path.split(sources.local_path(out)) if local else (tempfile.gettempdir(), "")
    part = os.path.join(folder, f".{name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        os.makedirs(folder, exist_ok=True)
        with open(part, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if local:
            os.replace(part, sources.local_path(out))
        else:
            fs = sources.filesystem(out)
            reached(out, lambda: fs.put_file(part, out))
    except OSError as error:
        raise RunError(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            os.unlink(part)
