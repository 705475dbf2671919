"""The manifest: found, read as a stream, checked row by row, in one shape whatever its format."""

from __future__ import annotations

from dataclasses import dataclass, field
from string import Formatter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidembed import formats, schema, sources
from vidembed.errors import ManifestError
from vidembed.hashing import hash_ids, order_of, repeated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


ID_COLUMNS = ("video_id", "id")
URI_COLUMNS = ("uri", "path", "video_path")
_ABSOLUTE = ("/", "s3://", "https://", "http://", "gs://", "abfs://", "hf://")


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns hold ids and addresses, where the user says so.

    template: the address made of columns, `videos/{video_id}.mp4`, in place of one that holds it.
    """

    id: str | None = None
    uri: str | None = None
    template: str | None = None

    @property
    def parts(self) -> tuple[tuple[str, str | None], ...]:
        """The template as (what stands there, the column that follows or None), in order.

        Raises ManifestError where it is no template.
        """
        if self.template is None:
            return ()
        try:
            found = list(Formatter().parse(self.template))
        except ValueError as error:
            raise ManifestError(f"--uri-template {self.template}: {error}") from error
        if any(how or kind for _, _, how, kind in found):
            raise ManifestError(
                f"--uri-template {self.template}: expected names of columns alone in braces"
            )
        if not any(name for _, name, _, _ in found):
            raise ManifestError(
                f"--uri-template {self.template}: it names no column, as "
                f"videos/{{video_id}}.mp4 does"
            )
        return tuple((text, name) for text, name, _, _ in found)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A checked manifest.

    files: the manifest files, or (kind `videos`) the folder of videos.
    rows: how many; metadata: the schema of all columns that are not the manifest's own.
    strings: columns of CSV files that must be read as text, for some later row is no number.
    """

    source: str
    kind: str
    files: tuple[str, ...]
    columns: Columns
    rows: int
    metadata: pa.Schema
    strings: frozenset[str] = field(default_factory=frozenset)

    @property
    def folder(self) -> str:
        """Where the manifest is: relative addresses start here."""
        alone = self.kind != "videos" and self.files == (self.source,)
        return sources.parent(self.source) if alone else self.source

    def tables(self) -> Iterator[pa.Table]:
        """The rows as tables of `schema.MANIFEST` and metadata, in order, read as a stream."""
        wanted = pa.schema([*schema.MANIFEST, *self.metadata])
        for table, _, _ in _normalised(
            self.kind, self.files, self.source, self.columns, self.strings
        ):
            yield _conform(table, wanted)


def open_manifest(source: str, columns: Columns | None = None) -> Manifest:
    """Find and check a manifest, reading it once through.

    Raises ManifestError that names the file, row or column, and ConfigError where the place cannot
    be reached. The memory this takes is 24 bytes a row.
    """
    columns = columns or Columns()
    source = sources.absolute(source)
    kind, files = formats.find(source)
    if columns.parts and kind == "videos":
        raise ManifestError(f"{source} is a folder of videos: leave out --uri-template")
    strings: frozenset[str] = frozenset()
    while True:
        try:
            rows, metadata = _check(kind, files, source, columns, strings)
            break
        except formats.TextColumnError as column:
            strings |= {column.name}
    if rows == 0:
        raise ManifestError(f"{source}: the manifest has no rows")
    return Manifest(source, kind, files, columns, rows, metadata, strings)


def _check(
    kind: str, files: tuple[str, ...], source: str, columns: Columns, strings: frozenset[str]
) -> tuple[int, pa.Schema]:
    """Read everything once: count, metadata schema, and what is wrong with any row."""
    rows = 0
    metadata: pa.Schema | None = None
    seen: list[NDArray[np.uint64]] = []
    for table, file, first in _normalised(kind, files, source, columns, strings):
        _check_rows(table, file, first)
        found = pa.schema([f for f in table.schema if f.name not in schema.MANIFEST.names])
        metadata = found if metadata is None else _unified(metadata, found, file)
        seen.append(hash_ids(table["video_id"]))
        rows += len(table)
    # By halves of them first: that takes a third of the memory, and as a rule it is enough.
    if _repeats([hashes[:, 0] for hashes in seen]):
        _check_unique(np.concatenate(seen), kind, files, source, columns, strings)
    return rows, metadata if metadata is not None else pa.schema([])


