"""Many rows as one: Ray Data shuffles, cuts and joins rows, at a cost for each that a bucket's worth pays
once.

A *packed* row is one hash bucket whole: blocks may be cut and joined anywhere between rows, a bucket never
is. A
*fragment* is what a bucket gets from one table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import wraps

import numpy as np
import pyarrow as pa

from mmssl_dist.data.columns import BUCKET
from mmssl_dist.data.ids import one_array

Batch = Callable[[pa.Table], pa.Table | Iterator[pa.Table]]

ROWS = "rows"
"""How many rows a fragment holds, int64."""
_SEPARATOR = "/"
_FRAGMENT = f"fragment{_SEPARATOR}"
_NARROW = 1 << 16


def pack(bucket: int, counts: Mapping[str, int], tables: Mapping[str, pa.Table]) -> pa.Table:
    """A table of one row: the bucket's number, ``counts`` as int64 columns, each column of ``tables`` as one
    list."""
    columns: dict[str, pa.Array] = {BUCKET: pa.array([bucket], pa.int32())}
    columns |= {name: pa.array([count], pa.int64()) for name, count in counts.items()}
    for name, table in tables.items():
        bounds = pa.array([0, table.num_rows], pa.int64())
        for column in table.column_names:
            # Large lists: a bucket's bytes may go beyond the 2 GiB that 32-bit offsets reach.
            columns[f"{name}{_SEPARATOR}{column}"] = pa.LargeListArray.from_arrays(
                bounds, one_array(table[column])
            )
    return pa.table(columns)


def unpack(row: pa.Table, name: str) -> pa.Table:
    """The table ``name`` of a packed ``row``."""
    prefix = f"{name}{_SEPARATOR}"
    return pa.table(
        {
            column.removeprefix(prefix): row[column][0].values
            for column in row.column_names
            if column.startswith(prefix)
        }
    )


def cut(function: Batch) -> Batch:
    """``function`` with the rows of each table it makes brought together by their bucket."""

    @wraps(function)
    def call(batch: pa.Table) -> Iterator[pa.Table]:
        made = function(batch)
        for table in [made] if isinstance(made, pa.Table) else made:
            yield _fragments(table)

    return call


def joined(function: Batch) -> Batch:
    """``function`` of rows as a function of fragments."""

    @wraps(function)
    def call(batch: pa.Table) -> pa.Table | Iterator[pa.Table]:
        return function(_rows(batch))

    return call


def _fragments(table: pa.Table) -> pa.Table:
    """One row for each bucket that ``table`` has rows of; a column without any value takes no room."""
    numbers = table[BUCKET].to_numpy()
    # NumPy sorts 16-bit numbers by digits, several times as fast.
    narrow = numbers.astype(np.uint16) if numbers.max(initial=0) < _NARROW else numbers
    # Stable, so that rows of a bucket keep the order of the files: results do not depend on task sizes
    order = np.argsort(narrow, kind="stable")
    counts = np.bincount(numbers)
    present = np.flatnonzero(counts)
    bounds = pa.array(np.concatenate([[0], np.cumsum(counts[present])]))
    columns = {BUCKET: pa.array(present, pa.int32()), ROWS: pa.array(counts[present], pa.int64())}
    for name in table.column_names:
        if name == BUCKET:
            continue
        column, list_type = table[name], pa.large_list(table.schema.field(name).type)
        if column.null_count == table.num_rows:
            # A missing list instead of a list of nulls: vectors of other modalities would else cost a byte a
            # row.
            columns[f"{_FRAGMENT}{name}"] = pa.nulls(len(present), list_type)
        else:
            columns[f"{_FRAGMENT}{name}"] = pa.LargeListArray.from_arrays(
                bounds, one_array(column).take(order)
            )
    return pa.table(columns)


def _rows(fragments: pa.Table) -> pa.Table:
    """The rows of all ``fragments``, with their bucket."""
    counts = fragments[ROWS].to_numpy()
    columns = {
        name.removeprefix(_FRAGMENT): _values(fragments[name], counts)
        for name in fragments.column_names
        if name.startswith(_FRAGMENT)
    }
    return pa.table(columns | {BUCKET: np.repeat(fragments[BUCKET].to_numpy(), counts)})


def _values(lists: pa.ChunkedArray, counts: np.ndarray) -> pa.ChunkedArray:
    chunks, first = [], 0
    for chunk in lists.chunks:
        last = first + len(chunk)
        if chunk.null_count == 0:
            chunks.append(chunk.flatten())
        else:
            for list_scalar, count in zip(chunk, counts[first:last].tolist(), strict=True):
                missing = pa.nulls(count, lists.type.value_type)
                chunks.append(list_scalar.values if list_scalar.is_valid else missing)
        first = last
    return pa.chunked_array(chunks, lists.type.value_type)
