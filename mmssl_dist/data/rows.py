"""The two kinds of rows that are shuffled: interactions by user, then interactions and features by item.

A row knows the place it came from, so that a bad one can be named however late it is found. Rows that were
dropped travel on as tallies: one row with the count, without ids, under a reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.data.columns import BUCKET, FILE, ITEM_ID, RATING, ROW, ROW_KIND, SPLIT, TIME, USER, USER_ID
from mmssl_dist.data.ids import buckets_of, one_array
from mmssl_dist.data.readers import FeatureSource, InteractionSource
from mmssl_dist.data.readers.base import FeatureBatch

_TASK_BYTES = 16 << 20
_TABLE_ROWS = 1 << 18
_TABLE_BYTES = 32 << 20
REASONS = NULL_ID, BELOW_RATING, UNKNOWN_ITEM, OUTSIDE_WINDOW, BELOW_EVENTS, DUPLICATE = (
    "null_id",
    "below_min_rating",
    "unknown_item",
    "outside_window",
    "below_min_events",
    "duplicate",
)
"""Why rows of interactions are dropped, in the order in which it is decided."""
FIRST_IDS = ITEM_0, ITEM_AFTER_LAST, ITEM_BEYOND = ("item_0", "item_after_last", "item_beyond")
"""Rows counted as they are read: of item 0, and beside a matrix of n rows those of item n and of items above,
which have no row in it."""
_TALLIED = (*REASONS, *FIRST_IDS)
_PLACE = ((FILE, pa.int32()), (ROW, pa.int64()), (BUCKET, pa.int32()))


def grouped_pieces(source: InteractionSource | FeatureSource) -> tuple[tuple[int, ...], ...]:
    """Numbers of the source's pieces, neighbours together until a task is worth its start: a folder of many
    small files costs what one file of their size does."""
    in_file: Counter[int] = Counter(piece.file for piece in source.pieces)
    groups: list[list[int]] = []
    # As if the group before were full, so that the first piece opens one.
    held = _TASK_BYTES
    for number, piece in enumerate(source.pieces):
        if held >= _TASK_BYTES:
            groups.append([])
            held = 0
        groups[-1].append(number)
        # A file's size shared evenly by its pieces: sizes of row groups would cost a look into every footer.
        held += source.files[piece.file].size // in_file[piece.file]
    return tuple(map(tuple, groups))


def read_interactions(
    batch: pa.Table,
    source: InteractionSource,
    groups: tuple[tuple[int, ...], ...],
    buckets: int,
    least_rating: float | None = None,
    matrix_rows: int | None = None,
) -> Iterator[pa.Table]:
    """Rows of the groups of pieces whose numbers are in ``batch``, bucketed by user: user_id, item_id, time
    and split where the source has them, file, row, bucket. Rows without an id, and those rated below
    ``least_rating``, become tallies; ``FIRST_IDS`` are counted beside a matrix of ``matrix_rows`` rows."""
    for number in batch["id"].to_pylist():
        held = 0
        dropped: Counter[str] = Counter()
        small: list[pa.Table] = []
        for table in source.read_all([source.pieces[index] for index in groups[number]]):
            small.append(_wanted(table, least_rating, matrix_rows, dropped))
            held += small[-1].num_rows  # summed up as it grows: there may be thousands of parts
            if held >= _TABLE_ROWS:
                yield with_bucket(pa.concat_tables(small), USER_ID, buckets)
                held = 0
                small.clear()
        rest = with_bucket(pa.concat_tables(small), USER_ID, buckets) if small else None
        if rest is not None:
            yield rest
        schema = _empty_schema(source) if rest is None else rest.schema
        # Counts travel as rows: a task cannot return anything beside its table
        yield tally(schema, NULL_ID, dropped[NULL_ID], number % buckets)
        for reason in (BELOW_RATING, *FIRST_IDS):
            if dropped[reason]:
                yield tally(schema, reason, dropped[reason], number % buckets)
        if number == 0:  # every bucket has its files, however many groups of pieces there are
            for bucket in range(1, buckets):
                yield tally(schema, NULL_ID, 0, bucket)


def _wanted(
    table: pa.Table, least_rating: float | None, matrix_rows: int | None, dropped: Counter[str]
) -> pa.Table:
    """The rows of ``table`` to go on with, without their ratings; ``dropped`` counts the others, and
    ``FIRST_IDS``."""
    kept = table.filter(pc.and_(pc.is_valid(table[USER_ID]), pc.is_valid(table[ITEM_ID])))
    dropped[NULL_ID] += table.num_rows - kept.num_rows
    if matrix_rows is not None and pa.types.is_integer(kept[ITEM_ID].type):
        # Before any filter, after which the first and the last item may be gone.
        items = kept[ITEM_ID]
        dropped[ITEM_0] += pc.sum(pc.equal(items, 0)).as_py() or 0
        dropped[ITEM_AFTER_LAST] += pc.sum(pc.equal(items, matrix_rows)).as_py() or 0
        dropped[ITEM_BEYOND] += pc.sum(pc.greater(items, matrix_rows)).as_py() or 0
    if RATING not in kept.column_names:
        return kept
    rated = kept.filter(pc.greater_equal(kept[RATING], least_rating))
    dropped[BELOW_RATING] += kept.num_rows - rated.num_rows
    return rated.drop_columns([RATING])


def read_features(
    batch: pa.Table,
    sources: dict[str, FeatureSource],
    groups: tuple[tuple[int, tuple[int, ...]], ...],
    item_type: pa.DataType,
    buckets: int,
) -> Iterator[pa.Table]:
    """Feature rows of the groups of pieces whose numbers are in ``batch``, as ``item_schema``; ``groups`` are
    pairs of a modality and the numbers of pieces in its source."""
    for number in batch["id"].to_pylist():
        modality, pieces = groups[number]
        source = list(sources.values())[modality]
        held = 0
        small: list[pa.Table] = []
        for read in source.read_all([source.pieces[index] for index in pieces]):
            small.append(_feature_rows(read, modality=modality, item_type=item_type))
            held += read.vectors.nbytes  # a table's nbytes takes longer than to make a small one
            if held >= _TABLE_BYTES:
                yield with_bucket(pa.concat_tables(small), ITEM_ID, buckets)
                held = 0
                small.clear()
        if small:
            yield with_bucket(pa.concat_tables(small), ITEM_ID, buckets)


def _feature_rows(read: FeatureBatch, modality: int, item_type: pa.DataType) -> pa.Table:
    n = len(read.rows)
    schema = item_schema(item_type)
    return pa.table(
        {
            ITEM_ID: read.items,
            ROW_KIND: pa.array(np.full(n, modality, np.int16)),
            USER: pa.nulls(n, pa.int64()),
            SPLIT: pa.nulls(n, pa.int8()),
            FILE: pa.array(read.files),
            ROW: pa.array(read.rows),
            "vector": _as_binary(read.vectors),
        },
        schema=schema.remove(schema.get_field_index(BUCKET)),
    )


def item_schema(item_type: pa.DataType) -> pa.Schema:
    """Rows that are bucketed by item: kind -1 is an interaction of ``user`` in ``split``; kind m the
    ``vector`` of modality m, as bytes."""
    return pa.schema(
        [
            (ITEM_ID, item_type),
            (ROW_KIND, pa.int16()),
            (USER, pa.int64()),
            (SPLIT, pa.int8()),
            *_PLACE[:2],
            ("vector", pa.large_binary()),
            _PLACE[2],
        ]
    )


def with_bucket(table: pa.Table, column: str, buckets: int) -> pa.Table:
    """``table`` bucketed by the ids in ``column``; tallies, which have none, stay where they are."""
    # Cast first: a column of nulls alone has the type null, and would hash differently from its neighbours.
    ids = one_array(table[column]).cast(table.schema.field(column).type)
    numbers = buckets_of(ids, buckets)
    if BUCKET in table.column_names:
        # So every bucket keeps a row, and with it its files
        numbers = pc.if_else(ids.is_valid(), numbers, one_array(table[BUCKET]))
        table = table.drop_columns([BUCKET])
    return table.append_column(BUCKET, numbers)


def tally(schema: pa.Schema, reason: str, count: int, bucket: int) -> pa.Table:
    """One row that says that ``count`` rows were dropped for ``reason``, or are of one of ``FIRST_IDS``."""
    # Negative numbers of files, as none of a raw file is; so a tally needs no column of its own.
    values = {FILE: -1 - _TALLIED.index(reason), ROW: count, BUCKET: bucket}
    return pa.table([pa.array([values.get(field.name)], field.type) for field in schema], schema=schema)


def live_and_tallies(table: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The interactions of ``table``, and its tallies."""
    files = table[FILE].to_numpy()
    tallies = np.flatnonzero(files < 0)
    if not len(tallies):
        return table, table.slice(0, 0)
    return table.filter(pa.array(files >= 0)), table.take(tallies)


