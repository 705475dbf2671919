"""Rows in files: Parquet, CSV, JSONL, a folder of them, or a folder of videos; read as streams."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from vidembed import sources
from vidembed.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterator

VIDEO_SUFFIXES = frozenset(
    [
        ".mp4",
        ".m4v",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".ts",
        ".m2ts",
        ".mts",
        ".mpg",
        ".mpeg",
        ".flv",
        ".wmv",
        ".ogv",
        ".3gp",
        ".mxf",
        ".gif",
    ]
)
_LISTING_ROWS = 8192


def find(source: str) -> tuple[str, tuple[str, ...]]:
    """What kind of rows `source` holds, and the files they are in; of kind `videos` the folder.

    Raises ManifestError where there are none, or of several kinds.
    """
    if suffix := _format(source):
        if not sources.exists(source):
            raise ManifestError(f"{source}: no such file")
        return suffix, (source,)
    if not sources.is_folder(source):
        if sources.exists(source):
            raise ManifestError(
                f"{source}: not a manifest; expected .parquet, .csv, .jsonl, or a folder"
            )
        raise ManifestError(f"{source}: nothing there")
    files = list(sources.walk_files(source))
    manifests = [f for f in files if _format(f)]
    videos = sum(_is_video(f) for f in files)
    if manifests and videos:
        raise ManifestError(
            f"{source} holds both videos ({videos}) and manifests "
            f"({', '.join(sources.display_name(f) for f in manifests[:3])}): name the manifest"
        )
    if videos:
        return "videos", (source,)
    kinds = sorted({_format(f) for f in manifests})
    if len(kinds) > 1:
        raise ManifestError(f"{source} mixes manifests of different formats: {', '.join(kinds)}")
    if not manifests:
        raise ManifestError(f"{source}: neither a manifest nor a video in this folder")
    return kinds[0], tuple(manifests)


def _format(path: str) -> str:
    name = path.lower().removesuffix(".gz")
    for suffix, kind in ((".parquet", "parquet"), (".csv", "csv"), (".jsonl", "jsonl")):
        if name.endswith(suffix):
            return kind
    return "jsonl" if name.endswith(".ndjson") else ""


def _is_video(path: str) -> bool:
    return posixpath.splitext(path)[1].lower() in VIDEO_SUFFIXES


def read(kind: str, file: str, text: frozenset[str]) -> Iterator[pa.Table]:
    """The rows of one file of `find`, as a stream. text: columns of a CSV that are no numbers,
    even where they look like them.

    Raises ManifestError, and TextColumnError where another column of a CSV turns out to be text.
    """
    try:
        if kind == "videos":
            yield from _listing(file)
        elif kind == "parquet":
            yield from _parquet(file)
        elif kind == "csv":
            yield from _csv(file, text)
        else:
            yield from _jsonl(file)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ManifestError(f"{file}: cannot be read as {kind}: {reason}") from error
    except OSError as error:
        raise ManifestError(f"{file}: cannot be read: {error}") from error


def _listing(folder: str) -> Iterator[pa.Table]:
    names: list[str] = []
    prefix = folder.rstrip("/") + "/"
    for path in sources.walk_files(folder):
        if not _is_video(path):
            continue
        names.append(path)
        if len(names) == _LISTING_ROWS:
            yield _listed(names, prefix)
            names = []
    if names:
        yield _listed(names, prefix)


def _listed(names: list[str], prefix: str) -> pa.Table:
    return pa.table({"video_id": [n.removeprefix(prefix) for n in names], "uri": names})


def _parquet(file: str) -> Iterator[pa.Table]:
    import pyarrow.parquet as pq

    with sources.open_binary(file) as stream:
        reader = pq.ParquetFile(stream)
        for batch in reader.iter_batches(batch_size=65536):
            yield pa.Table.from_batches([batch])


def _csv(file: str, text: frozenset[str]) -> Iterator[pa.Table]:
    from pyarrow import csv

    types: dict[str, pa.DataType] = dict.fromkeys(text, pa.string())
    types |= {"start_s": pa.float64(), "end_s": pa.float64()}
    with sources.open_binary(file) as stream:
        data = pa.PythonFile(stream, mode="r")
        if file.lower().endswith(".gz"):
            data = pa.CompressedInputStream(data, "gzip")
        try:
            reader = csv.open_csv(
                data,
                read_options=csv.ReadOptions(block_size=8 << 20),
                parse_options=csv.ParseOptions(newlines_in_values=True),
                convert_options=csv.ConvertOptions(
                    column_types=types, strings_can_be_null=True, null_values=[""]
                ),
            )
            for batch in reader:
                yield pa.Table.from_batches([batch])
        except pa.ArrowInvalid as error:
            if (name := _column_of(error, file)) and name not in types:
                raise TextColumnError(name) from error
            if name in ("start_s", "end_s"):
                raise ManifestError(
                    f"{file}: column {name} holds something that is no number"
                ) from error
            if "Empty CSV" in str(error):
                raise ManifestError(f"{file}: the manifest has no rows") from error
            raise


class TextColumnError(Exception):
    """A CSV column that began with numbers has something else further down."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def _column_of(error: pa.ArrowInvalid, file: str) -> str | None:
    """The name of the column in `In CSV column #3: … conversion error`."""
    import csv
    import re

    # The row is told where one thread reads.
    found = re.match(r"In CSV column #(\d+): (?:Row #\d+: )?CSV conversion error", str(error))
    if not found:
        return None
    with sources.open_binary(file) as stream:
        data: Any = pa.PythonFile(stream, mode="r")
        if file.lower().endswith(".gz"):
            data = pa.CompressedInputStream(data, "gzip")
        head = data.read(1 << 20).decode("utf-8-sig", "replace")
    return next(csv.reader(head.splitlines()))[int(found.group(1))]


def _jsonl(file: str) -> Iterator[pa.Table]:
    from pyarrow import json

    with sources.open_binary(file) as stream:
        data = pa.PythonFile(stream, mode="r")
        if file.lower().endswith(".gz"):
            data = pa.CompressedInputStream(data, "gzip")
        # One schema for the whole file: a field may first occur in its last line.
        try:
            table = json.read_json(data, read_options=json.ReadOptions(block_size=8 << 20))
        except pa.ArrowInvalid as error:
            if "Empty JSON" in str(error):
                raise ManifestError(f"{file}: the manifest has no rows") from error
            raise
    yield from (table.slice(at, 65536) for at in range(0, len(table), 65536))
