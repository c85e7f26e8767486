"""Ids of items that begin at 1, beside features that are rows of a matrix, which begins at 0."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.data.bucket_steps import UNKNOWN_EXAMPLES, UNKNOWN_ITEMS
from mmssl_dist.data.columns import ITEM, ITEM_ID, SPLITS
from mmssl_dist.data.ids import one_array
from mmssl_dist.data.packed_rows import read_stream, stream_column, unpack
from mmssl_dist.data.readers import FeatureSource
from mmssl_dist.data.row_operations import Rows, map_tables
from mmssl_dist.errors import InputError

_HAS_ITEM_ZERO = "has_item_zero"


def ids_from_one(
    items: Rows, counts: Mapping[str, int], features: Iterable[FeatureSource]
) -> InputError | None:
    """The error for items whose ids seem to begin at 1: the only one without features has the number of
    rows for its id, and nobody interacted with item 0. To drop or keep that item would leave every other
    one with the vector of the item after it.

    Args:
        items: packed buckets of ``settle_items``.
        counts: over all of them.
        features: of every modality.
    """
    if counts[UNKNOWN_ITEMS] != 1:
        return None
    unknown = _only_unknown(items)
    matrix = next((source for source in features if source.rows is not None and source.rows == unknown), None)
    if matrix is None or any(row[_HAS_ITEM_ZERO] for row in map_tables(items, _item_zero, 1).iter_rows()):
        return None
    name = matrix.files[0].name
    return InputError(
        name,
        f"item {unknown} without a row, and no item 0 among the interactions",
        f"row r belongs to item r, 0 to {unknown - 1}, and these ids seem to begin at 1",
        "Subtract 1 from every item id, or write the vectors to Parquet with their ids.",
    )


def _only_unknown(items: Rows) -> Any:
    """The id of the one item that has no features."""
    column = stream_column(UNKNOWN_EXAMPLES)
    tables = (read_stream(row[column]) for row in items.select_columns([column]).iter_rows())
    return next(value for table in tables for value in table[ITEM_ID].to_pylist())


def _item_zero(batch: pa.Table) -> pa.Table:
    """Whether one of the packed buckets has an interaction with item 0; one row."""
    found = False
    for index in range(batch.num_rows):
        row = batch.slice(index, 1)
        place = pc.index(one_array(unpack(row, "items")[ITEM_ID]), 0).as_py()
        found |= place >= 0 and any(
            pc.index(unpack(row, split)[ITEM], place).as_py() >= 0 for split in SPLITS
        )
    return pa.table({_HAS_ITEM_ZERO: pa.array([found])})
