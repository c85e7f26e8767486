"""Tables of items, such as those with titles: their ids as the files have them, and other columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import pyarrow as pa

from mmssl_dist.config.data_sections import Columns
from mmssl_dist.data.files import PARQUET_SUFFIXES, RawFile
from mmssl_dist.data.ids import is_text, storage_type
from mmssl_dist.data.readers.base import Piece
from mmssl_dist.data.readers.delimited import header
from mmssl_dist.data.readers.json_lines import is_json_lines
from mmssl_dist.data.readers.parquet import (
    BATCH_ROWS,
    Footer,
    batches,
    read_footers,
    require_column,
    require_columns,
)
from mmssl_dist.data.readers.text import columns_with, named_blocks, raw_names
from mmssl_dist.data.readers.values import checked_values
from mmssl_dist.errors import InputError

_NULLS = ("",)
_REMEDY = (
    "Name the columns in the job (data.columns.title for titles, title_item for ids that have another name "
    "than in the interactions), or rename them."
)


def check_item_columns(file: RawFile, columns: Columns, names: Sequence[str]) -> None:
    """Look at the columns ``names`` of a file, and at that of its ids.

    Raises:
        InputError: it cannot be read, or lacks a column, or its titles or ids are not texts.
    """
    if _is_parquet(file):
        _footer(file, columns, names)
    elif is_json_lines(file.location.path):
        next(_text_blocks(file, columns, names), None)  # the first values show what the columns have
    else:
        raw_names(file, {name: name for name in (columns.item_of_titles, *names)}, _REMEDY)


def item_blocks(file: RawFile, columns: Columns, names: Sequence[str] | None) -> Iterator[pa.Table]:
    """The ids and the columns ``names`` of a file, block by block; None: all columns that are texts, numbers,
    booleans, or lists of texts or whole numbers. Outside of Parquet every value is a text, also ids, or 007
    would be 7; lists of JSON lines are lists of texts.

    Raises:
        InputError: as ``check_item_columns``, or a text is not UTF-8.
    """
    return (_parquet_blocks if _is_parquet(file) else _text_blocks)(file, columns, names)


def column_names(file: RawFile) -> list[str]:
    """The columns of a file; raises an InputError where it cannot be read."""
    return list(read_footers([file])[0].schema.names) if _is_parquet(file) else list(header(file))


def usable_columns(file: RawFile, title: str) -> list[str]:
    """The columns of a file with titles in ``title`` that ``item_blocks`` reads by default; raises as
    ``column_names``."""
    if _is_parquet(file):
        schema = read_footers([file])[0].schema
        return [name for name in schema.names if _is_usable(schema.field(name).type)]
    nested = columns_with("nested", file, written := column_names(file))
    return [name for name in written if name not in nested or name == title]


def is_list(raw: pa.DataType) -> bool:
    """Whether ``raw`` is a type of lists."""
    return bool(pa.types.is_list(raw) or pa.types.is_large_list(raw))


def _is_parquet(file: RawFile) -> bool:
    return file.location.path.endswith(PARQUET_SUFFIXES)


def _text_blocks(file: RawFile, columns: Columns, names: Sequence[str] | None) -> Iterator[pa.Table]:
    names = usable_columns(file, columns.title) if names is None else names
    unique = {name: name for name in (columns.item_of_titles, *names)}
    raw_names(file, unique, _REMEDY)
    lists = unique.keys() - {columns.item_of_titles, columns.title}
    return (pa.table(block) for block in named_blocks(file, unique, _NULLS, lists=lists))


def _parquet_blocks(file: RawFile, columns: Columns, names: Sequence[str] | None) -> Iterator[pa.Table]:
    footer = _footer(file, columns, names)
    if names is None:
        names = [name for name in footer.schema.names if _is_usable(footer.schema.field(name).type)]
    read, row = list(dict.fromkeys((columns.item_of_titles, *names))), 0
    for batch in batches(file, Piece(0, 0, len(footer.group_rows)), read, BATCH_ROWS):
        where = partial(_where, file, row)
        yield pa.table(
            {
                name: values
                if name == columns.item_of_titles or is_list(values.type)
                else checked_values(pa.chunked_array([values]), partial(where, name))
                for name, values in zip(read, batch.columns, strict=True)
            }
        )
        row += len(batch)


def _where(file: RawFile, first: int, column: str, index: int) -> str:
    return f"{file.name}, column {column}, row {first + index}"


def _footer(file: RawFile, columns: Columns, names: Sequence[str] | None) -> Footer:
    (footer,) = read_footers([file])
    read = (columns.item_of_titles, *(footer.schema.names if names is None else names))
    require_columns(file, footer.schema, read, _REMEDY)
    for name in read:
        raw = storage_type(require_column(file, footer.schema, name))
        if name == columns.title and not (is_text(raw) or pa.types.is_null(raw)):
            raise InputError(
                f"{file.name}, column {name}",
                f"type {raw}",
                "titles are texts",
                "Write the column as text, or name another in data.columns.title.",
            )
    return footer


def _is_usable(raw: pa.DataType) -> bool:
    if is_list(raw):
        return bool(is_text(raw.value_type) or pa.types.is_integer(raw.value_type))
    raw = storage_type(raw)
    numbers = pa.types.is_integer(raw) or pa.types.is_floating(raw) or pa.types.is_boolean(raw)
    return bool(numbers or is_text(raw))
