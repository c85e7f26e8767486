"""Parquet files: footers at once, rows by row groups."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmssl_dist.data.columns import FILE, ITEM_ID, USER_ID
from mmssl_dist.data.files import RawFile
from mmssl_dist.data.readers.base import NAME_OR_RENAME, Piece, row_location, unreadable, without_columns
from mmssl_dist.data.readers.table_columns import stored_names, table_schema
from mmssl_dist.data.readers.times import TimeFormat
from mmssl_dist.data.readers.values import canonical_table
from mmssl_dist.errors import InputError
from mmssl_dist.storage.lent_streams import lend

BATCH_ROWS = 1 << 18
PIECE_ROWS = 1 << 20
# Beside Arrow's own: what it lets through for footers with names that are no text and numbers that do not fit
_UNREADABLE = (pa.ArrowException, OSError, ValueError, LookupError, OverflowError)
_FOOTER_THREADS = 16
_SMALL_BYTES = 1 << 20
_ANY_LENGTH = 1 << 50


@dataclass(frozen=True)
class Footer:
    """What a Parquet file says of itself; ``stored`` has the names that its columns have in the file, by
    those in ``schema``."""

    schema: pa.Schema
    group_rows: tuple[int, ...]
    metadata: pq.FileMetaData
    stored: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class ParquetInteractions:
    """Interactions in Parquet files; ``names`` are the raw column names by canonical name, ``types`` those of
    the ids, and ``times`` what the times are where they are asked for."""

    files: tuple[RawFile, ...]
    names: dict[str, str]
    types: dict[str, pa.DataType]
    times: TimeFormat | None
    pieces: tuple[Piece, ...]
    last_pieces: tuple[Piece, ...]
    unit: str = "row"

    @property
    def user_type(self) -> pa.DataType:
        """See ``InteractionSource``."""
        return self.types[USER_ID]

    @property
    def item_type(self) -> pa.DataType:
        """See ``InteractionSource``."""
        return self.types[ITEM_ID]

    def read(self, piece: Piece) -> Iterator[pa.Table]:
        """See ``InteractionSource``."""
        return (table.drop_columns([FILE]) for table in self.read_all([piece]))

    def read_all(self, pieces: Sequence[Piece]) -> Iterator[pa.Table]:
        """See ``InteractionSource``."""
        raw = list(dict.fromkeys(self.names.values()))
        for joined in joined_batches(self.files, pieces, raw, BATCH_ROWS):
            table = canonical_table(
                columns={name: joined.columns[column] for name, column in self.names.items()},
                types=self.types,
                times=self.times,
                rows=joined.rows,
                where=partial(joined.location, self.files),
            )
            yield table.append_column(FILE, pa.array(joined.files, pa.int32()))


def read_footers(files: Sequence[RawFile]) -> list[Footer]:
    """The footer of each file, several at a time."""
    # A footer on S3 is a matter of waiting, not of work.
    with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
        return list(pool.map(_footer, files))


def row_group_pieces(footers: Sequence[Footer], rows: int) -> tuple[Piece, ...]:
    """Pieces of neighbouring row groups with about ``rows`` rows each."""
    pieces = []
    for number, footer in enumerate(footers):
        # A piece is whole row groups, since Parquet is decoded by row group; one may exceed ``rows``
        first, start, end = 0, 0, 0
        for group, count in enumerate(footer.group_rows):
            end += count
            if end - start >= rows or group == len(footer.group_rows) - 1:
                pieces.append(Piece(number, first, group + 1, start))
                first, start = group + 1, end
    return tuple(pieces)


def last_groups(footers: Sequence[Footer]) -> tuple[Piece, ...]:
    """The last row group of each file with rows."""
    pieces = []
    for number, footer in enumerate(footers):
        groups = [group for group, rows in enumerate(footer.group_rows) if rows]
        if groups:
            last = groups[-1]
            pieces.append(Piece(number, last, last + 1, sum(footer.group_rows[:last])))
    return tuple(pieces)


def batches(file: RawFile, piece: Piece, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
    """Record batches of at most ``rows`` rows of a piece, with ``columns`` in this order.

    A column that a folder's name gives is a column of texts; one that the file's table got later, of nulls.
    """
    try:
        with _opened(file) as parquet:
            stored = stored_names(file, parquet.schema_arrow)
            groups = range(piece.first, piece.last)
            small = file.size <= _SMALL_BYTES
            if small:  # Arrow sets memory aside for as many rows as a batch may have
                rows = min(rows, max(1, parquet.metadata.num_rows))
            # Threads cost more than they save for a few rows
            in_file = [stored[name] for name in columns if name in stored]
            reader = parquet.iter_batches(rows, row_groups=groups, columns=in_file, use_threads=not small)
            for batch in reader:
                arrays = [
                    batch.column(stored[name]) if name in stored else _absent(file, name, batch.num_rows)
                    for name in columns
                ]
                yield pa.RecordBatch.from_arrays(arrays, columns)
    except _UNREADABLE as error:
        raise _not_parquet(file, error) from error


@dataclass(frozen=True)
class JoinedRows:
    """Rows of neighbouring pieces: their columns, and the file and the row in it of each ([n] int64)."""

    columns: pa.Table
    files: np.ndarray
    rows: np.ndarray

    def location(self, files: tuple[RawFile, ...], index: int) -> str:
        """Where the row at ``index`` is, for a message."""
        return row_location(files, int(self.files[index]), "row", int(self.rows[index]))


def joined_batches(
    files: Sequence[RawFile], pieces: Sequence[Piece], columns: list[str], rows: int
) -> Iterator[JoinedRows]:
    """As ``batches``, of ``pieces`` one after the other; small ones with equal types are joined, so that work
    on them is done once for thousands of rows."""
    held: list[tuple[int, int, pa.RecordBatch]] = []
    count = 0
    for piece in pieces:
        row = piece.row
        for batch in batches(files[piece.file], piece, columns, rows):
            if not batch.num_rows:
                continue
            if held and (count + batch.num_rows > rows or batch.schema != held[0][2].schema):
                yield _joined(held)
                held, count = [], 0
            held.append((piece.file, row, batch))
            row, count = row + batch.num_rows, count + batch.num_rows
            if count >= rows:  # at once: two batches need not be in memory
                yield _joined(held)
                held, count = [], 0
    if held:
        yield _joined(held)


def _joined(held: Sequence[tuple[int, int, pa.RecordBatch]]) -> JoinedRows:
    lengths = [batch.num_rows for _, _, batch in held]
    starts = np.asarray([row for _, row, _ in held], np.int64)
    before = np.cumsum(lengths) - lengths
    return JoinedRows(
        columns=pa.Table.from_batches([batch for _, _, batch in held]),
        files=np.repeat(np.asarray([file for file, _, _ in held], np.int64), lengths),
        rows=np.repeat(starts - before, lengths) + np.arange(sum(lengths), dtype=np.int64),
    )


def column_statistics(file: RawFile, footer: Footer, column: str) -> list[tuple[int, pq.Statistics | None]]:
    """The rows of each row group, and the column's statistics where the footer has some; reads no data.

    pyarrow ends the process when it is asked for what a damaged footer describes wrongly. Its reader looks at
    the same chunks before it asks for data, and raises.

    Raises:
        InputError: a footer that is damaged.
    """
    try:
        with pq.ParquetFile(lend(_NoData()), metadata=footer.metadata, pre_buffer=True) as parquet:
            groups = range(len(footer.group_rows))
            next(parquet.iter_batches(1, row_groups=groups, columns=[footer.stored[column]]), None)
    except _DataWanted:
        pass
    except _UNREADABLE as error:
        raise _not_parquet(file, error) from error
    schema, statistics = footer.metadata.schema, []
    # by the schema, as Arrow reads it: the copies of the name that row groups hold may be damaged
    leaf = next(index for index in range(len(schema)) if schema.column(index).path == footer.stored[column])
    for group, rows in enumerate(footer.group_rows):
        chunk = footer.metadata.row_group(group).column(leaf)
        if chunk.physical_type != schema.column(leaf).physical_type:
            raise _not_parquet(file, ValueError(f"column {column} stored as {chunk.physical_type}"))
        statistics.append((rows, chunk.statistics))
    return statistics


class _DataWanted(Exception):
    """The reader has accepted a footer and asks for the first data."""


class _NoData(io.RawIOBase):
    """A file of any length that refuses to be read."""

    def __init__(self) -> None:
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + (_ANY_LENGTH if whence == io.SEEK_END else 0)
        return self._position

    def read(self, size: int = -1) -> bytes:
        raise _DataWanted


def require_columns(
    file: RawFile, schema: pa.Schema, names: Iterable[str], remedy: str = NAME_OR_RENAME
) -> None:
    """Check that columns are there; the error names all that are not."""
    available = (*schema.names, *file.keys)
    missing = [name for name in dict.fromkeys(names) if name not in available]
    if missing:
        raise without_columns(file.name, available, missing, remedy)


def require_column(file: RawFile, schema: pa.Schema, name: str, remedy: str = NAME_OR_RENAME) -> pa.DataType:
    """The type of a column that has to be there."""
    if is_folder_key(file, schema, name):
        return pa.string()
    require_columns(file, schema, [name], remedy)
    if schema.names.count(name) > 1:
        raise InputError(
            file.name,
            f"{schema.names.count(name)} columns {name}",
            "column names must be unique",
            "Rename one of them.",
        )
    return schema.field(name).type


def is_folder_key(file: RawFile, schema: pa.Schema, name: str) -> bool:
    """Whether a folder's name gives the column ``name``, which the file does not have itself."""
    return name in file.keys and name not in schema.names


