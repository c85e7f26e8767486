"""Titles of items, for people who look at lists: read when they are shown, and for these items alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.config.data_sections import Data
from mmssl_dist.data.files import PARQUET_SUFFIXES, RawFile
from mmssl_dist.data.ids import id_texts, is_text, storage_type
from mmssl_dist.data.readers.base import Piece
from mmssl_dist.data.readers.parquet import BATCH_ROWS, Footer, batches, read_footers, require_column
from mmssl_dist.data.readers.text import named_blocks, raw_names
from mmssl_dist.data.readers.values import checked_values
from mmssl_dist.errors import InputError

TITLE = "title"


def check_titles(data: Data, files: Iterable[RawFile]) -> None:
    """Look at the columns of the files of titles.

    Raises:
        InputError: a file cannot be read, or has no column with ids or none with titles.
    """
    for file in files:
        if _is_parquet(file):
            _footer(data, file)
        else:
            raw_names(file, _names(data))


def read_titles(data: Data, files: Iterable[RawFile], items: Iterable[object]) -> dict[str, str]:
    """The titles of some items, by the text of their id; of items named twice the last, of those without a
    title none.

    Raises:
        InputError: as ``check_titles`` does.
    """
    items = list(items)
    # As text, since a file of titles may keep ids in another type than the dataset.
    wanted = pa.array(sorted({str(item) for item in items}), pa.string())
    titles: dict[str, str] = {}
    for file in files:
        for raw, texts in _parquet_columns(data, file) if _is_parquet(file) else _text_columns(data, file):
            ids = id_texts(pa.chunked_array([raw]), like=items[0] if items else None)
            chosen = pc.and_(pc.is_in(ids, value_set=wanted), texts.is_valid())
            # Later rows win, as in a table where a correction was appended.
            titles |= zip(ids.filter(chosen).to_pylist(), texts.filter(chosen).to_pylist(), strict=True)
    return titles


def _names(data: Data) -> dict[str, str]:
    return {name: name for name in (data.columns.item, TITLE)}


def _is_parquet(file: RawFile) -> bool:
    return file.location.path.endswith(PARQUET_SUFFIXES)


def _text_columns(data: Data, file: RawFile) -> Iterator[tuple[pa.Array, pa.Array]]:
    """Ids and titles, block by block; ids in text stay text, or 007 would be 7."""
    for columns in named_blocks(file, _names(data), null_values=("",)):
        yield columns[data.columns.item], columns[TITLE]


def _parquet_columns(data: Data, file: RawFile) -> Iterator[tuple[pa.Array, pa.Array]]:
    piece = Piece(0, 0, len(_footer(data, file).group_rows))
    first = 0
    for batch in batches(file, piece, list(_names(data)), BATCH_ROWS):
        ids, titles = batch.columns
        where = partial(_where, file, first)
        yield ids, checked_values(pa.chunked_array([titles]).cast(pa.string()), where)
        first += len(batch)


def _where(file: RawFile, first: int, index: int) -> str:
    return f"{file.name}, column {TITLE}, row {first + index}"


def _footer(data: Data, file: RawFile) -> Footer:
    (footer,) = read_footers([file])
    require_column(file, footer.schema, data.columns.item)
    require_titles(file, require_column(file, footer.schema, TITLE))
    return footer


def require_titles(file: RawFile, raw: pa.DataType) -> None:
    """Raise an InputError unless a column of type ``raw`` can hold titles."""
    if not (is_text(storage_type(raw)) or pa.types.is_null(storage_type(raw))):
        raise InputError(
            f"{file.name}, column {TITLE}", f"type {raw}", "titles are texts", "Write the column as text."
        )
