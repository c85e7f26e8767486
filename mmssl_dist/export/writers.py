"""The Parquet files handed back: one per partition and table, in the users' own ids."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy

from mmssl_dist.data.columns import ITEM_ID, USER_ID, VECTOR
from mmssl_dist.export.id_exchange import RankedIds
from mmssl_dist.storage import FileRecord, Location
from mmssl_dist.storage.export_names import (
    ITEM_EMBEDDINGS,
    ITEM_ROWS,
    ITEMS,
    RECOMMENDATIONS,
    SCORES,
    USER_EMBEDDINGS,
    USER_ROWS,
    embeddings_file,
    parquet_file,
)

_ROW_GROUP = 1 << 16  # rows; also bounds what is laid out for Parquet at once
_MOST_ENTRIES = (1 << 31) - 1  # of a row group's lists, whose ends are int32


def write_user_embeddings(
    export: Location, part: int, ids: pa.Array, rows: np.ndarray
) -> tuple[str, FileRecord]:
    """Write `user_embeddings/part-XXXXX.parquet`: user_id and vector, a fixed-size list of D floats.

    Args:
        export: the export artifact's folder.
        part: number of the partition.
        ids: [n] external ids.
        rows: float32 [n, D] final rows.

    Returns:
        the file's name below ``export``, and its record.
    """
    return _write_embeddings(export, USER_EMBEDDINGS, part=part, name=USER_ID, ids=ids, rows=rows)


def write_item_embeddings(
    export: Location, part: int, ids: pa.Array, rows: np.ndarray
) -> tuple[str, FileRecord]:
    """Write `item_embeddings/part-XXXXX.parquet`: item_id and vector; as ``write_user_embeddings``."""
    return _write_embeddings(export, ITEM_EMBEDDINGS, part=part, name=ITEM_ID, ids=ids, rows=rows)


def write_safetensors(
    export: Location, part: int, users: np.ndarray, items: np.ndarray
) -> tuple[str, FileRecord]:
    """Write `safetensors/part-XXXXX.safetensors`: "users" [n, D] and "items" [m, D], float32, in the
    Parquet's order.

    Args:
        export: the export artifact's folder.
        part: number of the partition.
        users, items: final rows.

    Returns:
        the file's name below ``export``, and its record.
    """
    tensors = {USER_ROWS: users, ITEM_ROWS: items}
    content = safetensors.numpy.save(
        {name: np.ascontiguousarray(rows, np.float32) for name, rows in tensors.items()}
    )
    return embeddings_file(part), (export / embeddings_file(part)).write_bytes(content)


def write_recommendations(
    export: Location, part: int, users: pa.Array, ranked: RankedIds, scores: np.ndarray
) -> tuple[str, FileRecord]:
    """Write `recommendations/part-XXXXX.parquet`: user_id, items and scores, best first.

    A list is as long as there were items to rank, so lists may be shorter than k, or empty.

    Args:
        export: the export artifact's folder.
        part: number of the partition.
        users: [n] external ids of its users.
        ranked: their lists, in the same order.
        scores: float32 [n, k].

    Returns:
        the file's name below ``export``, and its record.
    """
    assert len(users) == len(ranked.index) == len(scores)

    def block(start: int, stop: int) -> tuple[pa.Array, pa.Array, np.ndarray, np.ndarray]:
        index = ranked.index[start:stop]
        items = ranked.ids.take(pa.array(index[index >= 0]))
        return users[start:stop], items, index >= 0, scores[start:stop]

    blocks = (block(*bounds) for bounds in _row_groups(len(users), scores.shape[1]))
    return write_list_blocks(export, part, types=(users.type, ranked.ids.type), blocks=blocks)


def write_list_blocks(
    export: Location,
    part: int,
    *,
    types: tuple[pa.DataType, pa.DataType],
    blocks: Iterable[tuple[pa.Array, pa.Array, np.ndarray, np.ndarray]],
) -> tuple[str, FileRecord]:
    """The same file, block by block, so that the lists of one block are in memory at a time.

    Args:
        types: of the users' ids and of the items'.
        blocks: users [n]; the items of their lists, one list after the other; which places of the lists are
            filled, bool [n, k]; scores float32 [n, k].
    """
    schema = pa.schema([(USER_ID, types[0]), (ITEMS, pa.list_(types[1])), (SCORES, pa.list_(pa.float32()))])

    def table(users: pa.Array, items: pa.Array, is_filled: np.ndarray, scores: np.ndarray) -> pa.Table:
        ends = pa.array(np.concatenate([[0], is_filled.sum(1).cumsum()]), pa.int32())
        values = pa.ListArray.from_arrays(ends, pa.array(scores[is_filled], pa.float32()))
        return pa.Table.from_arrays([users, pa.ListArray.from_arrays(ends, items), values], schema=schema)

    return _write(
        export=export,
        folder=RECOMMENDATIONS,
        part=part,
        schema=schema,
        groups=(table(*block) for block in blocks),
        repeated=[f"{ITEMS}.list.element"],
    )


def _write_embeddings(
    export: Location, folder: str, part: int, name: str, ids: pa.Array, rows: np.ndarray
) -> tuple[str, FileRecord]:
    assert len(ids) == len(rows)
    width = rows.shape[1]
    schema = pa.schema([(name, ids.type), (VECTOR, pa.list_(pa.float32(), width))])

    def group(start: int, stop: int) -> pa.Table:
        values = pa.array(np.ascontiguousarray(rows[start:stop], np.float32).reshape(-1))
        vectors = pa.FixedSizeListArray.from_arrays(values, width)
        return pa.Table.from_arrays([ids[start:stop], vectors], schema=schema)

    groups = (group(*bounds) for bounds in _row_groups(len(ids), width))
    return _write(export=export, folder=folder, part=part, schema=schema, groups=groups, repeated=[])


def _row_groups(rows: int, entries: int) -> Iterable[tuple[int, int]]:
    """Bounds of row groups of ``rows`` lists with at most ``entries`` entries each."""
    # Fewer rows where lists are long: from k = 32,768 on the ends of 65,536 lists would overflow.
    size = max(1, min(_ROW_GROUP, _MOST_ENTRIES // max(1, entries)))
    return ((start, min(start + size, rows)) for start in range(0, rows, size))


def _write(
    export: Location,
    folder: str,
    part: int,
    schema: pa.Schema,
    groups: Iterable[pa.Table],
    repeated: list[str],
) -> tuple[str, FileRecord]:
    """Write the groups; ``repeated`` are the columns whose values recur, which Parquet stores once each."""
    sink = pa.BufferOutputStream()
    # Vectors and ids hardly repeat: a dictionary of them would only be built and then given up.
    with pq.ParquetWriter(sink, schema, use_dictionary=repeated or False) as writer:
        for group in groups:
            writer.write_table(group)
    name = parquet_file(folder, part)
    return name, (export / name).write_bytes(sink.getvalue())
