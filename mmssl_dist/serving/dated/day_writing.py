"""Opens a table of lists by its format, and fills a day of it from files of lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from mmssl_dist.cluster.tasks import RunTasks
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import InputError
from mmssl_dist.serving.dated.dated_table import DatedTable, RowsFile
from mmssl_dist.serving.dated.delta_days import DeltaDays
from mmssl_dist.serving.dated.parquet_days import ParquetDays
from mmssl_dist.serving.dated.ranked_rows import ranked_rows, resized_tables
from mmssl_dist.storage import FileRecord, Location, downloads_folder, open_location

TableFormat = Literal["parquet", "delta"]
ROWS_OF_A_FILE = 1 << 22
_USERS_AT_ONCE = 1 << 12  # whose rows are made together; bounds memory


def open_dated_table(url: str, storage: Storage, *, table_format: str, day: str, option: str) -> DatedTable:
    """The table at ``url``, of which ``day`` is to be written; nothing is looked at yet.

    Args:
        option: what names it, for messages.

    Raises:
        InputError: there is no such format, or the URL cannot be read.
    """
    if table_format not in get_args(TableFormat):
        raise InputError(option, table_format, "a table's format is parquet or delta", "Give one of these.")
    location = open_location(url, storage)
    return (DeltaDays if table_format == "delta" else ParquetDays)(location, day, option)


@dataclass(frozen=True)
class ListFiles:
    """Published files of lists, by name below ``location``."""

    location: Location
    records: Mapping[str, FileRecord]


def write_day(table: DatedTable, lists: ListFiles, source: str, run_tasks: RunTasks) -> int:
    """Make the lists all rows of the table's day; returns how many rows.

    Args:
        source: fingerprint of the lists.
        run_tasks: runs a task for each file of lists, side by side where there are machines for it.

    Raises:
        InputError: as ``DatedTable.check``; no row has changed then.
        StorageError: as ``DatedTable.commit``.
    """
    columns = _columns_of(table, lists)
    table.check(columns)
    # Sorted, since a part's number is in its files' names: a task that is repeated writes the same names.
    calls = [
        (table, lists.location / name, record, source, part)
        for part, (name, record) in enumerate(sorted(lists.records.items()))
    ]
    with table.begun():
        written: dict[str, RowsFile] = {}
        for files in run_tasks(write_rows, calls):
            written |= files
    table.commit(written, columns, source)
    return sum(file.rows for file in written.values())


def write_rows(
    table: DatedTable, lists: Location, record: FileRecord, source: str, part: int
) -> dict[str, RowsFile]:
    """A task: write the rows of one file of lists; returns what was written, by name."""
    files = {}
    with pq.ParquetFile(lists.localize(downloads_folder(), record)) as reader:
        batches = reader.iter_batches(_USERS_AT_ONCE)
        rows = (ranked_rows(batch, table.convert) for batch in batches)
        for number, piece in enumerate(resized_tables(rows, ROWS_OF_A_FILE)):
            name = table.file_name(source, f"{part:05x}{number:05x}")
            files[name] = table.write(name, piece)
    return files


def _columns_of(table: DatedTable, lists: ListFiles) -> pa.Schema:
    """The columns that the rows will have."""
    name, record = min(lists.records.items())
    schema = pq.read_schema((lists.location / name).localize(downloads_folder(), record))
    return ranked_rows(schema.empty_table(), table.convert).schema
