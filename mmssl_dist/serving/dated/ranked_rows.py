"""Lists as rows: user_id, rank, item_id, score, and the item's title where titles are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.data.columns import ITEM_ID, USER_ID
from mmssl_dist.data.ids import plain_values
from mmssl_dist.serving.id_lookup import narrow
from mmssl_dist.storage.export_names import ITEMS, SCORES

DATE = "date"
RANK = "rank"
SCORE = "score"
TITLES, TITLE = "titles", "title"
"""Column of lists: of a list's items, null where an item has none."""

ConvertIds = Callable[[pa.Array], pa.Array]
"""Ids as a table keeps them: [n] -> [n]."""


def ranked_rows(lists: pa.Table | pa.RecordBatch, convert: ConvertIds) -> pa.Table:
    """A row for each user of ``lists`` and rank, from 1; users with an empty list have none.

    Args:
        lists: columns user_id, items, scores (null where the whole list has none), and titles or not.
    """
    table = pa.table(lists)
    items, scores = _list(table, ITEMS), _list(table, SCORES)
    lengths = pc.fill_null(pc.list_value_length(items), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    first = np.cumsum(lengths) - lengths
    total = int(lengths.sum())
    ranks = np.arange(total, dtype=np.int64) - np.repeat(first, lengths) + 1
    users = plain_values(table[USER_ID]).take(pa.array(np.repeat(np.arange(len(lengths)), lengths)))
    columns = {
        USER_ID: convert(narrow(users)),
        RANK: pa.array(ranks.astype(np.int32)),
        ITEM_ID: convert(narrow(items.flatten())),
        SCORE: _flat_scores(scores, lengths),
    }
    if TITLES in table.column_names:
        columns[TITLE] = _list(table, TITLES).flatten()
    return pa.table(columns)


def row_columns(titles: bool = False) -> pa.Schema:
    """The columns of such rows, with ids of type null, which stands for every type."""
    named = [(USER_ID, pa.null()), (RANK, pa.int32()), (ITEM_ID, pa.null()), (SCORE, pa.float32())]
    return pa.schema([*named, (TITLE, pa.string())] if titles else named)


def resized_tables(rows: Iterable[pa.Table], most: int) -> Iterator[pa.Table]:
    """The same rows in tables of about ``most`` rows, none of them empty."""
    pending: list[pa.Table] = []
    for table in rows:
        pending.append(table)
        if sum(len(one) for one in pending) >= most:
            yield pa.concat_tables(pending)
            pending = []
    if sum(len(one) for one in pending):
        yield pa.concat_tables(pending)


def _list(table: pa.Table, name: str) -> pa.ListArray:
    column = table[name].combine_chunks()
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column


def _flat_scores(scores: pa.ListArray, lengths: np.ndarray) -> pa.Array:
    """[total] float32; null for the items of lists without scores."""
    # The flat values of a list array have none for a null list.
    missing = np.repeat(scores.is_null().to_numpy(zero_copy_only=False), lengths)
    values = np.zeros(len(missing), np.float32)
    values[~missing] = scores.flatten().to_numpy(zero_copy_only=False)
    return pa.array(values, mask=missing)
