"""The prepare stage without Ray: the same functions of readers, rows and buckets, one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmssl_dist.config import Job
from mmssl_dist.data.bucket_count import bucket_count, with_buckets
from mmssl_dist.data.bucket_steps import feature_table_name, rows_by_item, settle_items, settle_users
from mmssl_dist.data.columns import BUCKET, ITEM, ITEM_ID, SPLITS, USER, USER_ID
from mmssl_dist.data.files import find_files
from mmssl_dist.data.ids import one_array
from mmssl_dist.data.packed_rows import unpack
from mmssl_dist.data.passes import _catalogue
from mmssl_dist.data.readers import open_sources
from mmssl_dist.data.rows import grouped_pieces, read_features, read_interactions
from mmssl_dist.data.write import write_items, write_users
from mmssl_dist.storage import open_location


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A dataset as its files have it.

    Attributes:
        users, items: external ids by dataset number.
        pairs: (user, item) numbers of each split.
        vectors: item number -> vector, of the modality "image".
        dropped: rows without an id and repetitions.
    """

    users: pa.Array
    items: pa.Array
    pairs: dict[str, list[tuple[int, int]]]
    vectors: dict[int, list[float]]
    dropped: int


def prepared(job: Job, folder: Path) -> Prepared:
    """Reads, settles and writes the data of ``job`` below ``folder``, then reads what was written."""
    files, buckets = find_files(job), bucket_count(with_buckets(job, 4))
    sources = open_sources(job.data, files)
    source, features = sources.interactions, sources.features
    groups = grouped_pieces(source)
    read = [
        table
        for group in range(len(groups))
        for table in read_interactions(_numbers(group), source, groups, buckets)
    ]
    users = [settle_users(rows, job.data.split, job.data.split.method) for rows in _by_bucket(read)]
    user_offsets = _offsets(users, "users", buckets)
    rows = [
        table
        for packed in users
        for table in rows_by_item(
            batch=packed, offsets=user_offsets, thresholds=None, item_type=source.item_type, buckets=buckets
        )
    ]
    feature_groups = tuple(
        (modality, group)
        for modality, modality_source in enumerate(features.values())
        for group in grouped_pieces(modality_source)
    )
    rows += [
        table
        for group in range(len(feature_groups))
        for table in read_features(
            batch=_numbers(group),
            sources=features,
            groups=feature_groups,
            item_type=source.item_type,
            buckets=buckets,
        )
    ]
    catalogue = _catalogue(job, features)
    items = [settle_items(table, catalogue) for table in _by_bucket(rows)]
    target = open_location(str(folder / "dataset"), job.storage)
    item_offsets = _offsets(items, "items", buckets)
    for packed in users:
        list(write_users(packed, target, user_offsets))
    for packed in items:
        list(write_items(packed, target, item_offsets, tuple(features)))
    dropped = sum(packed["null_id"][0].as_py() + packed["duplicate"][0].as_py() for packed in users)
    assert {feature_table_name(name) for name in features} <= set(items[0].column_names)
    assert unpack(users[0], "users").column_names == [USER_ID]
    return _written(folder / "dataset", dropped)


def _numbers(piece: int) -> pa.Table:
    return pa.table({"id": [piece]})


def _by_bucket(tables: Iterable[pa.Table]) -> list[pa.Table]:
    rows = pa.concat_tables(tables)
    numbers = rows[BUCKET].to_numpy()
    return [rows.filter(pa.array(numbers == bucket)) for bucket in np.unique(numbers)]


def _offsets(packed: list[pa.Table], name: str, buckets: int) -> np.ndarray:
    sizes = np.zeros(buckets, np.int64)
    for row in packed:
        sizes[row[BUCKET][0].as_py()] = row[name][0].as_py()
    return np.cumsum(sizes) - sizes


def _written(folder: Path, dropped: int) -> Prepared:
    def table(name: str) -> pa.Table:
        return pa.concat_tables(
            pq.read_table(path, partitioning=None) for path in sorted((folder / name).glob("*"))
        )

    def ids(name: str, external: str, number: str) -> pa.Array:
        result = table(name).sort_by(number)
        assert result[number].to_pylist() == list(range(len(result)))
        return one_array(result[external])

    def columns(name: str, *wanted: str) -> list[list[Any]]:
        result = table(name)
        return [result[column].to_pylist() for column in wanted]

    pairs = {split: list(zip(*columns(f"interactions/{split}", USER, ITEM), strict=True)) for split in SPLITS}
    vectors = dict(zip(*columns("features/image", ITEM, "vector"), strict=True))
    return Prepared(
        users=ids("users", USER_ID, USER),
        items=ids("items", ITEM_ID, ITEM),
        pairs=pairs,
        vectors=vectors,
        dropped=dropped,
    )
