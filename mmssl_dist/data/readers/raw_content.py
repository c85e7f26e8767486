"""Raw content of items, of which the stage embed makes vectors: texts in tables, pictures in a folder or
named by tables, columns of features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.config.content_rules import columns_of_path
from mmssl_dist.config.data_sections import Modality
from mmssl_dist.data.columns import ITEM_ID, USER_ID
from mmssl_dist.data.files import PARQUET_SUFFIXES, ContentFiles, RawFile, path_regex
from mmssl_dist.data.ids import is_number, is_text, one_array, storage_type
from mmssl_dist.data.readers.base import FeatureBatch, Piece, row_location
from mmssl_dist.data.readers.delimited import FIRST_RECORD
from mmssl_dist.data.readers.id_types import IdSummary, Where, joined_ids, text_ids
from mmssl_dist.data.readers.parquet import (
    BATCH_ROWS,
    Footer,
    batches,
    read_footers,
    require_column,
    require_columns,
    row_group_pieces,
)
from mmssl_dist.data.readers.parquet_columns import id_summary
from mmssl_dist.data.readers.tabular import item_texts, require_feature_type
from mmssl_dist.data.readers.text import named_blocks, raw_names, summarize_text
from mmssl_dist.data.readers.values import checked_values, to_ids
from mmssl_dist.errors import InputError

LINE = "\n"
"""Between the values of an item's text."""
_NULLS = ("",)
_ITEM = "item"  # in a path of pictures, whatever the column is called
_COLUMN = "column "  # before the name of a column that is not the item's id
_PIECE_ROWS = 1 << 16


@dataclass(frozen=True)
class ContentBatch:
    """Content of n items: their ids, where they are named, and the text of each, the path of its picture
    below data.path, or its features as ``tabular.item_texts`` writes them; null where there is none."""

    items: pa.Array
    files: np.ndarray
    rows: np.ndarray
    content: pa.Array


@dataclass(frozen=True, kw_only=True)
class ContentSource:
    """The content of one modality, and its items as ``FeatureSource``: until an encoder has seen them, their
    vectors are one zero each."""

    files: tuple[RawFile, ...]
    columns: Modality
    content: ContentFiles
    item_ids: IdSummary
    item_type: pa.DataType
    pieces: tuple[Piece, ...]
    last_pieces: tuple[Piece, ...] = ()
    rows: int | None = None
    dimension: int = 1
    dtype: np.dtype = np.dtype(np.float16)  # noqa: RUF009, immutable
    null_values: tuple[str, ...] = _NULLS
    """Of columns of features."""

    def with_item_type(self, item_type: pa.DataType) -> ContentSource:
        """See ``FeatureSource``."""
        return replace(self, item_type=item_type)

    def read_all(self, pieces: Sequence[Piece]) -> Iterator[FeatureBatch]:
        """See ``FeatureSource``."""
        return chain.from_iterable(map(self.read, pieces))

    def read(self, piece: Piece) -> Iterator[FeatureBatch]:
        """The items that have content, once however often they are named."""
        for batch in self.read_content(piece):
            kept = np.flatnonzero(self._has_content(batch.content))
            vectors = np.zeros((len(kept), 1), self.dtype)
            yield FeatureBatch(batch.items.take(kept), batch.files[kept], batch.rows[kept], vectors)

    def read_content(self, piece: Piece) -> Iterator[ContentBatch]:
        """All rows of a piece that name an item.

        Raises:
            InputError: a text without an item's id, or values that are not texts.
        """
        if not self.content.tables:
            yield self._of_pictures(piece)
            return
        file, row = self.files[piece.file], piece.row
        text = not file.location.path.endswith(PARQUET_SUFFIXES)
        for block in _text_blocks(file, self.columns) if text else _parquet_blocks(file, piece, self.columns):
            first = row + FIRST_RECORD if text else row
            unit = "line" if text else "row"

            def where(index: int, first: int = first, unit: str = unit) -> str:
                return row_location(self.files, piece.file, unit, first + index)

            yield self._of_block(block, piece.file, first, where)
            row += len(block[ITEM_ID])

    def _of_block(self, block: dict[str, pa.Array], file: int, first: int, where: Where) -> ContentBatch:
        items = to_ids(pa.chunked_array([block[ITEM_ID]]), self.item_type, where)
        columns = {name: column for name, column in block.items() if name != ITEM_ID}
        content = self._content(columns, items, where)
        unnamed = pc.and_(items.is_null(), content.is_valid())
        if pc.any(unnamed).as_py():
            raise InputError(
                where(int(pc.index(unnamed, pa.scalar(True)).as_py())),
                "no item id",
                "all content belongs to an item",
                "Fill in the id or drop the row.",
            )
        named = np.flatnonzero(items.is_valid().to_numpy(zero_copy_only=False))
        rows = first + named.astype(np.int64)
        files = np.full(len(named), file, np.int32)
        return ContentBatch(items.take(named), files, rows, content.take(named))

    def _content(self, columns: dict[str, pa.Array], items: pa.Array, where: Where) -> pa.Array:
        if self.columns.features:
            named = {name.removeprefix(_COLUMN): column for name, column in columns.items()}
            return item_texts(named, self.columns, self.null_values, where)
        texts = {name: _texts(column, name, where) for name, column in columns.items()}
        pattern = self.columns.files
        return joined_text(list(texts.values())) if pattern is None else _paths(pattern, texts, items)

    def _of_pictures(self, piece: Piece) -> ContentBatch:
        assert self.content.pictures is not None
        assert self.columns.files is not None
        names = one_array(self.content.pictures.listing["name"]).slice(piece.first, piece.last - piece.first)
        rows = np.arange(piece.first, piece.last, dtype=np.int64)
        ids = to_ids(
            pa.chunked_array([_ids_of_paths(self.columns.files, names)]),
            self.item_type,
            lambda index: str(names[index]),
        )
        return ContentBatch(ids, np.zeros(len(rows), np.int32), rows, names)

    def _has_content(self, content: pa.Array) -> np.ndarray:
        """[n] bool: whether there is a text, or a picture in the folder."""
        present = content.is_valid()
        if self.content.pictures is not None:
            there = pc.is_in(content, value_set=one_array(self.content.pictures.listing["name"]))
            present = pc.and_(present, there)
        return np.asarray(present.to_numpy(zero_copy_only=False), bool)


