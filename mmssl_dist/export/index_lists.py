"""Recommendation lists made through the index, a partition at a time: a process holds the index, the items'
ids and one partition's users."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa

from mmssl_dist.config.job import Job
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.columns import ITEM_ID, USER_ID
from mmssl_dist.export.chosen_users import chosen_users
from mmssl_dist.export.index import set_effort
from mmssl_dist.export.writers import write_list_blocks
from mmssl_dist.serving.artifact import Artifact
from mmssl_dist.serving.id_lookup import narrow
from mmssl_dist.serving.item_search import best_items
from mmssl_dist.serving.part_rows import mapped_tensor
from mmssl_dist.serving.seen import read_known
from mmssl_dist.storage import FileRecord, Manifest, RunFolder, downloads_folder
from mmssl_dist.storage.export_names import (
    INDEX,
    ITEM_EMBEDDINGS,
    USER_EMBEDDINGS,
    USER_ROWS,
    embeddings_file,
    parquet_file,
)

USERS_AT_ONCE = 1 << 12
"""Users of one search: their results with those left out take some 20 kB each."""


@dataclass(frozen=True)
class PartLists:
    """What one partition's task wrote.

    Attributes:
        files: its file. users: that have a list. named: by ``export.users``, of all partitions; 0 without.
    """

    files: dict[str, FileRecord]
    users: int
    named: int


def write_part_lists(
    job: Job, written: Mapping[str, FileRecord], searched: Mapping[str, Any], part: int
) -> PartLists:
    """Write the lists of a partition's users, in the order of its users.

    Args:
        written: records of the export's files by name, the index's among them.
        searched: how far to search, as ``tune_lists`` found.
    """
    import faiss

    opened = _opened(_IndexedExport(job.output, job.storage, written[INDEX], written))
    export, index, item_ids = opened.export, opened.index, opened.item_ids
    set_effort(index, searched)
    part_users = export.part_column(parquet_file(USER_EMBEDDINGS, part), USER_ID).combine_chunks()
    users_wanted = chosen_users(job)
    chosen = users_wanted.positions(part_users)
    rows = mapped_tensor(export.path(embeddings_file(part)), USER_ROWS)
    # Anew for each partition, as it keeps open what it has read
    known = read_known(opened.partitions, job.export.exclude)

    def blocks() -> Iterator[tuple[pa.Array, pa.Array, np.ndarray, np.ndarray]]:
        for start in range(0, len(chosen), USERS_AT_ONCE):
            users = chosen[start : start + USERS_AT_ONCE]
            left_out = known.of_users(part, users)
            best, scores = best_items(
                index=index, items=len(item_ids), rows=np.asarray(rows[users]), known=left_out, k=job.export.k
            )
            ids = narrow(item_ids.take(pa.array(best[best >= 0])))
            yield part_users.take(pa.array(users)), ids, best >= 0, scores

    types = part_users.type, narrow(item_ids[:0]).type
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # a task has one core; workers' variables give FAISS as many as theirs
    try:
        name, record = write_list_blocks(export.location, part, types=types, blocks=blocks())
    finally:
        faiss.omp_set_num_threads(threads)  # other tasks come to this process
    return PartLists({name: record}, len(chosen), users_wanted.named)


@dataclass(frozen=True)
class _IndexedExport:
    """Which files an index and the ids of its items are read from; ``index`` tells one export of a run from
    the next. ``records``: of all files."""

    output: str
    storage: Storage
    index: FileRecord
    records: Mapping[str, FileRecord] = field(compare=False)


@dataclass(frozen=True)
class _Opened:
    """What the lists of all partitions need; ``item_ids``: [m] in the order of the index."""

    export: Artifact
    partitions: Artifact
    index: Any
    item_ids: pa.Array


@lru_cache(maxsize=1)
def _opened(source: _IndexedExport) -> _Opened:
    """Opened once in a process, which makes the lists of several partitions."""
    import faiss

    folder, cache = RunFolder.at(source.output, source.storage), downloads_folder()
    export = Artifact(folder.export.location, Manifest("export", "", {}, source.records), cache)
    partitions = Artifact(folder.partitions.location, folder.partitions.require(), cache)
    # Mapped where FAISS can: processes of one machine then share the pages of one file.
    index = faiss.read_index(str(export.path(INDEX)), faiss.IO_FLAG_MMAP_IFC)
    return _Opened(export, partitions, index, export.column(partial(parquet_file, ITEM_EMBEDDINGS), ITEM_ID))
