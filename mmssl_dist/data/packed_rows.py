"""Many rows as one: Ray Data shuffles, cuts and joins rows, at a cost for each that a bucket's worth pays
once.

A *packed* row is one hash bucket whole: blocks may be cut and joined anywhere between rows, a bucket never
is. A *fragment* is what a bucket gets from one table.

Tables travel as Arrow's IPC streams, compressed: all rows of a data set lie in Ray's object store several
times over while they are sorted into buckets, and what does not fit there is written to disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import wraps

import numpy as np
import pyarrow as pa

from mmssl_dist.data.columns import BUCKET
from mmssl_dist.data.ids import one_array

TableFunction = Callable[[pa.Table], pa.Table | Iterator[pa.Table]]

ROWS = "rows"
"""How many rows a fragment holds, int64."""
_CONTENT = "content"
_NARROW = 1 << 16
_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")


def pack(bucket: int, counts: Mapping[str, int], tables: Mapping[str, pa.Table]) -> pa.Table:
    """A table of one row: the bucket's number, ``counts`` as int64 columns, each of ``tables`` as the bytes
    that ``unpack`` reads."""
    columns: dict[str, pa.Array] = {BUCKET: pa.array([bucket], pa.int32())}
    columns |= {name: pa.array([count], pa.int64()) for name, count in counts.items()}
    columns |= {stream_column(name): _streams([_one_chunk(table)]) for name, table in tables.items()}
    return pa.table(columns)


def unpack(row: pa.Table, name: str) -> pa.Table:
    """The table ``name`` of a packed ``row``."""
    return read_stream(row[stream_column(name)][0].as_buffer())


def stream_column(name: str) -> str:
    """The column of a packed row that has the table ``name``; a count may have that name itself."""
    return f"{_CONTENT}/{name}"


def read_stream(stream: bytes | pa.Buffer) -> pa.Table:
    """The table whose bytes a packed row or a fragment has."""
    return pa.ipc.open_stream(stream).read_all()


def to_fragments(function: TableFunction) -> TableFunction:
    """``function`` with the rows of each table it makes brought together by their bucket."""

    @wraps(function)
    def call(batch: pa.Table) -> Iterator[pa.Table]:
        made = function(batch)
        for table in [made] if isinstance(made, pa.Table) else made:
            yield _fragments(table)

    return call


def from_fragments(function: TableFunction) -> TableFunction:
    """``function`` of rows as a function of fragments; without any it is not called, and gives nothing."""

    @wraps(function)
    def call(batch: pa.Table) -> pa.Table | Iterator[pa.Table]:
        return function(_rows(batch)) if batch.num_rows else _nothing()

    return call


def _nothing() -> Iterator[pa.Table]:
    yield from ()  # a generator, since Ray Data takes no other iterator


def _fragments(table: pa.Table) -> pa.Table:
    """One row for each bucket that ``table`` has rows of."""
    numbers = table[BUCKET].to_numpy()
    # NumPy sorts 16-bit numbers by digits, several times as fast.
    narrow = numbers.astype(np.uint16) if numbers.max(initial=0) < _NARROW else numbers
    # Stable, so that rows of a bucket keep the order of the files: results do not depend on task sizes
    order = np.argsort(narrow, kind="stable")
    counts = np.bincount(numbers)
    present = np.flatnonzero(counts)
    by_bucket = _one_chunk(table.drop_columns([BUCKET])).take(order)
    firsts = np.cumsum(counts) - counts
    parts = [by_bucket.slice(firsts[bucket], counts[bucket]) for bucket in present]
    return pa.table(
        {
            BUCKET: pa.array(present, pa.int32()),
            ROWS: pa.array(counts[present], pa.int64()),
            _CONTENT: _streams(parts),
        }
    )


def _rows(fragments: pa.Table) -> pa.Table:
    """The rows of all ``fragments``, with their bucket."""
    # Permissive: a column without values may be of type null in one of them
    streams = (content.as_buffer() for content in fragments[_CONTENT])
    rows = pa.concat_tables(map(read_stream, streams), promote_options="permissive")
    buckets = np.repeat(fragments[BUCKET].to_numpy(), fragments[ROWS].to_numpy())
    return rows.append_column(BUCKET, pa.array(buckets))


def _streams(tables: list[pa.Table]) -> pa.Array:
    """[tables] byte strings, one IPC stream each, of tables in one chunk."""
    sink = pa.BufferOutputStream()
    bounds = np.zeros(len(tables) + 1, np.int64)
    for number, table in enumerate(tables):
        with pa.ipc.new_stream(sink, table.schema, options=_OPTIONS) as writer:
            writer.write_table(table)
        bounds[number + 1] = sink.tell()
    buffers = [None, pa.py_buffer(bounds), sink.getvalue()]
    # Large, since a bucket's bytes may go beyond 2 GiB
    return pa.Array.from_buffers(pa.large_binary(), len(tables), buffers)


def _one_chunk(table: pa.Table) -> pa.Table:
    """``table`` with each column in one piece, and without what files' schemas say beside names and types."""
    return pa.table({name: one_array(table[name]) for name in table.column_names})
