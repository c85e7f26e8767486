"""Where a record of delimited text begins: values may have several lines, and empty lines are no records."""

from __future__ import annotations

import csv
import io
from typing import Literal

import pyarrow as pa

from mmssl_dist.data.files import RawFile


def delimiter_of(path: str) -> str:
    """The delimiter that a file's name stands for."""
    name = path.rsplit("/", 1)[-1]
    return "\t" if name.endswith(".inter") or ".tsv" in name else ","


def quoting_of(path: str) -> Literal[0, 3]:
    """How the csv module is to read a file: RecBole splits lines at tabs and knows no quotes."""
    return csv.QUOTE_NONE if path.endswith(".inter") else csv.QUOTE_MINIMAL


def line_of(file: RawFile, record: int) -> int:
    """The line in which a record begins, of records numbered like lines: 1 is the header.

    Reads the file up to there, so it is for messages; gives ``record`` where the file cannot be read so.
    """
    path = file.location.path
    try:
        with file.location.filesystem.open_input_stream(path) as stream:
            text = io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline="")
            rows = csv.reader(text, delimiter=delimiter_of(path), quoting=quoting_of(path))
            records, before = 0, 0
            for row in rows:
                records += bool(row)
                if records == record:
                    return before + 1
                before = rows.line_num
    except (csv.Error, OSError, pa.ArrowException):
        return record
    return record
