"""JSON lines: every line that is not blank is an object. Its values become texts, so that what holds for ids,
times and missing values in CSV holds here too."""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa
import pyarrow.json as pajson

from mmssl_dist.data.files import JSON_SUFFIXES, RawFile
from mmssl_dist.data.ids import one_array
from mmssl_dist.data.readers.base import unreadable
from mmssl_dist.errors import InputError

BLOCK_BYTES = 1 << 22
"""What is parsed at a time; a line is at most as long."""
Holds = Literal["values", "lists", "nested"]
"""What a column has: texts, numbers and the like; lists of them too; objects or lists of lists as well."""
_SAMPLE_BYTES = 1 << 20
_RULE = "every line is a JSON object, as UTF-8 text"
_VALUES = "a value is a text, a number, true, false or null"
_ORDER: tuple[Holds, ...] = ("values", "lists", "nested")
_SHOWN = 40  # letters of a line that is not an object
_NO_OBJECT = re.compile(rb"^[ \t\r]*[^{ \t\r\n]", re.MULTILINE)


def _integer(text: str) -> str:
    return "0" if text == "-0" else text  # the same number, which Arrow has as 0


def _constant(text: str) -> float | None:
    value = float(text)
    return None if math.isnan(value) else value


# Numbers as they are written: 1.50 is not 1.5 as an id, and integers beyond 64 bits are texts. What becomes a
# float is infinite: json.dumps writes NaN and Infinity, which JSON does not have.
_DECODER = json.JSONDecoder(parse_int=_integer, parse_float=str, parse_constant=_constant)


def is_json_lines(path: str) -> bool:
    """Whether a file's name says that it has JSON lines."""
    return path.endswith(JSON_SUFFIXES)


def json_columns(file: RawFile) -> dict[str, Holds]:
    """The keys of the first 2^20 bytes, or of the first line where that is longer, and what each has there.

    Raises:
        InputError: a line is not a valid object or is too long, or no object has a key.
    """
    columns: dict[str, Holds] = {}
    for _, record in _records(_first_lines(file).removeprefix(codecs.BOM_UTF8), file.name, 1):
        for name, value in record.items():
            columns[name] = max(columns.get(name, "values"), _held(value), key=_ORDER.index)
    if not columns:
        raise InputError(
            file.name,
            "no object with a key",
            "the first lines name the columns",
            "Remove the file, or write it again.",
        )
    return columns


def _first_lines(file: RawFile) -> bytes:
    try:
        with file.location.filesystem.open_input_stream(file.location.path) as stream:
            text, end = b"", 0
            while block := bytes(stream.read(_SAMPLE_BYTES)):
                text += block
                end = text.rfind(b"\n") + 1
                if len(block) == _SAMPLE_BYTES and text[:end].strip():  # else the file ends here
                    return text[:end]
                if len(text) - end > BLOCK_BYTES:
                    raise _too_long(file, 1 + text.count(b"\n"))
    except (pa.ArrowException, OSError) as error:
        raise unreadable(file, error, _RULE, "Correct the file.") from error
    return text


def _held(value: Any) -> Holds:
    if isinstance(value, list):
        return "nested" if any(isinstance(entry, dict | list) for entry in value) else "lists"
    return "nested" if isinstance(value, dict) else "values"


def _too_long(file: RawFile, line: int) -> InputError:
    return InputError(
        f"{file.name}, line {line}",
        f"more than {BLOCK_BYTES:,} bytes",
        "every object must be on a line of its own, and shorter",
        "Write one object per line.",
    )


def json_blocks(
    stream: pa.NativeFile, file: RawFile, names: Sequence[str], lists: Sequence[str]
) -> Iterator[dict[str, pa.Array]]:
    """The columns ``names``, block by block: texts, and of those in ``lists`` lists of texts.

    Args:
        stream: the text of ``file``, from the beginning of a line on; messages count lines from there.

    Raises:
        InputError: a line is not a valid object or is too long, or a value does not suit its column.
    """
    rest, line, begins = b"", 1, True
    while True:
        block = bytes(stream.read(BLOCK_BYTES))
        text = rest + block
        end = text.rfind(b"\n") + 1 if block else len(text)
        text, rest = text[:end], text[end:]
        lines = text.count(b"\n")
        if len(rest) > BLOCK_BYTES:
            raise _too_long(file, line + lines)
        if begins:
            text, begins = text.removeprefix(codecs.BOM_UTF8), False
        if text.strip():
            yield _parsed(text=text, name=file.name, line=line, names=names, lists=lists)
        line += lines
        if not block:
            return


