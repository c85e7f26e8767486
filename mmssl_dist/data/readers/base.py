"""What a reader offers: an overview made from headers alone, and pieces that tasks read in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from mmssl_dist.data.columns import FILE
from mmssl_dist.data.files import RawFile
from mmssl_dist.data.readers.id_types import IdSummary
from mmssl_dist.data.readers.line_numbers import line_of
from mmssl_dist.data.readers.times import TimeSummary
from mmssl_dist.errors import InputError, StorageError, without_secrets

NAME_OR_RENAME = "Name the right column in the job (data.columns, data.modalities), or rename it."
"""What to do about a column of raw files that is missing."""
MAX_DIMENSION = 1 << 20
"""Values of the longest feature vector: memory is set aside by the first one's length, or by what a header
says."""


@dataclass(frozen=True)
class Piece:
    """What one task reads: rows or row groups [first, last) of one file, of which ``row`` is the first row's
    number; of delimited text all from the byte ``first`` on."""

    file: int
    first: int = 0
    last: int = 0
    row: int = 0


@dataclass(frozen=True)
class FeatureBatch:
    """Features of n items: their ids, the numbers of their raw files ([n] int32), their rows in these ([n]
    int64), their vectors ([n, F], finite)."""

    items: pa.Array
    files: np.ndarray
    rows: np.ndarray
    vectors: np.ndarray


@dataclass(frozen=True)
class ColumnSummaries:
    """What the files of interactions show: ids by canonical name, and times by file where asked for."""

    ids: dict[str, IdSummary]
    times: list[TimeSummary]


class InteractionSource(Protocol):
    """Interactions in some layout.

    ``read`` yields tables with the columns user_id, item_id (nulls kept), row, and time (int64 or float64),
    split (int8) and rating (float64) where they were asked for; ``read_all`` those of several pieces, small
    ones joined, with the number of the file (file, int32). ``last_pieces`` are for a look at the end of
    files: of each that has more than one block, a piece with the last one; all of ``pieces`` together are the
    files.
    """

    @property
    def files(self) -> tuple[RawFile, ...]: ...
    @property
    def unit(self) -> str: ...
    @property
    def user_type(self) -> pa.DataType: ...
    @property
    def item_type(self) -> pa.DataType: ...
    @property
    def pieces(self) -> tuple[Piece, ...]: ...
    @property
    def last_pieces(self) -> tuple[Piece, ...]: ...
    def read(self, piece: Piece) -> Iterator[pa.Table]: ...
    def read_all(self, pieces: Sequence[Piece]) -> Iterator[pa.Table]: ...


class FeatureSource(Protocol):
    """The features of one modality.

    ``rows`` is the number of items when ids are row numbers, else None; ``item_ids`` is what the files show
    of the ids, and ``with_item_type`` the same source with ids of another type; ``last_pieces`` as of
    interactions.
    """

    @property
    def files(self) -> tuple[RawFile, ...]: ...
    @property
    def item_ids(self) -> IdSummary: ...
    @property
    def item_type(self) -> pa.DataType: ...
    @property
    def rows(self) -> int | None: ...
    @property
    def dimension(self) -> int: ...
    @property
    def dtype(self) -> np.dtype: ...
    @property
    def pieces(self) -> tuple[Piece, ...]: ...
    @property
    def last_pieces(self) -> tuple[Piece, ...]: ...
    def read(self, piece: Piece) -> Iterator[FeatureBatch]: ...
    def read_all(self, pieces: Sequence[Piece]) -> Iterator[FeatureBatch]: ...
    def with_item_type(self, item_type: pa.DataType) -> FeatureSource: ...


def with_file(source: InteractionSource, pieces: Sequence[Piece]) -> Iterator[pa.Table]:
    """``read_all`` of a source whose pieces are not joined."""
    for piece in pieces:
        for table in source.read(piece):
            yield table.append_column(FILE, pa.array(np.full(table.num_rows, piece.file, np.int32)))


def unreadable(file: RawFile, error: Exception, rule: str, remedy: str) -> InputError:
    """The error for a file that could not be read: its content's fault by ``rule``, or the storage's."""
    message = without_secrets(str(error).split("\n")[0])
    if isinstance(error, OSError) and not file.location.is_local:
        return StorageError(
            file.name,
            message,
            "the storage must answer",
            "Check the URL, the credentials of every node and the `storage` section.",
        )
    return InputError(file.name, message, rule, remedy)


def without_columns(where: str, available: Iterable[str], missing: Sequence[str], remedy: str) -> InputError:
    """The error for a file that lacks columns, all of them."""
    needed = f"a column {missing[0]} is" if len(missing) == 1 else f"columns {', '.join(missing)} are"
    return InputError(where, f"columns {', '.join(available)}", f"{needed} needed", remedy)


def require_dimension(where: str, dimension: int) -> None:
    """Raise an InputError unless vectors of this many values can be features."""
    if not 1 <= dimension <= MAX_DIMENSION:
        raise InputError(
            where,
            f"vectors of {dimension} values",
            f"a vector has 1 to {MAX_DIMENSION} values",
            "Check how the file was written.",
        )


def row_location(files: tuple[RawFile, ...], file: int, unit: str, row: int, start: int = 0) -> str:
    """Where a row is, for a message: "data/a.parquet, row 17". ``start``: as for ``line_of``."""
    return f"{files[file].name}, {unit} {line_of(files[file], row, start) if unit == 'line' else row}"