def _check_rows(table: pa.Table, file: str, first: int) -> None:
    for name in ("video_id", "uri"):
        empty = pc.fill_null(_blank(table[name]), True)
        _refuse(empty, file, first, f"has no {name}")
    for name in ("start_s", "end_s"):
        _refuse(pc.is_nan(table[name]), file, first, f"has no number as {name}")
    start = pc.fill_null(table["start_s"], 0.0)
    _refuse(pc.less(start, 0.0), file, first, "has a start_s below 0")
    wrong = pc.fill_null(pc.less_equal(table["end_s"], start), False)
    _refuse(wrong, file, first, "has an end_s that is not after its start_s")


def _refuse(wrong: Any, file: str, first: int, what: str) -> None:
    row = pc.index(wrong, True).as_py()
    if row >= 0:
        raise ManifestError(f"{file}: row {first + row + 1} {what}")


def _repeats(values: list[NDArray[np.uint64]]) -> bool:
    every = np.concatenate([np.empty(0, np.uint64), *values])
    every.sort()
    return bool((every[1:] == every[:-1]).any())


def _check_unique(
    hashes: NDArray[np.uint64],
    kind: str,
    files: tuple[str, ...],
    source: str,
    columns: Columns,
    strings: frozenset[str],
) -> None:
    order = order_of(hashes)
    same = repeated(hashes[order])
    if not same.any():
        return
    pair = np.sort(order[np.flatnonzero(same)[0] :][:2])
    found: list[tuple[str, int, str]] = []
    position = 0
    for table, file, first in _normalised(kind, files, source, columns, strings):
        for row in pair:
            if position <= row < position + len(table):
                at = int(row) - position
                found.append((file, first + at + 1, table["video_id"][at].as_py()))
        position += len(table)
    (file_a, row_a, name), (file_b, row_b, _) = found
    where = f"{file_a}: rows {row_a} and {row_b}"
    if file_a != file_b:
        where = f"{file_a} row {row_a} and {file_b} row {row_b}"
    raise ManifestError(f"{where} have the same video_id {name!r} ({int(same.sum())} repeated ids)")


def _normalised(
    kind: str, files: tuple[str, ...], source: str, columns: Columns, strings: frozenset[str]
) -> Iterator[tuple[pa.Table, str, int]]:
    """(table with the manifest's columns first, its file, its first row in that file)."""
    for file in files:
        first = 0
        for table in formats.read(kind, file, _text_columns(columns, strings)):
            yield _normalise(table, file, source, columns), file, first
            first += len(table)


def _text_columns(columns: Columns, strings: frozenset[str]) -> frozenset[str]:
    """Ids and paths are text even where they look like numbers: 007 is not 7."""
    named = {columns.id, columns.uri, *(name for _, name in columns.parts)} - {None}
    return strings | {*ID_COLUMNS, *URI_COLUMNS} | {str(name) for name in named}


def _normalise(table: pa.Table, file: str, source: str, columns: Columns) -> pa.Table:
    id_name = _column(table, file, columns.id, ID_COLUMNS)
    uri_name, raw = _addresses(table, file, columns)
    resolved = _resolved(raw, sources.parent(file))
    ids = raw if id_name is None else _text(table[id_name], file, id_name)
    data: dict[str, Any] = {"video_id": ids, "uri": resolved}
    for name in ("start_s", "end_s"):
        if name in table.column_names:
            data[name] = _seconds(table[name], file, name)
        else:
            data[name] = pa.nulls(len(table), pa.float64())
    for name in table.column_names:
        if name not in (uri_name, id_name, "start_s", "end_s"):
            data[f"manifest_{name}" if schema.is_reserved(name) else name] = table[name]
    return pa.table(data)


def _addresses(table: pa.Table, file: str, columns: Columns) -> tuple[str | None, pa.ChunkedArray]:
    """(the column that holds the addresses, None where they are made of others; they)."""
    if columns.parts:
        return None, _made(table, file, columns)
    name = _column(table, file, columns.uri, URI_COLUMNS)
    if name is None:
        raise ManifestError(
            f"{file}: no column of addresses ({', '.join(URI_COLUMNS)}); it has "
            f"{_listed_columns(table)}; name one with --uri-column, or make them of others with "
            f"--uri-template"
        )
    return name, _text(table[name], file, name)


