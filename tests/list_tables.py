"""Lists as export publishes them, to be written to tables by day, and the rows that they become."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.export.writers import write_list_blocks
from mmssl_dist.serving.dated.dated_table import DatedTable
from mmssl_dist.serving.dated.day_writing import ListFiles, open_dated_table, write_day
from mmssl_dist.storage import open_location
from tests.tasks import in_this_process

LOCAL = Storage()
SOURCE, OTHER_SOURCE = "a" * 64, "b" * 64
Lists = dict[object, list[tuple[object, float]]]
FIRST: Lists = {"u1": [(10, 3.0), (11, 2.0)], "u2": [], "u3": [(12, 1.5)]}
SECOND: Lists = {"u1": [(11, 9.0)], "u4": [(10, 8.0), (12, 7.0)]}


def table_of(url: object, table_format: str, day: str, storage: Storage = LOCAL) -> DatedTable:
    return open_dated_table(str(url), storage, table_format=table_format, day=day, option="export.table.path")


def published(folder: Path, parts: Iterable[Lists], users: pa.DataType, items: pa.DataType) -> ListFiles:
    """Lists as export publishes them, a file for each part."""
    shutil.rmtree(folder, ignore_errors=True)
    location = open_location(str(folder), LOCAL)
    records = {}
    for number, lists in enumerate(parts):
        most = max(map(len, lists.values()))
        is_filled = np.array([[place < len(own) for place in range(most)] for own in lists.values()])
        scores = np.array(
            [[own[place][1] if place < len(own) else 0.0 for place in range(most)] for own in lists.values()],
            np.float32,
        )
        ids = pa.array([item for own in lists.values() for item, _ in own], items)
        block = (pa.array(list(lists), users), ids, is_filled, scores)
        name, record = write_list_blocks(location, number, types=(users, items), blocks=[block])
        records[name] = record
    return ListFiles(location, records)


def texts_and_numbers(folder: Path, *parts: Lists) -> ListFiles:
    return published(folder, parts, pa.string(), pa.int64())


def write(table: DatedTable, lists: ListFiles, source: str = SOURCE) -> int:
    return write_day(table, lists, source, in_this_process)


def rows_of(lists: Lists, day: str) -> list[tuple[object, int, object, float, date]]:
    return [
        (user, rank, item, score, date.fromisoformat(day))
        for user, own in lists.items()
        for rank, (item, score) in enumerate(own, 1)
    ]


def read(url: object, table_format: str) -> list[tuple[object, ...]]:
    """All rows, as other programs read them."""
    if table_format == "delta":
        table = DeltaTable(str(url)).to_pyarrow_table()
    else:
        partitioning = ds.partitioning(pa.schema([("date", pa.date32())]), flavor="hive")
        table = ds.dataset(str(url), partitioning=partitioning).to_table()
    rows = table.select(["user_id", "rank", "item_id", "score", "date"]).to_pylist()
    return sorted((tuple(row.values()) for row in rows), key=lambda row: (row[4], row[0], row[1]))
