"""Where a record of delimited text begins: values may have several lines, and empty lines are no records."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import pyarrow as pa

from mmssl_dist.data.files import JSON_SUFFIXES, RawFile
from mmssl_dist.data.readers.dialect import first_line, quoting_of

_BLOCK_BYTES = 1 << 22


def line_of(file: RawFile, record: int, start: int = 0) -> int:
    """The line in which a record begins, of records numbered like lines: 1 is the header.

    Reads the file up to there, so it is for messages; gives ``record`` where the file cannot be read so.

    Args:
        start: the byte of the text where record 2 begins; 0: below the header.
    """
    path = file.location.path
    try:
        if path.endswith(JSON_SUFFIXES):
            with file.location.filesystem.open_input_stream(path) as stream:
                return _lines_before(stream, start) + _object_line(stream, record)
        for number, (line, _) in enumerate(_rows(file, start), 2 if start else 1):
            if number == record:
                return line
    except (csv.Error, OSError, pa.ArrowException):
        return record
    return record


def uneven_line(file: RawFile, columns: int, found: int, start: int = 0) -> int | None:
    """The line of delimited text with the first row that has other than so many ``columns``; None where the
    file cannot be read so, or that row does not have the ``found`` ones.

    Args:
        start: as for ``line_of``.
    """
    try:
        for line, row in _rows(file, start):
            if len(row) != columns:
                return line if len(row) == found else None
    except (csv.Error, OSError, pa.ArrowException):
        return None
    return None


def undecodable(file: RawFile) -> tuple[int, bytes] | None:
    """The first line that is not UTF-8, and its bytes that are not; None where the file cannot be read so."""
    try:
        with file.location.filesystem.open_input_stream(file.location.path) as stream:
            text = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape")
            for number, line in enumerate(text, 1):
                try:
                    line.encode()
                except UnicodeEncodeError as error:
                    return number, line[error.start : error.end].encode(errors="surrogateescape")
    except (OSError, pa.ArrowException):
        return None
    return None


def _rows(file: RawFile, start: int) -> Iterator[tuple[int, list[str]]]:
    """The rows of delimited text from the byte ``start`` on, each with the line in which it begins."""
    path = file.location.path
    delimiter = first_line(file).delimiter
    with file.location.filesystem.open_input_stream(path) as stream:
        lines = _lines_before(stream, start)
        text = io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline="")
        rows, before = csv.reader(text, delimiter=delimiter, quoting=quoting_of(path)), 0
        for row in rows:
            if row:
                yield lines + before + 1, row
            before = rows.line_num


def _object_line(stream: pa.NativeFile, record: int) -> int:
    """The line of an object, of which the first is record 2, below the header that there is not."""
    records = 1
    for line, text in enumerate(
        io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline="\n"), 1
    ):
        records += bool(text.strip())
        if records == record:
            return line
    return record


def _lines_before(stream: pa.NativeFile, start: int) -> int:
    """The lines that end in the next ``start`` bytes, which are read."""
    lines, return_last = 0, False
    while start > 0 and (block := bytes(stream.read(min(start, _BLOCK_BYTES)))):
        lines += block.count(b"\n") + block.count(b"\r") - block.count(b"\r\n")
        lines -= return_last and block.startswith(b"\n")
        return_last, start = block.endswith(b"\r"), start - len(block)
    return lines
