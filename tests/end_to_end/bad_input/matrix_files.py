"""Raw files of the matrix, good and bad, written into a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

USERS, ITEMS = 12, 10
VECTORS = [[1.0, 2.0]] * ITEMS


def write_interactions(folder: Path, pairs: Sequence[tuple[object, object]]) -> None:
    users, items = zip(*pairs, strict=True)
    pq.write_table(pa.table({"user_id": users, "item_id": items}), folder / "raw/interactions.parquet")


def write_text(folder: Path, items: Sequence[object], vectors: object) -> None:
    table = {"item_id": list(items), "vector": pa.array(vectors, pa.list_(pa.float32()))}
    pq.write_table(pa.table(table), folder / "raw/text.parquet")


def parquet(name: str, **columns: object) -> Callable[[Path], None]:
    """Writes these columns as raw file ``name``."""
    return lambda folder: pq.write_table(pa.table(columns), folder / "raw" / name)


def content(name: str, data: bytes) -> Callable[[Path], object]:
    """Writes ``data`` as the file ``name`` of the folder."""
    return lambda folder: (folder / name).write_bytes(data)


def npy(header: str, body: bytes = b"", version: tuple[int, int] = (1, 0)) -> Callable[[Path], object]:
    """Writes raw/image.npy byte by byte."""
    text = header.encode()
    length = len(text).to_bytes(2 if version == (1, 0) else 4, "little")
    return content("raw/image.npy", b"\x93NUMPY" + bytes(version) + length + text + body)
