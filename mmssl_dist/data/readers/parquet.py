"""Parquet files: footers at once, rows by row groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmssl_dist.data.columns import ITEM_ID, TIME, USER_ID
from mmssl_dist.data.files import RawFile
from mmssl_dist.data.ids import canonical_type
from mmssl_dist.data.readers.base import Piece, place, unreadable
from mmssl_dist.data.readers.values import canonical_table, time_type
from mmssl_dist.errors import InputError

BATCH_ROWS = 1 << 18
_PIECE_ROWS = 1 << 20
_FIRST_ROWS = 1024
# Beside Arrow's own: what it lets through for footers with names that are no text and numbers that do not fit
_UNREADABLE = (pa.ArrowException, OSError, ValueError, LookupError, OverflowError)
_FOOTER_THREADS = 16


@dataclass(frozen=True)
class Footer:
    """What a Parquet file says of itself."""

    schema: pa.Schema
    group_rows: tuple[int, ...]


@dataclass(frozen=True)
class ParquetInteractions:
    """Interactions in Parquet files; ``names`` are the raw column names by canonical name."""

    files: tuple[RawFile, ...]
    names: dict[str, str]
    types: dict[str, pa.DataType]
    pieces: tuple[Piece, ...]
    unit: str = "row"

    @property
    def user_type(self) -> pa.DataType:
        return self.types[USER_ID]

    @property
    def item_type(self) -> pa.DataType:
        return self.types[ITEM_ID]

    def read(self, piece: Piece) -> Iterator[pa.Table]:
        row = piece.row
        for batch in batches(self.files[piece.file], piece, list(self.names.values()), BATCH_ROWS):
            columns = {name: pa.chunked_array([batch.column(raw)]) for name, raw in self.names.items()}
            rows = np.arange(row, row + batch.num_rows, dtype=np.int64)
            yield canonical_table(
                columns, self.types, rows, lambda r: place(self.files, piece.file, self.unit, r)
            )
            row += batch.num_rows


def open_parquet(files: tuple[RawFile, ...], names: dict[str, str]) -> ParquetInteractions:
    """Interactions in ``files``.

    Raises:
        InputError: not Parquet, a column missing, or columns of a type that cannot be used.
    """
    footers = read_footers(files)
    for file, footer in zip(files, footers, strict=True):
        for raw in names.values():
            require_column(file, footer.schema, raw)
    types = {}
    for name in (USER_ID, ITEM_ID):
        types[name] = id_type(files[0], footers[0].schema, names[name])
        for file, footer in zip(files, footers, strict=True):
            kind = id_type(file, footer.schema, names[name])
            if kind != types[name]:
                raise mixed_types(file, names[name], kind, types[name], files[0])
    if TIME in names:
        types[TIME] = time_type(_first_rows(files[0], names[TIME]))
    return ParquetInteractions(files, names, types, row_group_pieces(footers, _PIECE_ROWS))


def read_footers(files: Sequence[RawFile]) -> list[Footer]:
    """The footer of each file, several at a time."""
    with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
        return list(pool.map(_footer, files))


def row_group_pieces(footers: Sequence[Footer], rows: int) -> tuple[Piece, ...]:
    """Pieces of neighbouring row groups with about ``rows`` rows each."""
    pieces = []
    for number, footer in enumerate(footers):
        first, start, end = 0, 0, 0
        for group, count in enumerate(footer.group_rows):
            end += count
            if end - start >= rows or group == len(footer.group_rows) - 1:
                pieces.append(Piece(number, first, group + 1, start))
                first, start = group + 1, end
    return tuple(pieces)


def batches(file: RawFile, piece: Piece, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
    """Record batches of at most ``rows`` rows of a piece."""
    try:
        with _opened(file) as parquet:
            yield from parquet.iter_batches(rows, row_groups=range(piece.first, piece.last), columns=columns)
    except _UNREADABLE as error:
        raise _not_parquet(file, error) from error


def require_column(file: RawFile, schema: pa.Schema, name: str) -> pa.DataType:
    """The type of a column that has to be there."""
    if name not in schema.names:
        raise InputError(
            file.name,
            f"columns {', '.join(schema.names)}",
            f"a column {name} is needed",
            "Name the right column in the job (data.columns, data.modalities).",
        )
    if schema.names.count(name) > 1:
        raise InputError(
            file.name,
            f"{schema.names.count(name)} columns {name}",
            "a column has a name of its own",
            "Rename one of them.",
        )
    return schema.field(name).type


def id_type(file: RawFile, schema: pa.Schema, name: str) -> pa.DataType:
    """The canonical type of a column of ids."""
    raw = require_column(file, schema, name)
    kind = canonical_type(raw)
    if kind is None:
        raise InputError(
            f"{file.name}, column {name}",
            f"type {raw}",
            "ids are integers, text or other plain values",
            "Convert the column to text.",
        )
    return kind


def mixed_types(
    file: RawFile, column: str, kind: pa.DataType, first: pa.DataType, first_file: RawFile
) -> InputError:
    """The error for ids of a column that have another type than in the first file."""
    return InputError(
        f"{file.name}, column {column}",
        f"ids of type {kind}",
        f"ids of a column have one type in all files, {first} in {first_file.name}",
        "Write all files with the same types.",
    )


def _not_parquet(file: RawFile, error: Exception) -> InputError:
    return unreadable(file, error, "the file must be readable Parquet", "Write it again.")


def _opened(file: RawFile) -> pq.ParquetFile:
    return pq.ParquetFile(file.location.path, filesystem=file.location.filesystem, pre_buffer=True)


def _footer(file: RawFile) -> Footer:
    try:
        with _opened(file) as parquet:
            meta = parquet.metadata
            groups = tuple(meta.row_group(group).num_rows for group in range(meta.num_row_groups))
            return Footer(parquet.schema_arrow, groups)
    except _UNREADABLE as error:
        raise _not_parquet(file, error) from error


def _first_rows(file: RawFile, column: str) -> pa.ChunkedArray:
    """A few values of a column; none where the file is empty."""
    footer = _footer(file)
    for batch in batches(file, Piece(0, 0, len(footer.group_rows)), [column], _FIRST_ROWS):
        return pa.chunked_array([batch.column(column)])
    return pa.chunked_array([], footer.schema.field(column).type)
