"""How a file of delimited text is written: what stands between its columns, and how it quotes them."""

from __future__ import annotations

import codecs
import csv
import io
from itertools import islice
from typing import Literal, NamedTuple

from mmssl_dist.data.files import RawFile
from mmssl_dist.errors import InputError

_DELIMITERS = (",", ";", "\t", "|")
_START_BYTES = 1 << 16
_ROWS = 50  # that are looked at


class FirstLine(NamedTuple):
    """The header of a file.

    columns: their names as written; none where the file has no line. delimiter: what stands between them.
    """

    columns: tuple[str, ...]
    delimiter: str


def quoting_of(path: str) -> Literal[0, 3]:
    """How the csv module is to read a file: RecBole splits lines at tabs and knows no quotes."""
    return csv.QUOTE_NONE if path.endswith(".inter") else csv.QUOTE_MINIMAL


def first_line(file: RawFile) -> FirstLine:
    """The header of ``file``, split as its name says where the rows below it have as many columns.

    Else it is split by the delimiter that gives the header and the first row the same number of columns, and
    the most: Excel writes semicolons into a .csv wherever numbers have a decimal comma. Where none does, the
    name decides.

    Raises:
        InputError: the text is UTF-16.
        csv.Error, OSError, pa.ArrowException: it cannot be read.
    """
    path = file.location.path
    with file.location.filesystem.open_input_stream(path) as stream:
        content = bytes(stream.read(_START_BYTES))
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(
            f"{file.name}, line 1",
            "UTF-16",
            "delimited text is UTF-8",
            "Save the file again, in Excel as `CSV UTF-8`.",
        )
    # The byte order mark that Excel writes would else be part of the first column's name.
    text = content.decode("utf-8-sig", errors="replace")
    cut = len(content) == _START_BYTES
    by_name = _by_name(path)
    named = _first_rows(text, by_name, quoting_of(path), cut)
    if not _agree(named):
        others = (delimiter for delimiter in _DELIMITERS if delimiter != by_name)
        read = {delimiter: _first_rows(text, delimiter, quoting_of(path), cut) for delimiter in others}
        # Two rows alone: what reads the file names the row that is faulty, by the delimiter of the others.
        fitting = [delimiter for delimiter, rows in read.items() if _agree(rows[:2])]
        if fitting:
            chosen = max(fitting, key=lambda delimiter: len(read[delimiter][0]))
            return FirstLine(tuple(read[chosen][0]), chosen)
    return FirstLine(tuple(named[0]) if named else (), by_name)


def _agree(rows: list[list[str]]) -> bool:
    """Whether a header is one of several columns, and the rows below it have as many."""
    return bool(rows) and len(rows[0]) > 1 and all(len(row) == len(rows[0]) for row in rows)


def _by_name(path: str) -> str:
    """The delimiter that a file's name stands for."""
    name = path.rsplit("/", 1)[-1]
    return "\t" if name.endswith(".inter") or ".tsv" in name else ","


def _first_rows(text: str, delimiter: str, quoting: Literal[0, 3], cut: bool) -> list[list[str]]:
    """The header and rows below it, as far as there are such; the last of a text that is ``cut`` may be part
    of a row."""
    # lines may end as on any system
    rows = csv.reader(io.StringIO(text, newline=None), delimiter=delimiter, quoting=quoting)
    first = list(islice((row for row in rows if row), _ROWS))
    return first[:-1] if cut and 1 < len(first) < _ROWS else first