def tallied(tallies: pa.Table) -> dict[str, int]:
    """The counts by reason, and those of ``FIRST_IDS``."""
    counts = dict.fromkeys(_TALLIED, 0)
    for code, count in zip(tallies[FILE].to_pylist(), tallies[ROW].to_pylist(), strict=True):
        counts[_TALLIED[-1 - code]] += count
    return counts


def _as_binary(vectors: np.ndarray) -> pa.Array:
    """[n, F] as n byte strings, without a copy."""
    n, size = len(vectors), vectors.shape[1] * vectors.itemsize
    offsets = np.arange(n + 1, dtype=np.int64) * size
    return pa.Array.from_buffers(pa.large_binary(), n, [None, pa.py_buffer(offsets), pa.py_buffer(vectors)])


def _empty_schema(source: InteractionSource) -> pa.Schema:
    times = getattr(source, "times", None)
    names = getattr(source, "names", {})
    fields = [(USER_ID, source.user_type), (ITEM_ID, source.item_type)]
    fields += [(TIME, times.type)] if times is not None else []
    fields += [(SPLIT, pa.int8())] if SPLIT in names or getattr(source, "given", False) else []
    return pa.schema([*fields, (ROW, pa.int64()), *((FILE, pa.int32()), (BUCKET, pa.int32()))])
