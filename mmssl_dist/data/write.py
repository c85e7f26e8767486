"""Packed buckets to Parquet files, each with the size and hash it had where it was written."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmssl_dist.data.bucket_steps import feature_table_name
from mmssl_dist.data.columns import BUCKET, ITEM, ITEM_ID, SPLITS, USER, USER_ID
from mmssl_dist.data.packed_rows import unpack
from mmssl_dist.storage import Location

RECORD = pa.schema([("name", pa.string()), ("bytes", pa.int64()), ("sha256", pa.string())])


def write_users(batch: pa.Table, target: Location, offsets: np.ndarray) -> Iterator[pa.Table]:
    """Write users/ of packed user buckets; yields one row of ``RECORD`` per file."""
    for index in range(batch.num_rows):
        row = batch.slice(index, 1)
        bucket = row[BUCKET][0].as_py()
        ids = unpack(row, "users")[USER_ID]
        numbers = pa.array(np.arange(len(ids), dtype=np.int64) + offsets[bucket])
        yield write_table(target, part("users", bucket), pa.table({USER_ID: ids, USER: numbers}))


def write_items(
    batch: pa.Table, target: Location, offsets: np.ndarray, modalities: tuple[str, ...]
) -> Iterator[pa.Table]:
    """Write items/, interactions/ and features/ of packed item buckets; yields one row of ``RECORD`` per
    file."""
    for index in range(batch.num_rows):
        row = batch.slice(index, 1)
        bucket = row[BUCKET][0].as_py()
        write = partial(write_table, target)
        ids = unpack(row, "items")[ITEM_ID]
        numbers = pa.array(np.arange(len(ids), dtype=np.int64) + offsets[bucket])
        yield write(part("items", bucket), pa.table({ITEM_ID: ids, ITEM: numbers}))
        for split in SPLITS:
            yield write(part(f"interactions/{split}", bucket), _shifted(unpack(row, split), offsets[bucket]))
        for name in modalities:
            table = _shifted(unpack(row, feature_table_name(name)), offsets[bucket])
            yield write(part(f"features/{name}", bucket), table)


def write_table(target: Location, name: str, table: pa.Table) -> pa.Table:
    """Write ``table`` as Parquet to ``target / name``; returns its row of ``RECORD``."""
    # Chosen by type and not by Arrow's default: the same table then gives the same bytes at the same size.
    encodings = {path: encoding for field in table.schema for path, encoding in _encodings(field)}
    texts = [
        field.name
        for field in table.schema
        if field.name not in encodings and not pa.types.is_nested(field.type)
    ]
    # In memory first: a bucket fits, and its hash is then of what was meant and not of what came back.
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        use_dictionary=texts,
        column_encoding=encodings,
        # Readers take whole files, so nobody would look at them.
        write_statistics=False,
    )
    record = (target / name).write_bytes(sink.getvalue())
    return pa.table([[name], [record.bytes], [record.sha256]], schema=RECORD)


def _encodings(field: pa.Field) -> Iterator[tuple[str, str]]:
    """The column's path in Parquet with the encoding that is smaller and several times faster than the usual
    dictionary: of numbers by their differences, of vectors byte by byte."""
    if field.type in (pa.int32(), pa.int64()):
        yield field.name, "DELTA_BINARY_PACKED"
    elif pa.types.is_fixed_size_list(field.type):
        yield f"{field.name}.list.element", "BYTE_STREAM_SPLIT"


def part(folder: str, bucket: int) -> str:
    """The name of a bucket's file in ``folder``."""
    return f"{folder}/part-{bucket:05d}.parquet"


def bucket_of(name: str) -> int:
    """The bucket whose file ``part`` gives this name."""
    return int(name.rpartition("/part-")[2].removesuffix(".parquet"))


def _shifted(table: pa.Table, offset: int) -> pa.Table:
    """``table`` with dataset numbers of items instead of local ones."""
    numbers = pa.array(table[ITEM].to_numpy() + offset)
    return table.set_column(table.column_names.index(ITEM), ITEM, numbers)
