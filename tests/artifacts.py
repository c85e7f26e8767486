"""Tiny published artifacts, written directly, so that a stage can be tested without running those before
it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.columns import ITEM, ITEM_ID, USER, USER_ID, VECTOR
from mmssl_dist.storage import FileRecord, Location, Manifest, fingerprint, open_location, publish

Pairs = Sequence[tuple[int, int]]


def write_dataset(
    path: Path | str,
    train: Pairs,
    validation: Pairs,
    test: Pairs,
    features: Mapping[str, tuple[Sequence[int], np.ndarray]],
    users: Sequence[int | str] | pa.Array | None = None,
    items: Sequence[int | str] | pa.Array | None = None,
    shards: int = 2,
) -> Manifest:
    """Publish a dataset artifact in the folder ``path`` (``<output>/dataset`` of a job) and give its
    manifest.

    Args:
        train, validation, test: (user index, item index).
        features: by modality, (indices of the items that have it, [k, F] float16 or float32).
        users, items: external ids by index; by default 1000, 1001, ... and "item-0", "item-1", ..., as many
            as the pairs and features name.
        shards: files per table; rows are dealt out in turn, so no file is a contiguous range.
    """
    pairs = [*train, *validation, *test]
    if users is None:
        users = [1000 + u for u in range(1 + max(u for u, _ in pairs))]
    if items is None:
        named = {i for _, i in pairs} | {int(i) for having, _ in features.values() for i in having}
        items = [f"item-{i}" for i in range(1 + max(named))]
    location, files = open_location(str(path), Storage()), dict[str, FileRecord]()

    def write(folder: str, table: pa.Table) -> None:
        for shard in range(shards):
            name = f"{folder}/part-{shard:05d}.parquet"
            files[name] = _write_table(location / name, table.take(np.arange(shard, len(table), shards)))

    write("users", pa.table({USER_ID: list(users), USER: pa.array(range(len(users)), pa.int64())}))
    write("items", pa.table({ITEM_ID: list(items), ITEM: pa.array(range(len(items)), pa.int64())}))
    for split, chosen in (("train", train), ("validation", validation), ("test", test)):
        columns = np.asarray(chosen, np.int64).reshape(-1, 2)
        write(f"interactions/{split}", pa.table({USER: columns[:, 0], ITEM: columns[:, 1]}))
    for modality, (having, vectors) in features.items():
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        write(f"features/{modality}", pa.table({ITEM: pa.array(having, pa.int64()), VECTOR: column}))
    facts = {
        "users": len(users),
        "items": len(items),
        "interactions": {"train": len(train), "validation": len(validation), "test": len(test)},
        "modalities": {
            m: {"dimension": v.shape[1], "items": len(having)} for m, (having, v) in features.items()
        },
        "user_id_type": str(pa.array(list(users)).type),
        "item_id_type": str(pa.array(list(items)).type),
        "dropped": {},
    }
    hashes = {name: record.sha256 for name, record in files.items()}
    manifest = Manifest("dataset", fingerprint("written by a test", hashes), facts, files)
    publish(location, manifest)
    return manifest


def _write_table(location: Location, table: pa.Table) -> FileRecord:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return location.write_bytes(sink.getvalue())


def signed(content: Mapping[str, object]) -> str:
    """The text of a manifest with ``content``, right or wrong, and the hash of it."""
    return json.dumps({**content, "digest": fingerprint(content)})
