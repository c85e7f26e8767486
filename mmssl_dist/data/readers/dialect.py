"""How a file of delimited text is written: what stands between its columns, and how it quotes them."""

from __future__ import annotations

import codecs
import csv
import io
import re
from itertools import islice
from typing import Literal, NamedTuple

from mmssl_dist.data.files import RawFile
from mmssl_dist.errors import InputError

_DELIMITERS = (",", ";", "\t", "|")
_START_BYTES = 1 << 16
_ROWS = 50  # that are looked at
_OTHER_CONTENT = {
    b"\x1f\x8b": ("gzip-compressed data", "Rename the file so that it ends in .gz."),
    b"\x28\xb5\x2f\xfd": ("zstd-compressed data", "Rename the file so that it ends in .zst."),
    b"PK\x03\x04": ("an Excel workbook or a ZIP archive", "Save it in Excel as `CSV UTF-8`, or unpack it."),
    b"\xd0\xcf\x11\xe0": ("an Excel workbook", "Save it in Excel as `CSV UTF-8`."),
}
"""By the bytes a file begins with: what it is, and what to do."""
_EXCEL_HINT = re.compile(r'"?sep=.?"?', re.IGNORECASE)
_UNDECODED = re.compile("[\udc80-\udcff]+")  # what stands for bytes that are not UTF-8


class FirstLine(NamedTuple):
    """The header of a file.

    columns: their names without spaces around them; none where the file has no line. delimiter: what stands
    between them. written: the names with their spaces, as Arrow knows them.
    """

    columns: tuple[str, ...]
    delimiter: str
    written: tuple[str, ...]


def quoting_of(path: str) -> Literal[0, 3]:
    """How the csv module is to read a file: RecBole splits lines at tabs and knows no quotes."""
    return csv.QUOTE_NONE if path.endswith(".inter") else csv.QUOTE_MINIMAL


def first_line(file: RawFile) -> FirstLine:
    """The header of ``file``, split as its name says where the rows below it have as many columns.

    Else it is split by the delimiter that gives the header and the first row the same number of columns, and
    the most: Excel writes semicolons into a .csv wherever numbers have a decimal comma. Where none does, the
    name decides, unless it makes the header one column and another delimiter splits both header and rows.

    Raises:
        InputError: the content is compressed or a workbook, the header is not UTF-8, or it is Excel's
            ``sep=``.
        csv.Error, OSError, pa.ArrowException: it cannot be read.
    """
    path = file.location.path
    with file.location.filesystem.open_input_stream(path) as stream:
        content = bytes(stream.read(_START_BYTES))
    _require_text(file.name, content)
    cut = len(content) == _START_BYTES
    # The byte order mark that Excel writes would else be part of the first column's name. Values are checked
    # where they are read, and only those of columns that are.
    decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
    text = decoder.decode(content, final=not cut)
    delimiter, header = _split_header(text, path, cut)
    if any(map(_UNDECODED.search, header)):
        raise _undecoded_header(file.name, text)
    if header and _EXCEL_HINT.fullmatch(delimiter.join(header)):
        raise InputError(
            f"{file.name}, line 1",
            delimiter.join(header),
            "the first line names the columns",
            "Delete this line, which only Excel needs: the delimiter is detected without it.",
        )
    return FirstLine(tuple(name.strip(" \t") for name in header), delimiter, tuple(header))


def not_utf8(where: str, content: bytes) -> InputError:
    """The error for bytes that are not UTF-8."""
    return InputError(
        where,
        f"the byte(s) {content[:8].hex(' ')}",
        "delimited text is UTF-8",
        "Save the file again, in Excel as `CSV UTF-8`, or convert it: `iconv -f cp1252 -t utf-8 OLD > NEW`.",
    )


def _require_text(name: str, content: bytes) -> None:
    """Raise an InputError if what a file begins with is UTF-16, or no text."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(
            f"{name}, line 1",
            "UTF-16",
            "delimited text is UTF-8",
            "Save the file again, in Excel as `CSV UTF-8`.",
        )
    for start, (kind, remedy) in _OTHER_CONTENT.items():
        if content.startswith(start):
            raise InputError(name, kind, "a file of this name is delimited text", remedy)


def _undecoded_header(name: str, text: str) -> InputError:
    first = _UNDECODED.search(text)
    assert first is not None
    line = len(text[: first.start()].splitlines() or [""])
    return not_utf8(f"{name}, line {line}", first[0].encode(errors="surrogateescape"))


def _split_header(text: str, path: str, cut: bool) -> tuple[str, list[str]]:
    """The delimiter that ``first_line`` chooses, and the header split by it."""
    by_name = _by_name(path)
    named = _first_rows(text, by_name, quoting_of(path), cut)
    if _agree(named):
        return by_name, named[0]
    others = (delimiter for delimiter in _DELIMITERS if delimiter != by_name)
    read = {delimiter: _first_rows(text, delimiter, quoting_of(path), cut) for delimiter in others}
    # Two rows alone: what reads the file names the row that is faulty, by the delimiter of the others.
    fitting = [delimiter for delimiter, rows in read.items() if _agree(rows[:2])]
    if not fitting and named and len(named[0]) == 1:
        # Rows have one field more than the header, perhaps: Arrow names the first of them.
        fitting = [delimiter for delimiter, rows in read.items() if all(len(row) > 1 for row in rows[:2])]
    if fitting:
        chosen = max(fitting, key=lambda delimiter: len(read[delimiter][0]))
        return chosen, read[chosen][0]
    return by_name, named[0] if named else []


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