def _absent(file: RawFile, name: str, rows: int) -> pa.Array:
    """A column that a file does not have."""
    return (
        pa.nulls(rows)
        if file.columns is not None and name not in file.keys
        else folder_column(file, name, rows)
    )


def folder_column(file: RawFile, name: str, rows: int) -> pa.Array:
    """A column that a folder's name gives: [rows] of the same text, or of null."""
    return pa.repeat(pa.scalar(file.keys[name], pa.string()), rows)


def _not_parquet(file: RawFile, error: Exception) -> InputError:
    if file.size == 0:
        return InputError(
            file.name,
            "an empty file",
            "a Parquet file has a schema, even without rows",
            "Remove the file, or write it again; a Parquet file of no rows may stay.",
        )
    return unreadable(file, error, "the file must be readable Parquet", "Write it again.")


def _opened(file: RawFile) -> pq.ParquetFile:
    """The file for reading; a small one is read as a whole: an object store is asked once, not for the footer
    and then for each column."""
    if file.size > _SMALL_BYTES:
        return pq.ParquetFile(file.location.path, filesystem=file.location.filesystem, pre_buffer=True)
    with file.location.filesystem.open_input_file(file.location.path) as stream:
        return pq.ParquetFile(pa.BufferReader(stream.read_buffer()))


def _footer(file: RawFile) -> Footer:
    try:
        with _opened(file) as parquet:
            meta = parquet.metadata
            groups = tuple(meta.row_group(group).num_rows for group in range(meta.num_row_groups))
            schema = parquet.schema_arrow
            return Footer(table_schema(file, schema), groups, meta, stored_names(file, schema))
    except _UNREADABLE as error:
        raise _not_parquet(file, error) from error