def joined_text(columns: Sequence[pa.Array]) -> pa.Array:
    """The values of an item's columns, one to a line and without those that are empty; null where all are."""
    rows = zip(*(column.to_pylist() for column in columns), strict=True)
    values = ([value.strip() for value in row if value is not None] for row in rows)
    return pa.array([LINE.join(filter(None, row)) or None for row in values], pa.string())


def open_content(
    key: str,
    modality: Modality,
    content: ContentFiles,
    item_setting: str | None = None,
    null_values: tuple[str, ...] = _NULLS,
) -> ContentSource:
    """The content of one modality.

    Args:
        key: its YAML path.
        modality: its settings.
        content: its files.
        item_setting: data.columns.types.item.
        null_values: what stands for a missing value in columns of features.

    Raises:
        InputError: a table cannot be read, or lacks a column, or has one of another type.
    """
    if not content.tables:
        return _open_pictures(key, modality, content)
    summaries, all_pieces = [], []
    for number, file in enumerate(content.tables):
        if file.location.path.endswith(PARQUET_SUFFIXES):
            (footer,) = read_footers([file])
            require_columns(file, footer.schema, wanted_columns(modality).values())
            for column in wanted_columns(modality).values():
                _require_type(file, footer, column, modality)
            summaries.append(id_summary((file,), [footer], modality.item, item_setting))
            groups = row_group_pieces([footer], _PIECE_ROWS)
            all_pieces += [replace(piece, file=number) for piece in groups]
        else:
            raw_names(file, wanted_columns(modality))
            ids_alone = {USER_ID: modality.item, ITEM_ID: modality.item}
            summaries.append(summarize_text((file,), ids_alone, _NULLS, None).ids[ITEM_ID])
            all_pieces.append(Piece(number))
    ids = joined_ids(summaries, item_setting)
    return ContentSource(
        files=content.tables,
        columns=modality,
        content=content,
        item_ids=ids,
        item_type=ids.type,
        pieces=tuple(all_pieces),
        null_values=null_values,
    )