def _made(table: pa.Table, file: str, columns: Columns) -> pa.ChunkedArray:
    """The template filled in; null where one of its columns has nothing."""
    pieces: list[Any] = []
    for text, name in columns.parts:
        pieces.append(text)
        if name is None:
            continue
        if name not in table.column_names:
            raise ManifestError(
                f"{file}: no column {name!r} for --uri-template {columns.template}; it has "
                f"{_listed_columns(table)}"
            )
        column = _text(table[name], file, name)
        pieces.append(pc.if_else(_blank(column), pa.scalar(None, pa.string()), column))
    return pc.binary_join_element_wise(*pieces, "")


def _resolved(column: pa.ChunkedArray, base: str) -> pa.ChunkedArray | pa.Array:
    """Each address as `sources.resolve` has it, of the usual kinds all at once.

    An empty one stays empty, to be refused with its row: resolved, it would be the folder.
    """
    relative = pc.fill_null(pc.invert(_absolute(column)), False)
    if not pc.any(relative).as_py():
        return column
    some = column.filter(relative)
    # With a colon it may have a scheme after all.
    odd = pc.or_(pc.match_substring(some, ":"), _blank(some))
    found = pc.binary_join_element_wise(sources.join(base, ""), some, "").combine_chunks()
    if pc.any(odd).as_py():
        others = [
            sources.resolve(u, base) if u.strip() else u for u in some.filter(odd).to_pylist()
        ]
        found = pc.replace_with_mask(found, odd.combine_chunks(), pa.array(others, pa.string()))
    return pc.replace_with_mask(column.combine_chunks(), relative.combine_chunks(), found)


def _absolute(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Of the usual beginnings; what has none of them may be anything."""
    found = pc.starts_with(column, _ABSOLUTE[0])
    for beginning in _ABSOLUTE[1:]:
        if pc.all(found).as_py():
            break
        found = pc.or_(found, pc.starts_with(column, beginning))
    return found


def _blank(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.or_(pc.utf8_is_space(column), pc.equal(pc.binary_length(column), 0))


def _column(table: pa.Table, file: str, named: str | None, usual: tuple[str, ...]) -> str | None:
    """The column that the user named, else the first usual one that is there, else None."""
    if named is not None and named not in table.column_names:
        raise ManifestError(f"{file}: no column {named!r}; it has {_listed_columns(table)}")
    return named or next((name for name in usual if name in table.column_names), None)


def _listed_columns(table: pa.Table) -> str:
    return ", ".join(table.column_names) or "none"


def _text(column: pa.ChunkedArray, file: str, name: str) -> pa.ChunkedArray:
    allowed = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_dictionary,
        pa.types.is_integer,
        pa.types.is_null,
    )
    if not any(is_it(column.type) for is_it in allowed):
        raise ManifestError(f"{file}: column {name} holds {column.type}, expected text")
    return column.cast(pa.string())


def _seconds(column: pa.ChunkedArray, file: str, name: str) -> pa.ChunkedArray:
    try:
        return column.cast(pa.float64())
    except pa.ArrowInvalid as error:
        raise ManifestError(f"{file}: column {name} holds something that is no number") from error


def _unified(one: pa.Schema, other: pa.Schema, file: str) -> pa.Schema:
    try:
        return pa.unify_schemas([one, other], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        reason = str(error).splitlines()[0]
        raise ManifestError(
            f"{file}: its columns do not match the files before it: {reason}"
        ) from error


def _conform(table: pa.Table, wanted: pa.Schema) -> pa.Table:
    columns = [
        table[f.name].cast(f.type) if f.name in table.column_names else pa.nulls(len(table), f.type)
        for f in wanted
    ]
    return pa.table(columns, schema=wanted)


def read_table(
    source: str, columns: Columns | None = None, text: frozenset[str] = frozenset()
) -> pa.Table:
    """A table of queries or labels, in any of the manifest's formats, as it is.

    text: columns of a CSV that are no numbers, even where they look like them, besides ids and
    addresses. Raises ManifestError.
    """
    columns = columns or Columns()
    source = sources.absolute(source)
    kind, files = formats.find(source)
    if kind == "videos":
        raise ManifestError(f"{source} is a folder of videos; expected a table")
    strings = text
    while True:
        try:
            tables = [
                t
                for file in files
                for t in formats.read(kind, file, _text_columns(columns, strings))
            ]
            break
        except formats.TextColumnError as column:
            strings |= {column.name}
    if not tables:
        raise ManifestError(f"{source}: it has no rows")
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        reason = str(error).splitlines()[0]
        raise ManifestError(f"{source}: columns of its files do not match: {reason}") from error
