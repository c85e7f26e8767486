"""A file of users, read as interactions are: the same formats, names, quotes and types of columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from mmssl_dist.data.columns import USER_ID
from mmssl_dist.data.files import TABLE_SUFFIXES, RawFile
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
from mmssl_dist.data.readers.text import named_blocks, raw_names
from mmssl_dist.data.readers.values import checked_values
from mmssl_dist.errors import InputError
from mmssl_dist.storage import Location

_NAMES = {USER_ID: USER_ID}
_TEXT_SUFFIXES = tuple(suffix for suffix in TABLE_SUFFIXES if ".csv" in suffix or ".tsv" in suffix)


@dataclass(frozen=True)
class UserFile:
    """Users by their ids in Parquet, CSV or TSV; ``pieces`` can be read apart from each other."""

    file: RawFile
    pieces: tuple[Piece, ...]

    def read(self, piece: Piece) -> Iterator[pa.Table]:
        """Tables of one column, user_id: texts from CSV and TSV, else the file's own type, in the file's
        order.

        Raises:
            InputError: the file cannot be read, or names no user.
        """
        # From the start and in one go: within quotes a line break is no end of a row.
        if _is_text(self.file):
            rows = 0
            for columns in named_blocks(self.file, _NAMES, null_values=("",)):
                yield pa.table({USER_ID: columns[USER_ID]})
                rows += len(columns[USER_ID])
            if not rows:
                raise _no_users(self.file)
            return
        row = piece.row
        for batch in batches(self.file, piece, [USER_ID], BATCH_ROWS):

            def where(index: int, first: int = row) -> str:
                return row_location((self.file,), 0, "row", first + index)

            column = batch.column(USER_ID)
            if not isinstance(column, pa.ExtensionArray):  # a UUID is looked up as such
                column = checked_values(pa.chunked_array([column]), where)
            yield pa.table({USER_ID: column})
            row += batch.num_rows


def open_user_file(location: Location) -> UserFile:
    """The users in the file at ``location``, whose name is taken as it is: no letter of it is a wildcard.

    Raises:
        InputError: there is no such file, it cannot be read, has no column user_id, or
            names no user.
    """
    info = location.info()
    if not info.is_file:
        raise InputError(
            "--users", location.url, "one file with a column user_id, Parquet, CSV or TSV", "Check the path."
        )
    file = RawFile(location, int(info.size), info.mtime_ns)
    if _is_text(file):
        raw_names(file, _NAMES)
        return UserFile(file, (Piece(0, row=FIRST_RECORD),))
    footers = read_footers([file])
    require_column(file, footers[0].schema, USER_ID)
    pieces = row_group_pieces(footers, PIECE_ROWS)
    if not sum(footers[0].group_rows):
        raise _no_users(file)
    return UserFile(file, pieces)


def _is_text(file: RawFile) -> bool:
    return file.location.path.endswith(_TEXT_SUFFIXES)


def _no_users(file: RawFile) -> InputError:
    return InputError(file.name, "no row", "a file of users names at least one", "Check how it was written.")
