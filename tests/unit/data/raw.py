"""Small raw data sets, written to a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SKUS = {"modalities": {"image": {"file": "image.npy"}}, "columns": {"item": "sku"}}
"""Of a job's section data, where items have a name of the shop's."""


def write_table(folder: Path, name: str, **columns: object) -> Path:
    """Columns as ``folder / "raw" / name``, Parquet."""
    path = folder / "raw" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def write_text(folder: Path, name: str, lines: Sequence[str]) -> Path:
    """Lines as ``folder / "raw" / name``."""
    path = folder / "raw" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def write_matrix(folder: Path, name: str, matrix: np.ndarray) -> Path:
    """A matrix as ``folder / "raw" / name``, ``.npy``."""
    path = folder / "raw" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, matrix)
    return path


def vectors(rows: Sequence[Sequence[float] | None], list_type: pa.DataType | None = None) -> pa.Array:
    """A list column of float32, or of ``kind``."""
    return pa.array(rows, pa.list_(list_type or pa.float32()))