def _parsed(
    text: bytes, name: str, line: int, names: Sequence[str], lists: Sequence[str]
) -> dict[str, pa.Array]:
    columns = None if lists else _by_arrow(text, names)
    return (
        _by_python(text=text, name=name, line=line, names=names, lists=lists) if columns is None else columns
    )


def _by_arrow(text: bytes, names: Sequence[str]) -> dict[str, pa.Array] | None:
    """The columns where each has texts alone or integers alone, which is nearly always; else None."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return None
    if _NO_OBJECT.search(text):  # Arrow makes a row without values of `null`
        return None
    rows = sum(bool(line.strip()) for line in text.split(b"\n"))
    types: dict[str, pa.DataType] = dict.fromkeys(names, pa.string())
    # A column of integers fails as texts; which one it was is in the message, once for each
    for _ in range(len(names) + 1):
        options = pajson.ParseOptions(explicit_schema=pa.schema(types), unexpected_field_behavior="ignore")
        try:
            table = pajson.read_json(
                pa.BufferReader(text),
                pajson.ReadOptions(use_threads=False, block_size=len(text) + 1),
                options,
            )
        except pa.ArrowInvalid as error:
            number = next(
                (name for name in names if f"Column(/{name}) changed from string to number" in str(error)),
                None,
            )
            if number is None or not pa.types.is_string(types[number]):
                return None
            types[number] = pa.int64()
            continue
        # Two objects of one line are not what this format has
        return (
            {name: one_array(table[name]).cast(pa.string()) for name in names}
            if table.num_rows == rows
            else None
        )
    return None


def _by_python(
    text: bytes, name: str, line: int, names: Sequence[str], lists: Sequence[str]
) -> dict[str, pa.Array]:
    values: dict[str, list[Any]] = {column: [] for column in names}
    for number, record in _records(text, name, line):
        for column in names:
            values[column].append(_value(record, column, column in lists, f"{name}, line {number}"))
    types = {column: pa.list_(pa.string()) if column in lists else pa.string() for column in names}
    return {column: pa.array(values[column], types[column]) for column in names}


def _records(text: bytes, name: str, line: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The number of each line that is not blank, and its object."""
    for number, raw in enumerate(text.split(b"\n"), line):
        if not raw.strip():
            continue
        where = f"{name}, line {number}"
        try:
            record = _DECODER.decode(raw.decode())
        except (ValueError, RecursionError) as error:
            raise InputError(where, str(error), _RULE, "Correct the line.") from error
        if not isinstance(record, dict):
            shown = "a list" if isinstance(record, list) else raw.decode().strip()[:_SHOWN]
            raise InputError(where, shown, _RULE, "Write one object per line.")
        yield number, record


def _value(record: Mapping[str, Any], column: str, is_list: bool, where: str) -> Any:
    value = record.get(column)
    if is_list:
        several = value if isinstance(value, list) or value is None else [value]
        return None if several is None else [_text(entry, column, where) for entry in several]
    return _text(value, column, where)


def _text(value: Any, column: str, where: str) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return None
    try:
        if isinstance(value, str):
            value.encode()
            return value
    except UnicodeEncodeError as error:
        raise InputError(
            where,
            f"half of a surrogate pair in {column}",
            "texts must be valid Unicode",
            "Correct the escape sequence.",
        ) from error
    if isinstance(value, float):
        raise InputError(where, f"an infinite number in {column}", _VALUES, "Write a finite number, or null.")
    shown = "a list" if isinstance(value, list) else "an object"
    raise InputError(where, f"{shown} in {column}", _VALUES, "Name another column, or write its value alone.")
