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
            _footer(data.columns.item, file)
        else:
            raw_names(file, _names(data.columns.item))


def read_titles(data: Data, files: Iterable[RawFile], items: Iterable[object]) -> dict[str, str]:
    """The titles of some items, by the text of their id; of items named twice the last, of those without a
    title none.

    Raises:
        InputError: as ``check_titles`` does.
    """
    items = list(items)
    wanted = {str(item) for item in items}
    return titles_of(files, data.columns.item, wanted, like=items[0] if items else None)


def titles_of(
    files: Iterable[RawFile], id_column: str, wanted: Iterable[str], like: object
) -> dict[str, str]:
    """``read_titles`` for the items whose ids have the texts ``wanted``, as ``id_texts`` makes them.

    Args:
        id_column: the column with item ids.
        like: an id of the dataset, as for ``id_texts``.
    """
    # As text, since a file of titles may keep ids in another type than the dataset.
    among = pa.array(sorted(wanted), pa.string())
    titles: dict[str, str | None] = {}
    for file in files:
        columns = _parquet_columns if _is_parquet(file) else _text_columns
        for raw, texts in columns(id_column, file):
            ids = id_texts(pa.chunked_array([raw]), like)
            chosen = pc.is_in(ids, value_set=among)
            # Later rows win, as in a table where a correction was appended.
            titles |= zip(ids.filter(chosen).to_pylist(), texts.filter(chosen).to_pylist(), strict=True)
    return {item: title for item, title in titles.items() if title is not None}


def _names(id_column: str) -> dict[str, str]:
    return {name: name for name in (id_column, TITLE)}


def _is_parquet(file: RawFile) -> bool:
    return file.location.path.endswith(PARQUET_SUFFIXES)


def _text_columns(id_column: str, file: RawFile) -> Iterator[tuple[pa.Array, pa.Array]]:
    """Ids and titles, block by block; ids in text stay text, or 007 would be 7."""
    for columns in named_blocks(file, _names(id_column), null_values=("",)):
        yield columns[id_column], columns[TITLE]


def _parquet_columns(id_column: str, file: RawFile) -> Iterator[tuple[pa.Array, pa.Array]]:
    piece = Piece(0, 0, len(_footer(id_column, file).group_rows))
    first = 0
    for batch in batches(file, piece, list(_names(id_column)), BATCH_ROWS):
        ids, titles = batch.columns
        where = partial(_where, file, first)
        yield ids, checked_values(pa.chunked_array([titles]).cast(pa.string()), where)
        first += len(batch)


def _where(file: RawFile, first: int, index: int) -> str:
    return f"{file.name}, column {TITLE}, row {first + index}"


def _footer(id_column: str, file: RawFile) -> Footer:
    (footer,) = read_footers([file])
    require_column(file, footer.schema, id_column)
    require_titles(file, require_column(file, footer.schema, TITLE))
    return footer


def require_titles(file: RawFile, raw: pa.DataType) -> None:
    """Raise an InputError unless a column of type ``raw`` can hold titles."""
    if not (is_text(storage_type(raw)) or pa.types.is_null(storage_type(raw))):
        raise InputError(
            f"{file.name}, column {TITLE}", f"type {raw}", "titles are texts", "Write the column as text."
        )
