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
    """The header of ``file``, by the delimiter that gives it and the row below it the same number of
    columns, and the most of them; where several do, and where none does, by the one of the file's name.

    Excel writes semicolons into a .csv wherever numbers have a decimal comma.

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
    by_name = _by_name(path)
    candidates = (by_name, *(delimiter for delimiter in _DELIMITERS if delimiter != by_name))
    read = {delimiter: _first_rows(text, delimiter, quoting_of(path)) for delimiter in candidates}
    fitting = [delimiter for delimiter, rows in read.items() if _agree(rows)]
    if not fitting and len(next(iter(read[by_name]), ())) > 1:
        fitting = [by_name]  # with a faulty row, which whoever reads it names
    # Of equals the first, which is the name's.
    chosen = max(fitting or candidates, key=lambda delimiter: len(next(iter(read[delimiter]), ())))
    return FirstLine(tuple(read[chosen][0]) if read[chosen] else (), chosen)


def _agree(rows: list[list[str]]) -> bool:
    """Whether a header is one of several columns, and the row below it, if there is one, has them too."""
    return bool(rows) and len({len(row) for row in rows}) == 1 and len(rows[0]) > 1


def _by_name(path: str) -> str:
    """The delimiter that a file's name stands for."""
    name = path.rsplit("/", 1)[-1]
    return "\t" if name.endswith(".inter") or ".tsv" in name else ","


def _first_rows(text: str, delimiter: str, quoting: Literal[0, 3]) -> list[list[str]]:
    """The header and the row below it, as far as there are such."""
    # lines may end as on any system
    rows = csv.reader(io.StringIO(text, newline=None), delimiter=delimiter, quoting=quoting)
    return list(islice((row for row in rows if row), 2))
