"""One hash bucket as one row: blocks may be cut and joined anywhere between rows, a bucket never is."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from mmssl_dist.data.columns import BUCKET
from mmssl_dist.data.ids import one_array

_SEPARATOR = "/"


def pack(bucket: int, counts: Mapping[str, int], tables: Mapping[str, pa.Table]) -> pa.Table:
    """A table of one row: the bucket's number, ``counts`` as int64 columns, each column of ``tables`` as one list."""
    columns: dict[str, pa.Array] = {BUCKET: pa.array([bucket], pa.int32())}
    columns |= {name: pa.array([count], pa.int64()) for name, count in counts.items()}
    for name, table in tables.items():
        bounds = pa.array([0, table.num_rows], pa.int64())
        for column in table.column_names:
            columns[f"{name}{_SEPARATOR}{column}"] = pa.LargeListArray.from_arrays(bounds, one_array(table[column]))
    return pa.table(columns)


def unpack(row: pa.Table, name: str) -> pa.Table:
    """The table ``name`` of a packed ``row``."""
    prefix = f"{name}{_SEPARATOR}"
    return pa.table({column.removeprefix(prefix): row[column][0].values for column in row.column_names
                     if column.startswith(prefix)})


def count_columns(column_names: list[str]) -> list[str]:
    """The columns of a packed row that are small: bucket and counts."""
    return [name for name in column_names if _SEPARATOR not in name]