def _open_pictures(key: str, modality: Modality, content: ContentFiles) -> ContentSource:
    assert content.pictures is not None
    assert modality.files is not None
    names = one_array(content.pictures.listing["name"])
    source = f"{key}.files"
    ids = text_ids(_ids_of_paths(modality.files, names), source, lambda index: str(names[index]))
    pieces = tuple(
        Piece(0, first, min(first + _PIECE_ROWS, len(names)), first)
        for first in range(0, len(names), _PIECE_ROWS)
    )
    folder = RawFile(location=content.pictures.folder, size=0, modified=None)
    return ContentSource(
        files=(folder,),
        columns=modality,
        content=content,
        item_ids=ids,
        item_type=ids.type,
        pieces=pieces,
    )


def wanted_columns(modality: Modality) -> dict[str, str]:
    """The columns of a table that are read, by how they are called here."""
    if modality.files is None:
        named = [*modality.columns, *modality.features]
    else:
        named = [name for name in columns_of_path(modality.files) if name != _ITEM]
    return {ITEM_ID: modality.item} | {f"{_COLUMN}{name}": name for name in named}


def _text_blocks(file: RawFile, modality: Modality) -> Iterator[dict[str, pa.Array]]:
    names = wanted_columns(modality)
    return named_blocks(file, names, _NULLS, lists=names.keys() - {ITEM_ID})


def _parquet_blocks(file: RawFile, piece: Piece, modality: Modality) -> Iterator[dict[str, pa.Array]]:
    names = wanted_columns(modality)
    stored = list(dict.fromkeys(names.values()))
    for batch in batches(file, piece, stored, min(BATCH_ROWS, _PIECE_ROWS)):
        yield {name: batch.column(stored.index(column)) for name, column in names.items()}


def _require_type(file: RawFile, footer: Footer, column: str, modality: Modality) -> None:
    raw = storage_type(require_column(file, footer.schema, column))
    if column in modality.features:
        require_feature_type(f"{file.name}, column {column}", raw, modality.features[column])
    elif not (column == modality.item or _is_textual(raw)):
        raise InputError(
            f"{file.name}, column {column}",
            f"type {raw}",
            "content is texts, numbers or lists of texts",
            "Write the column as text.",
        )


def _is_textual(raw: pa.DataType) -> bool:
    if pa.types.is_list(raw) or pa.types.is_large_list(raw):
        return is_text(raw.value_type)
    return bool(is_text(raw) or is_number(raw) or pa.types.is_boolean(raw) or pa.types.is_null(raw))


def _texts(column: pa.Array, name: str, where: Where) -> pa.Array:
    values = checked_values(pa.chunked_array([column]), lambda index: f"{where(index)}, {name}")
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        values = pc.binary_join(_without_nulls(values.cast(pa.list_(pa.string()))), ", ")
    return values.cast(pa.string())


def _without_nulls(lists: pa.Array) -> pa.Array:
    """Lists without the nulls in them, of which one would make null of the whole list joined."""
    values = lists.flatten()
    if not values.null_count:
        return lists
    kept = values.is_valid()
    owners = pc.list_parent_indices(lists).filter(kept).to_numpy()
    ends = np.cumsum(np.bincount(owners, minlength=len(lists)))
    offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
    return pa.ListArray.from_arrays(offsets, values.filter(kept), mask=lists.is_null())


def _ids_of_paths(pattern: str, names: pa.Array) -> pa.Array:
    regex = path_regex(pattern)
    matches = map(regex.fullmatch, names.to_pylist())
    return pa.array([match[1] if match else None for match in matches], pa.string())


def _paths(pattern: str, texts: dict[str, pa.Array], items: pa.Array) -> pa.Array:
    """The path of each item's picture, null where a part of it is missing."""
    values = {name.removeprefix(_COLUMN): pc.utf8_trim_whitespace(column) for name, column in texts.items()}
    if _ITEM in columns_of_path(pattern):
        values[_ITEM] = items.cast(pa.string())
    parts: list[pa.Array | str] = []
    rest = pattern
    for name in columns_of_path(pattern):
        before, _, rest = rest.partition(f"{{{name}}}")
        parts += [before, pc.if_else(pc.equal(values[name], ""), None, values[name])]
    return pc.binary_join_element_wise(*parts, rest, "")
