"""A small folder of raw files, and a job of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

USERS, ITEMS = 20, 10
PAIRS = [(user, (user + step) % ITEMS) for user in range(USERS) for step in range(8)]


def write_raw(folder: Path) -> Path:
    """A small data set that is as it should be, with a third modality that one item lacks."""
    raw = folder / "raw"
    (raw / "log").mkdir(parents=True)
    for number, part in enumerate((PAIRS[:50], PAIRS[50:100], PAIRS[100:])):
        write_log(raw, number, [user for user, _ in part], [item for _, item in part])
    np.save(raw / "image.npy", np.ones((ITEMS, 3), np.float32))
    write_vectors(raw, "text", range(ITEMS))
    write_vectors(raw, "audio", range(1, ITEMS))
    (folder / "job.yaml").write_text(
        f"output: {folder}/out\n"
        f"data:\n  path: {folder}/raw\n  interactions: log\n  columns: {{time: at}}\n"
        "  modalities:\n    image: {file: image.npy}\n    text: {file: text.parquet}\n"
        "    audio: {file: audio.parquet}\n"
    )
    return raw


def write_log(raw: Path, number: int, users: list[object], items: list[object], **columns: object) -> None:
    names = {"user_id": users, "item_id": items, "at": list(range(1000, 1000 + len(users))), **columns}
    pq.write_table(pa.table(names), raw / f"log/part-{number}.parquet")


def write_vectors(raw: Path, name: str, items: object, **columns: object) -> None:
    ids = list(items)  # type: ignore[call-overload]
    table = {"item_id": ids, "vector": [[1.0, 2.0]] * len(ids), **columns}
    pq.write_table(pa.table(table), raw / f"{name}.parquet")
