"""Delimited text: headers, how Arrow parses it, and blocks of columns as trimmed texts."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from mmssl_dist.data.files import RawFile
from mmssl_dist.data.readers.base import unreadable
from mmssl_dist.data.readers.dialect import FirstLine, first_line, not_utf8, quoting_of
from mmssl_dist.data.readers.json_lines import is_json_lines, json_blocks, json_columns
from mmssl_dist.data.readers.line_numbers import undecodable, uneven_line
from mmssl_dist.data.readers.quotes import CheckedQuotes
from mmssl_dist.errors import InputError
from mmssl_dist.storage.lent_streams import lend

BLOCK_BYTES = 1 << 22
"""What is parsed at a time; a row is at most as long."""

FIRST_RECORD = 2
"""Records are numbered like lines: 1 is the header."""

COMPRESSED_SUFFIXES = (".gz", ".zst")
"""Files with these are read from their beginning, whatever is wanted of them."""

_UNEVEN = re.compile(r"Expected (\d+) columns, got (\d+)")  # in Arrow's message
_ROW = re.compile(r"Row #\d+: ")  # before it where Arrow reads with one thread
_NO_ROW = "Empty CSV file or block"  # in Arrow's message
_NOT_UTF8 = "invalid UTF8"  # likewise, on bytes that are none
_TOO_LONG = "straddling object"  # likewise, on a row that does not end within two blocks


def parse_options(path: str, delimiter: str) -> pacsv.ParseOptions:
    """How Arrow parses a file: blocks end between rows, also where a quoted value has several lines."""
    quoted = quoting_of(path) != csv.QUOTE_NONE
    return pacsv.ParseOptions(
        delimiter=delimiter,
        quote_char='"' if quoted else False,
        newlines_in_values=quoted,
    )


def checked_stream(stream: pa.NativeFile, file: RawFile, delimiter: str) -> pa.NativeFile | CheckedQuotes:
    """The text of ``file`` for Arrow, which itself takes quotes that do not pair up.

    Args:
        stream: the file, decompressed.
    """
    quoted = quoting_of(file.location.path) != csv.QUOTE_NONE
    return lend(CheckedQuotes(stream, file.name, delimiter)) if quoted else stream


def header_line(file: RawFile) -> FirstLine:
    """``first_line`` of ``file``, or an InputError where it cannot be read."""
    try:
        return first_line(file)
    except (pa.ArrowException, OSError, csv.Error) as error:
        raise not_text(file, error) from error


def header(file: RawFile) -> list[str]:
    """The column names in the first line, without spaces around them; of JSON lines, the keys of the first
    ones."""
    if is_json_lines(file.location.path):
        return list(json_columns(file))
    line = header_line(file).columns
    if not line:
        raise InputError(
            f"{file.name}, line 1",
            "nothing",
            "the first line names the columns",
            "Add a header line, or remove the file; one with a header alone may stay.",
        )
    return list(line)


def text_blocks(
    file: RawFile,
    names: Sequence[str],
    null_values: Sequence[str],
    start: int = 0,
    lists: Sequence[str] = (),
) -> Iterator[dict[str, pa.Array]]:
    """The columns ``names``, block by block, as texts without spaces around them; null where nothing is left
    of them, or where they are among ``null_values``.

    Args:
        lists: columns of JSON lines that are read as lists of texts; elsewhere no value is a list.
        start: the byte of the text where the first row to be read begins (``last_block``); 0: at the header.
    """
    names = list(dict.fromkeys(names))  # one column may serve twice, as id and as time
    path, missing = file.location.path, pa.array(["", *null_values], pa.string())
    if is_json_lines(path):
        yield from _json_texts(file=file, names=names, missing=missing, start=start, lists=lists)
        return
    columns, delimiter, written = header_line(file)
    raw = dict(zip(columns, written, strict=True))
    convert = pacsv.ConvertOptions(
        include_columns=[raw[name] for name in names],
        column_types={raw[name]: pa.string() for name in names},
        # Only empty values here; the job's own null values are compared after trimming, below.
        strings_can_be_null=True,
        null_values=[""],
    )
    try:
        with opened_at(file, start) as stream:
            reader = pacsv.open_csv(
                checked_stream(stream, file, delimiter),
                pacsv.ReadOptions(block_size=BLOCK_BYTES, column_names=written if start else None),
                parse_options(path, delimiter),
                convert,
            )
            for batch in reader:
                if batch.num_rows:
                    yield {name: _trimmed(batch.column(raw[name]), missing) for name in names}
    except (pa.ArrowException, OSError) as error:
        if _NO_ROW not in str(error):  # a header without a line end, which is there: header() has read it
            raise not_text(file, error, start) from error


def _json_texts(
    file: RawFile, names: Sequence[str], missing: pa.Array, start: int, lists: Sequence[str]
) -> Iterator[dict[str, pa.Array]]:
    try:
        with opened_at(file, start) as stream:
            for columns in json_blocks(stream, file, names, lists):
                yield {
                    name: (_trimmed_lists if name in lists else _trimmed)(column, missing)
                    for name, column in columns.items()
                }
    except (pa.ArrowException, OSError) as error:
        raise not_text(file, error) from error


@contextmanager
def opened_at(file: RawFile, start: int) -> Iterator[pa.NativeFile]:
    """The text of a file from the byte ``start`` on, decompressed."""
    filesystem, path = file.location.filesystem, file.location.path
    if start and not path.endswith(COMPRESSED_SUFFIXES):
        with filesystem.open_input_file(path) as stream:
            stream.seek(start)
            yield stream
        return
    with filesystem.open_input_stream(path) as stream:
        # A compressed stream has no positions to seek to, so what comes before is read and dropped.
        while start > 0 and (read := len(stream.read(min(start, BLOCK_BYTES)))):
            start -= read
        yield stream


def not_text(file: RawFile, error: Exception, start: int = 0) -> InputError:
    """The error for a file that cannot be parsed; ``start``: as for ``text_blocks``."""
    if _TOO_LONG in str(error):
        return too_long(file)
    if _NOT_UTF8 in str(error) and (first := undecodable(file)):
        number, content = first
        return not_utf8(f"{file.name}, line {number}", content)
    rule, remedy = "every line has the header's columns, as UTF-8 text", "Correct the file."
    if counts := _UNEVEN.search(str(error)):
        # Arrow's own number, where it has one, counts from where reading began, and rows instead of lines.
        line = uneven_line(file, int(counts[1]), int(counts[2]), start)
        where = file.name if line is None else f"{file.name}, line {line}"
        return InputError(where, _ROW.sub("", str(error)).split("\n")[0], rule, remedy)
    return unreadable(file, error, rule, remedy)


def too_long(file: RawFile) -> InputError:
    """The error for a file of which a row has no end within a block."""
    return InputError(
        file.name,
        f"a row longer than {BLOCK_BYTES:,} bytes",
        "every quote must be closed, and every row must be shorter",
        "Close the quote, or write Parquet.",
    )


def _trimmed_lists(lists: pa.Array, missing: pa.Array) -> pa.Array:
    """Lists whose texts are trimmed, one by one."""
    return pa.ListArray.from_arrays(lists.offsets, _trimmed(lists.values, missing), mask=lists.is_null())


def _trimmed(texts: pa.Array, missing: pa.Array) -> pa.Array:
    texts = pc.utf8_trim(texts, " \t")
    return pc.if_else(pc.is_in(texts, value_set=missing), pa.scalar(None, pa.string()), texts)
