"""CSV, TSV and RecBole/MMRec ``.inter`` files, streamed; ids stay text unless all of them are plain
integers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from mmssl_dist.data.columns import ITEM_ID, TIME, USER_ID
from mmssl_dist.data.files import RawFile
from mmssl_dist.data.readers.base import Piece, place, unreadable
from mmssl_dist.data.readers.values import INTEGER_PATTERN, canonical_table, time_type
from mmssl_dist.errors import InputError

_BLOCK_BYTES = 1 << 22
_HEADER_BYTES = 1 << 16
_FIRST_LINE = 2  # line 1 is the header


@dataclass(frozen=True)
class TextInteractions:
    """Interactions in delimited text; ``names`` are the raw column names by canonical name, without
    ``:type``."""

    files: tuple[RawFile, ...]
    names: dict[str, str]
    types: dict[str, pa.DataType]
    delimiter: str
    unit: str = "line"

    @property
    def user_type(self) -> pa.DataType:
        return self.types[USER_ID]

    @property
    def item_type(self) -> pa.DataType:
        return self.types[ITEM_ID]

    @property
    def pieces(self) -> tuple[Piece, ...]:
        return tuple(Piece(number) for number in range(len(self.files)))

    def read(self, piece: Piece) -> Iterator[pa.Table]:
        row = _FIRST_LINE
        for columns in _batches(self.files[piece.file], self.names, self.delimiter):
            rows = np.arange(row, row + len(columns[USER_ID]), dtype=np.int64)
            yield canonical_table(
                columns, self.types, rows, lambda r: place(self.files, piece.file, self.unit, r)
            )
            row += len(rows)


def open_text(files: tuple[RawFile, ...], names: dict[str, str], delimiter: str) -> TextInteractions:
    """Interactions in ``files``; the first rows decide which columns hold integers.

    Raises:
        InputError: a column is missing, there is no row, or the text cannot be read.
    """
    for file in files:
        _raw_names(file, names, delimiter)
    first = next((columns for file in files for columns in _batches(file, names, delimiter)), None)
    if first is None:
        raise InputError(
            files[0].name, "no row below the header", "interactions have at least one row", "Check the file."
        )
    types = {USER_ID: pa.string(), ITEM_ID: pa.string()}
    for name in types:
        if pc.all(pc.match_substring_regex(first[name], INTEGER_PATTERN)).as_py():
            types[name] = pa.int64()
    if TIME in names:
        types[TIME] = time_type(first[TIME])
    return TextInteractions(files, names, types, delimiter)


def header(file: RawFile, delimiter: str) -> list[str]:
    """The column names as written in the first line."""
    try:
        with file.location.filesystem.open_input_stream(file.location.path) as stream:
            start = stream.read(_HEADER_BYTES).decode("utf-8-sig", errors="replace")
    except (pa.ArrowException, OSError) as error:
        raise _not_text(file, error) from error
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if _quotes(file) else csv.QUOTE_NONE
    try:  # newline=None: lines may end as on any system
        line = next(csv.reader(io.StringIO(start, newline=None), delimiter=delimiter, quoting=quoting), [])
    except csv.Error as error:
        raise _not_text(file, error) from error
    if not line:
        raise InputError(
            f"{file.name}, line 1", "nothing", "the first line names the columns", "Add a header line."
        )
    return line


def bare(name: str) -> str:
    """A RecBole column name without its type: "user_id:token" is user_id."""
    return name.split(":", 1)[0]


def _raw_names(file: RawFile, names: dict[str, str], delimiter: str) -> dict[str, str]:
    written = header(file, delimiter)
    typed = file.location.path.endswith(".inter")
    found = {bare(name) if typed else name: name for name in written}
    for name in names.values():
        if name not in found:
            raise InputError(
                f"{file.name}, line 1",
                f"columns {', '.join(written)}",
                f"a column {name} is needed",
                "Name the right column in data.columns.",
            )
        if written.count(found[name]) > 1:
            raise InputError(
                f"{file.name}, line 1",
                f"{written.count(found[name])} columns {name}",
                "a column has a name of its own",
                "Rename one of them.",
            )
    return {name: found[raw] for name, raw in names.items()}


def _batches(file: RawFile, names: dict[str, str], delimiter: str) -> Iterator[dict[str, pa.ChunkedArray]]:
    raw = _raw_names(file, names, delimiter)
    wanted = list(dict.fromkeys(raw.values()))
    convert = pacsv.ConvertOptions(
        include_columns=wanted,
        column_types=dict.fromkeys(wanted, pa.string()),
        strings_can_be_null=True,
        null_values=[""],
    )
    parse = pacsv.ParseOptions(delimiter=delimiter, quote_char='"' if _quotes(file) else False)
    try:
        with file.location.filesystem.open_input_stream(file.location.path) as stream:
            reader = pacsv.open_csv(stream, pacsv.ReadOptions(block_size=_BLOCK_BYTES), parse, convert)
            for batch in reader:
                if batch.num_rows:
                    yield {name: pa.chunked_array([batch.column(column)]) for name, column in raw.items()}
    except (pa.ArrowException, OSError) as error:
        raise _not_text(file, error) from error


def _quotes(file: RawFile) -> bool:
    """RecBole splits lines at tabs and knows no quotes."""
    return not file.location.path.endswith(".inter")


def _not_text(file: RawFile, error: Exception) -> InputError:
    return unreadable(file, error, "every line has the header's columns, as UTF-8 text", "Mend the file.")
