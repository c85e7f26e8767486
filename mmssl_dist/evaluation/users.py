"""Metrics of each user as Parquet, a file per partition, in external ids: what comparisons over users are
made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from mmssl_dist.data.columns import SPLIT, USER_ID
from mmssl_dist.evaluation.evaluate import UserMetrics
from mmssl_dist.evaluation.metrics import metric_names
from mmssl_dist.evaluation.user_columns import POSITIVES, USERS, WHO
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.storage import FileRecord, Location

_ROW_GROUP = 1 << 16  # rows; also bounds what is laid out for Parquet at once


def write_user_metrics(
    evaluation: Location,
    graph: LocalGraph,
    ids: Sequence[pa.Array],
    by_ranker: Mapping[str, Mapping[str, UserMetrics]],
    ks: Sequence[int],
) -> dict[str, FileRecord]:
    """Write `users/part-XXXXX.parquet` of this worker's partitions.

    A row for each who, split and user with held-out items: user_id, split, who, positives, and each metric as
    float32.

    Args:
        evaluation: the evaluation artifact's folder.
        ids: per partition held, external ids of its users in local order.
        by_ranker: who -> split -> metrics.

    Returns:
        records of the files written, by name below ``evaluation``.
    """
    # Two or three texts repeated millions of times: as a dictionary they cost a few bits a row.
    text = pa.dictionary(pa.int32(), pa.string())
    metrics = [(name, pa.float32()) for name in metric_names(ks)]
    files = {}
    for part, part_ids in zip(graph.parts, ids, strict=True):
        columns = [(USER_ID, part_ids.type), (SPLIT, text), (WHO, text), (POSITIVES, pa.int32())]
        schema = pa.schema([*columns, *metrics])
        sink = pa.BufferOutputStream()
        # In memory first: a partition's metrics are small, and the file then appears whole or not at all.
        with pq.ParquetWriter(sink, schema) as writer:
            for who, by_split in by_ranker.items():
                for split, users in by_split.items():
                    for group in _groups(users, graph.user_rows(part)):
                        writer.write_table(
                            _table(schema=schema, ids=part_ids, who=who, split=split, users=group)
                        )
        name = f"{USERS}/part-{part:05d}.parquet"
        files[name] = (evaluation / name).write_bytes(sink.getvalue())
    return files


def _groups(users: UserMetrics, rows: range) -> Iterator[UserMetrics]:
    """Those of one partition, row group by row group; their rows from its first user on."""
    first, last = torch.searchsorted(users.rows, torch.tensor([rows.start, rows.stop])).tolist()
    for start in range(first, last, _ROW_GROUP):
        some = slice(start, min(start + _ROW_GROUP, last))
        yield UserMetrics(users.rows[some] - rows.start, users.positives[some], users.values[some])


def _table(schema: pa.Schema, ids: pa.Array, who: str, split: str, users: UserMetrics) -> pa.Table:
    n = len(users.rows)
    same = [pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), [text]) for text in (split, who)]
    values = users.values.float().numpy().T
    columns = [ids.take(pa.array(users.rows.numpy())), *same, pa.array(users.positives.numpy(), pa.int32())]
    return pa.Table.from_arrays([*columns, *(pa.array(column) for column in values)], schema=schema)
