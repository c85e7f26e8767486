"""Features in Parquet: a list column beside the item's id, or a column for each value. An item that is not
there, or has null or an empty list, lacks the modality."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.config.data_sections import Modality
from mmssl_dist.data.files import RawFile
from mmssl_dist.data.ids import is_number, one_array, storage_type
from mmssl_dist.data.readers.base import FeatureBatch, Piece, require_dimension
from mmssl_dist.data.readers.id_types import IdSummary
from mmssl_dist.data.readers.list_columns import (
    EXTENSION_NAME,
    list_type,
    plain_lists,
    tensor_shape,
    value_type,
)
from mmssl_dist.data.readers.numbered import PIECE_BYTES
from mmssl_dist.data.readers.parquet import (
    Footer,
    JoinedRows,
    batches,
    is_folder_key,
    joined_batches,
    last_groups,
    read_footers,
    require_column,
    require_columns,
    row_group_pieces,
)
from mmssl_dist.data.readers.parquet_columns import has_value, id_summary
from mmssl_dist.data.readers.values import to_ids
from mmssl_dist.data.readers.vector_rows import ANY_NUMBER, feature_batch, joined_lists, value_columns
from mmssl_dist.errors import InputError


@dataclass(frozen=True, kw_only=True)
class VectorFeatures:
    """Features of one modality in Parquet files, all of one dimension; ``names`` are the columns of their
    values, or that of the vectors."""

    files: tuple[RawFile, ...]
    columns: Modality
    names: tuple[str, ...]
    item_ids: IdSummary
    item_type: pa.DataType
    dimension: int
    dtype: np.dtype
    pieces: tuple[Piece, ...]
    last_pieces: tuple[Piece, ...]
    rows: int | None = None

    def read(self, piece: Piece) -> Iterator[FeatureBatch]:
        """See ``FeatureSource``."""
        return self.read_all([piece])

    def read_all(self, pieces: Sequence[Piece]) -> Iterator[FeatureBatch]:
        """Features in ``pieces``, those of small ones together."""
        # Rows by their width: a fixed number is far too many for wide features, and slow for narrow ones.
        step = max(1, PIECE_BYTES // (self.dimension * 4))
        columns = [self.columns.item, *self.names]
        return map(self._features, joined_batches(self.files, pieces, columns, step))

    def with_item_type(self, item_type: pa.DataType) -> VectorFeatures:
        """See ``FeatureSource``."""
        return replace(self, item_type=item_type)

    def _features(self, joined: JoinedRows) -> FeatureBatch:
        where = partial(joined.location, self.files)
        items = to_ids(joined.columns[self.columns.item], self.item_type, where)
        columns = [joined.columns[name] for name in self.names]
        if ANY_NUMBER in self.columns.vector:
            lists = joined_lists([one_array(column) for column in columns])
        else:
            lists = pa.concat_arrays([plain_lists(chunk) for chunk in columns[0].chunks])
        return feature_batch(
            items=items,
            lists=lists,
            files=joined.files,
            rows=joined.rows,
            dimension=self.dimension,
            dtype=self.dtype,
            where=where,
        )


def open_vectors(
    files: tuple[RawFile, ...], columns: Modality, item_setting: str | None = None
) -> VectorFeatures:
    """The features in ``files``; ``item_setting`` is data.columns.types.item.

    Raises:
        InputError: not Parquet, a column missing or of the wrong type, or no vector at all.
    """
    footers = read_footers(files)
    schemas = {file.name: footer.schema.names for file, footer in zip(files, footers, strict=True)}
    of_values = value_columns(schemas, columns.vector)
    names = of_values or (columns.vector,)
    for file, footer in zip(files, footers, strict=True):
        require_columns(file, footer.schema, (columns.item, *names))
    item_ids = id_summary(files, footers, columns.item, item_setting)
    if of_values:
        dimension, dtype = len(of_values), _dtype_of_columns(files, footers, of_values)
        require_dimension(f"{files[0].name}, columns {columns.vector}", dimension)
    else:
        types = [_value_type(*pair, columns.vector) for pair in zip(files, footers, strict=True)]
        dimension, dtype = (
            _dimension(files, footers, columns.vector),
            _dtype(files, footers, types, columns.vector),
        )
    pieces = row_group_pieces(footers, max(1, PIECE_BYTES // (4 * dimension)))
    return VectorFeatures(
        files=files,
        columns=columns,
        names=names,
        item_ids=item_ids,
        item_type=item_ids.type,
        dimension=dimension,
        dtype=dtype,
        pieces=pieces,
        last_pieces=last_groups(footers),
    )


def _dtype_of_columns(files: Sequence[RawFile], footers: Sequence[Footer], names: Sequence[str]) -> np.dtype:
    """float16 where all values are halves, else float32."""
    types = set()
    for file, footer in zip(files, footers, strict=True):
        for name in names:
            raw = storage_type(require_column(file, footer.schema, name))
            if not (is_number(raw) or pa.types.is_null(raw)):
                raise InputError(
                    f"{file.name}, column {name}",
                    f"type {raw}",
                    "the values of a vector are numbers",
                    "Write the column as float, or correct the pattern.",
                )
            types.add(raw)
    return np.dtype(np.float16 if types == {pa.float16()} else np.float32)


def _value_type(file: RawFile, footer: Footer, column: str) -> pa.DataType:
    """The type of the values of the vectors in ``file``; null where the column's type shows that there is
    none."""
    raw = require_column(file, footer.schema, column)
    lists = list_type(raw)
    if not is_folder_key(file, footer.schema, column):
        _require_flat(file, footer.schema.field(column))
    if lists is None:
        if pa.types.is_null(raw) or not (
            pa.types.is_nested(raw) or is_folder_key(file, footer.schema, column)
        ):
            if not has_value(file, footer, column):
                return pa.null()
        raise _not_vectors(file, column, raw)
    values = value_type(lists)
    if values is None:
        raise _not_vectors(file, column, lists)
    if not (pa.types.is_floating(values) or pa.types.is_integer(values) or pa.types.is_null(values)):
        raise _not_vectors(file, column, raw)
    if pa.types.is_fixed_size_list(lists):  # rows without a vector take its memory too
        require_dimension(f"{file.name}, column {column}", lists.list_size)
    return values


def _require_flat(file: RawFile, field: pa.Field) -> None:
    """A matrix per item is stored as one list, but its values in a row are no vector that was meant."""
    shape = tensor_shape(field)
    if shape is not None and len(shape) != 1 and sum(size != 1 for size in shape) > 1:
        sizes = " x ".join("?" if size < 0 else str(size) for size in shape)
        raise InputError(
            f"{file.name}, column {field.name}",
            f"a tensor of {sizes} values for each item",
            "an item has one vector in a modality",
            "Pool or flatten the tensor where it is written, for instance by its mean over the first axis.",
        )


def _not_vectors(file: RawFile, column: str, raw: pa.DataType) -> InputError:
    extension = getattr(raw, "value_field", None) and (raw.value_field.metadata or {}).get(EXTENSION_NAME)
    value = f"type {raw}" + (f" of the extension {extension.decode(errors='replace')}" if extension else "")
    return InputError(
        f"{file.name}, column {column}",
        value,
        "features are a list column of numbers",
        "Write the column as list<float>.",
    )


def _dtype(
    files: tuple[RawFile, ...], footers: list[Footer], types: list[pa.DataType], column: str
) -> np.dtype:
    """float16 where all vectors are halves, else float32; files without a vector have no say."""
    halves = [pa.types.is_float16(values) for values in types]
    others = [
        Piece(number, 0, len(footers[number].group_rows))
        for number, values in enumerate(types)
        if not halves[number] and not pa.types.is_null(values)
    ]
    # Halves keep half the size, but only if no other file would lose digits by them.
    if any(halves) and all(_first_length(files[piece.file], piece, column) is None for piece in others):
        return np.dtype(np.float16)
    return np.dtype(np.float32)


def _dimension(files: tuple[RawFile, ...], footers: list[Footer], column: str) -> int:
    """The length of the first vector there is."""
    for number, (file, footer) in enumerate(zip(files, footers, strict=True)):
        length = _first_length(file, Piece(number, 0, len(footer.group_rows)), column)
        if length is not None:
            require_dimension(f"{file.name}, column {column}", length)
            return length
    raise InputError(
        files[0].name, "no vector", "a modality must have features for at least one item", "Check the files."
    )


def _first_length(file: RawFile, piece: Piece, column: str) -> int | None:
    """The length of the first vector of a piece, or None where all are null or empty."""
    for batch in batches(file, piece, [column], 64):
        lengths = pc.list_value_length(plain_lists(batch.column(0)))
        lengths = lengths.filter(pc.fill_null(pc.greater(lengths, 0), False))
        if len(lengths):
            return int(lengths[0].as_py())
    return None
