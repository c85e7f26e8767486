"""Where a record of delimited text begins: values may have several lines, and empty lines are no records."""

from __future__ import annotations

import csv
import io

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
        delimiter = "" if path.endswith(JSON_SUFFIXES) else first_line(file).delimiter
        with file.location.filesystem.open_input_stream(path) as stream:
            lines = _lines_before(stream, start)
            if path.endswith(JSON_SUFFIXES):
                return lines + _object_line(stream, record)
            text = io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline="")
            rows = csv.reader(text, delimiter=delimiter, quoting=quoting_of(path))
            records, before = int(start > 0), 0
            for row in rows:
                records += bool(row)
                if records == record:
                    return lines + before + 1
                before = rows.line_num
    except (csv.Error, OSError, pa.ArrowException):
        return record
    return record


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
