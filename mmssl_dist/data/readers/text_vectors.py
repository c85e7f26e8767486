"""Features in CSV, TSV and JSON lines: vectors in one column, or one column for each of their values.

Vectors of one column are lists in JSON lines, and elsewhere texts such as [0.1, 0.2], as pandas and pgvector
write them. Text takes several times the time and space of Parquet, so this is for what other programs export.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.config.data_sections import Modality
from mmssl_dist.data.columns import ITEM_ID, USER_ID
from mmssl_dist.data.files import RawFile
from mmssl_dist.data.readers.base import FeatureBatch, Piece, require_dimension, row_location
from mmssl_dist.data.readers.delimited import FIRST_RECORD, header
from mmssl_dist.data.readers.id_types import IdSummary, Where, joined_ids
from mmssl_dist.data.readers.text import named_blocks, raw_names, summarize_text
from mmssl_dist.data.readers.values import to_ids
from mmssl_dist.data.readers.vector_rows import feature_batch, joined_lists, value_columns
from mmssl_dist.errors import InputError

_VECTOR = "vector"
_NULLS = ("",)
_BRACKETS = r"^[\[({]\s*|\s*[\])}]$"
_SEPARATORS = {";": r"\s*;\s*", ",": r"\s*,\s*", "": r"\s+"}  # what any text has decides, in this order
_NUMBER = {
    mark: rf"^[+-]?([0-9]+{mark}?[0-9]*|{mark}[0-9]+)([eE][+-]?[0-9]+)?$|^[+-]?([iI]nf(inity)?|[nN]a[nN])$"
    for mark in (r"\.", ",")
}


@dataclass(frozen=True, kw_only=True)
class TextVectors:
    """Features of one modality in text, all of one dimension; ``names`` are the columns of their values, or
    of the vectors."""

    files: tuple[RawFile, ...]
    columns: Modality
    names: Mapping[str, str]
    item_ids: IdSummary
    item_type: pa.DataType
    dimension: int
    dtype: np.dtype = np.dtype(np.float32)  # noqa: RUF009, immutable
    last_pieces: tuple[Piece, ...] = ()
    rows: int | None = None

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """See ``FeatureSource``."""
        return tuple(map(Piece, range(len(self.files))))

    def with_item_type(self, item_type: pa.DataType) -> TextVectors:
        """See ``FeatureSource``."""
        return replace(self, item_type=item_type)

    def read_all(self, pieces: Sequence[Piece]) -> Iterator[FeatureBatch]:
        """See ``FeatureSource``."""
        return itertools.chain.from_iterable(map(self.read, pieces))

    def read(self, piece: Piece) -> Iterator[FeatureBatch]:
        """See ``FeatureSource``."""
        file, row = self.files[piece.file], FIRST_RECORD
        for block in _blocks(file, {ITEM_ID: self.columns.item, **self.names}):
            rows = np.arange(row, row + len(block[ITEM_ID]), dtype=np.int64)

            def where(index: int, first: int = row) -> str:
                return row_location(self.files, piece.file, "line", first + index)

            yield feature_batch(
                items=to_ids(pa.chunked_array([block.pop(ITEM_ID)]), self.item_type, where),
                lists=_lists(block, self.columns.decimal, where),
                files=np.full(len(rows), piece.file, np.int32),
                rows=rows,
                dimension=self.dimension,
                dtype=self.dtype,
                where=where,
            )
            row += len(rows)


def open_text_vectors(
    files: tuple[RawFile, ...], columns: Modality, item_setting: str | None = None
) -> TextVectors:
    """The features in ``files``; ``item_setting`` is data.columns.types.item.

    Raises:
        InputError: a file cannot be read, a column is missing, or there is no vector at all.
    """
    of_values = value_columns({f"{file.name}, line 1": header(file) for file in files}, columns.vector)
    names = {f"value {number}": name for number, name in enumerate(of_values)} or {_VECTOR: columns.vector}
    for file in files:
        raw_names(file, {ITEM_ID: columns.item, **names})
    ids = {USER_ID: columns.item, ITEM_ID: columns.item}
    item_ids = joined_ids([summarize_text(files, ids, _NULLS, None).ids[ITEM_ID]], item_setting)
    dimension = len(of_values) or _first_length(files, names, columns.decimal)
    require_dimension(f"{files[0].name}, column {columns.vector}", dimension)
    return TextVectors(
        files=files,
        columns=columns,
        names=names,
        item_ids=item_ids,
        item_type=item_ids.type,
        dimension=dimension,
    )


def _blocks(file: RawFile, names: Mapping[str, str]) -> Iterator[dict[str, pa.Array]]:
    return named_blocks(file, names, _NULLS, lists=names.keys() & {_VECTOR})


def _first_length(files: Sequence[RawFile], names: Mapping[str, str], decimal: str) -> int:
    """The length of the first vector there is."""
    for number, file in enumerate(files):
        row = FIRST_RECORD
        for block in _blocks(file, names):
            lists = _lists(block, decimal, partial(_line, files, number, row))
            lengths = pc.list_value_length(lists)
            lengths = lengths.filter(pc.fill_null(pc.greater(lengths, 0), False))
            if len(lengths):
                return int(lengths[0].as_py())
            row += len(lists)
    raise InputError(
        files[0].name, "no vector", "a modality must have features for at least one item", "Check the files."
    )


def _line(files: Sequence[RawFile], file: int, first: int, index: int) -> str:
    return row_location(tuple(files), file, "line", first + index)


def _lists(block: Mapping[str, pa.Array], decimal: str, where: Where) -> pa.Array:
    """The vectors of a block, as lists of float64; null where a row has none."""
    if _VECTOR not in block:
        return joined_lists([_numbers(column, decimal, where) for column in block.values()])
    column = block[_VECTOR]
    lists = column if pa.types.is_list(column.type) else _split(column)
    owners = pc.list_parent_indices(lists)
    values = _numbers(lists.flatten(), decimal, lambda index: where(owners[index].as_py()))
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return pa.LargeListArray.from_arrays(pa.array(offsets), values, mask=lists.is_null())


def _split(texts: pa.Array) -> pa.Array:
    """Texts such as [0.1, 0.2] as lists of texts; null where there is nothing between the brackets."""
    bare = pc.replace_substring_regex(texts, _BRACKETS, "")
    bare = pc.if_else(pc.equal(bare, ""), pa.scalar(None, pa.string()), bare)
    # Of decimal commas between semicolons or spaces no value may become two
    mark = next(mark for mark in _SEPARATORS if pc.any(pc.match_substring(bare, mark)).as_py() or not mark)
    return pc.split_pattern_regex(bare, _SEPARATORS[mark])


def _numbers(texts: pa.Array, decimal: str, where: Where) -> pa.Array:
    """Texts as float64; nulls stay."""
    written = pc.match_substring_regex(texts, _NUMBER["," if decimal == "," else r"\."])
    if pc.all(written).as_py() is False:
        index = int(pc.index(written, pa.scalar(False)).as_py())
        raise InputError(
            where(index),
            f"{texts[index].as_py()!r} in a vector",
            f"the values of a vector are numbers with a decimal {'comma' if decimal == ',' else 'point'}",
            'Correct the row; for decimal commas set decimal: "," beside vector.',
        )
    texts = pc.replace_substring(texts, ",", ".") if decimal == "," else texts
    return texts.cast(pa.float64())
