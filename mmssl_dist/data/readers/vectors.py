"""Features in Parquet: a list column beside the item's id. An item that is not there, or null, lacks the
modality."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.config.data_sections import Modality
from mmssl_dist.data.files import RawFile
from mmssl_dist.data.readers.base import FeatureBatch, Piece, place, require_dimension
from mmssl_dist.data.readers.id_types import IdSummary
from mmssl_dist.data.readers.numbered import PIECE_BYTES, require_finite
from mmssl_dist.data.readers.parquet import (
    Footer,
    batches,
    read_footers,
    require_column,
    row_group_pieces,
)
from mmssl_dist.data.readers.parquet_columns import id_summary
from mmssl_dist.data.readers.values import to_ids
from mmssl_dist.errors import InputError


@dataclass(frozen=True)
class VectorFeatures:
    """Features of one modality in Parquet files, all of one dimension."""

    files: tuple[RawFile, ...]
    columns: Modality
    item_ids: IdSummary
    item_type: pa.DataType
    dimension: int
    dtype: np.dtype
    pieces: tuple[Piece, ...]
    rows: int | None = None

    def read(self, piece: Piece) -> Iterator[FeatureBatch]:
        """See ``FeatureSource``."""
        row = piece.row
        step = max(1, PIECE_BYTES // (self.dimension * 4))
        for batch in batches(self.files[piece.file], piece, [self.columns.item, self.columns.vector], step):
            yield self._features(batch, np.arange(row, row + batch.num_rows, dtype=np.int64), piece.file)
            row += batch.num_rows

    def with_item_type(self, item_type: pa.DataType) -> VectorFeatures:
        """See ``FeatureSource``."""
        return replace(self, item_type=item_type)

    def _features(self, batch: pa.RecordBatch, rows: np.ndarray, file: int) -> FeatureBatch:
        def where(index: int) -> str:
            return place(self.files, file, "row", int(rows[index]))

        items = to_ids(pa.chunked_array([batch.column(self.columns.item)]), self.item_type, where)
        lists = batch.column(self.columns.vector)
        there = lists.is_valid()
        unnamed = pc.and_(there, items.is_null())
        if pc.any(unnamed).as_py():
            raise InputError(
                where(int(pc.index(unnamed, pa.scalar(True)).as_py())),
                "no item id",
                "every vector belongs to an item",
                "Fill in the id or drop the row.",
            )
        items, lists = items.filter(there), lists.filter(there)
        rows = rows[there.to_numpy(zero_copy_only=False)]
        if not len(lists):
            return FeatureBatch(items, rows, np.empty((0, self.dimension), self.dtype))
        lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
        if (lengths != self.dimension).any():
            index = int(np.argmax(lengths != self.dimension))
            raise InputError(
                place(self.files, file, "row", int(rows[index])),
                f"{lengths[index]} values",
                f"vectors of a modality have one length, here {self.dimension}",
                "Mend the row.",
            )
        values = lists.flatten()
        if values.null_count:
            values = pc.fill_null(values.cast(pa.float32()), float("nan"))
        with np.errstate(over="ignore"):  # what becomes infinite is found below
            vectors = values.to_numpy(zero_copy_only=False).astype(self.dtype).reshape(-1, self.dimension)
        require_finite(vectors, rows, self.files, file)
        return FeatureBatch(items, rows, vectors)


def open_vectors(
    files: tuple[RawFile, ...], columns: Modality, item_setting: str | None = None
) -> VectorFeatures:
    """The features in ``files``; ``item_setting`` is data.columns.types.item.

    Raises:
        InputError: not Parquet, a column missing or of the wrong type, or no vector at all.
    """
    footers = read_footers(files)
    item_ids = id_summary(files, footers, columns.item, item_setting)
    halves = True
    for file, footer in zip(files, footers, strict=True):
        halves &= _value_type(file, footer, columns.vector) == pa.float16()
    dimension = _dimension(files, footers, columns.vector)
    pieces = row_group_pieces(footers, max(1, PIECE_BYTES // (4 * dimension)))
    return VectorFeatures(
        files=files,
        columns=columns,
        item_ids=item_ids,
        item_type=item_ids.type,
        dimension=dimension,
        dtype=np.dtype(np.float16 if halves else np.float32),
        pieces=pieces,
    )


def _value_type(file: RawFile, footer: Footer, column: str) -> pa.DataType:
    kind = require_column(file, footer.schema, column)
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        raise InputError(
            f"{file.name}, column {column}",
            f"type {kind}",
            "features are a list column of numbers",
            "Write the column as list<float>.",
        )
    if pa.types.is_fixed_size_list(kind):  # rows without a vector take its memory too
        require_dimension(f"{file.name}, column {column}", kind.list_size)
    return kind.value_type


def _dimension(files: tuple[RawFile, ...], footers: list[Footer], column: str) -> int:
    """The length of the first vector there is."""
    for number, (file, footer) in enumerate(zip(files, footers, strict=True)):
        for batch in batches(file, Piece(number, 0, len(footer.group_rows)), [column], 64):
            lengths = pc.drop_null(pc.list_value_length(batch.column(0)))
            if len(lengths):
                require_dimension(f"{file.name}, column {column}", lengths[0].as_py())
                return int(lengths[0].as_py())
    raise InputError(
        files[0].name, "no vector", "a modality has features of at least one item", "Check the files."
    )
