"""A file of users or items, read as interactions are: the same formats, names, quotes and types of
columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.data.files import PARQUET_SUFFIXES, TABLE_SUFFIXES, RawFile
from mmssl_dist.data.ids import concatenated
from mmssl_dist.data.item_blocks import column_names
from mmssl_dist.data.readers.base import Piece, row_location
from mmssl_dist.data.readers.delimited import FIRST_RECORD
from mmssl_dist.data.readers.parquet import (
    BATCH_ROWS,
    PIECE_ROWS,
    batches,
    read_footers,
    require_column,
    row_group_pieces,
)
from mmssl_dist.data.readers.text import bare, named_blocks, raw_names
from mmssl_dist.data.readers.values import checked_values
from mmssl_dist.errors import InputError
from mmssl_dist.storage import Location

_TEXT_SUFFIXES = tuple(suffix for suffix in TABLE_SUFFIXES if suffix not in PARQUET_SUFFIXES)


@dataclass(frozen=True)
class IdFile:
    """Ids in one column of Parquet, CSV, TSV or JSON lines; ``pieces`` can be read apart from each other."""

    file: RawFile
    column: str
    pieces: tuple[Piece, ...]

    def read(self, piece: Piece) -> Iterator[pa.Table]:
        """Tables of ``column`` alone: texts from CSV and TSV, else the file's own type, in the file's
        order.

        Raises:
            InputError: the file cannot be read, or has no row.
        """
        # From the start and in one go: within quotes a line break does not end a row.
        if _is_text_file(self.file):
            rows = 0
            for columns in named_blocks(self.file, {self.column: self.column}, null_values=("",)):
                yield pa.table({self.column: columns[self.column]})
                rows += len(columns[self.column])
            if not rows:
                raise _no_row(self.file)
            return
        row = piece.row
        for batch in batches(self.file, piece, [self.column], BATCH_ROWS):

            def where(index: int, first: int = row) -> str:
                return row_location((self.file,), 0, "row", first + index)

            column = batch.column(self.column)
            if not isinstance(column, pa.ExtensionArray):  # a UUID is looked up as such
                column = checked_values(pa.chunked_array([column]), where)
            yield pa.table({self.column: column})
            row += batch.num_rows

    def ids(self) -> pa.Array:
        """All ids but empty ones, each once, in the file's type; raises as ``read`` does.

        Raises:
            InputError: also for lists and the like, of which none is an id.
        """
        tables = (table for piece in self.pieces for table in self.read(piece))
        chunks = [chunk for table in tables for chunk in table[self.column].chunks]
        # Arrow compares no extension types, such as UUIDs; their storage has the same values.
        stored = concatenated(
            [chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk for chunk in chunks]
        )
        if pa.types.is_nested(stored.type):
            raise InputError(
                self.file.name,
                f"values of type {stored.type}",
                "an id is a number or a text",
                "Write one id in each row.",
            )
        if pa.types.is_floating(stored.type):
            # pandas writes NaN where an id is missing.
            stored = pc.if_else(pc.is_nan(stored), pa.scalar(None, stored.type), stored)
        ids = stored.drop_null().unique()
        extension = chunks[0].type
        return (
            pa.ExtensionArray.from_storage(extension, ids)
            if isinstance(chunks[0], pa.ExtensionArray)
            else ids
        )


def open_id_file(location: Location, columns: Sequence[str], option: str) -> IdFile:
    """The ids in a column of the file at ``location``, whose name is taken as it is: no letter of it is a
    wildcard.

    Args:
        columns: names that the column may have; of those that the file has, the first is read.
        option: that names the file, for messages.

    Raises:
        InputError: there is no such file, it cannot be read, lacks the column, or has no row.
    """
    names = list(dict.fromkeys(columns))
    info = location.info()
    if not info.is_file:
        raise InputError(
            option,
            location.url,
            f"one file with a column {' or '.join(names)}, Parquet, CSV, TSV or JSON lines",
            "Check the path.",
        )
    file = RawFile(location=location, size=int(info.size), modified=info.mtime_ns)
    column, rename = _first_present(file, names), _rename(names)
    if _is_text_file(file):
        raw_names(file, {column: column}, rename)
        return IdFile(file, column, (Piece(0, row=FIRST_RECORD),))
    footers = read_footers([file])
    require_column(file, footers[0].schema, column, rename)
    pieces = row_group_pieces(footers, PIECE_ROWS)
    if not sum(footers[0].group_rows):
        raise _no_row(file)
    return IdFile(file, column, pieces)


def _first_present(file: RawFile, names: Sequence[str]) -> str:
    """The first of ``names`` that is a column of ``file``; where none is, the one to ask for."""
    typed = file.location.path.endswith(".inter")
    written = {bare(name) if typed else name for name in column_names(file)}
    return next((name for name in names if name in written), names[0])


def _rename(names: Sequence[str]) -> str:
    also = f" ({', '.join(names[1:])} is accepted too)" if names[1:] else ""
    return f"Rename the right column{also}, or name another file."


def _is_text_file(file: RawFile) -> bool:
    return file.location.path.endswith(_TEXT_SUFFIXES)


def _no_row(file: RawFile) -> InputError:
    return InputError(
        file.name, "no row", "a file of ids must have at least one", "Check how it was written."
    )
