"""Small raw data sets, written to a folder, and jobs that read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmssl_dist.config import Job
from tests import jobs

SKUS = {"modalities": {"image": {"file": "image.npy"}}, "columns": {"item": "sku"}}
"""Of a job's section data, where items have a name of the shop's."""


def make_job(
    folder: Path,
    *,
    modalities: Mapping[str, str | Mapping[str, str]] | None = None,
    seed: int = 0,
    **data: Any,
) -> Job:
    """A job over ``folder / "raw"``; modalities are files or settings, ``data`` is the rest of data."""
    files: Mapping[str, str | Mapping[str, str]] = modalities or {"image": "image.parquet"}
    section = {
        "path": str(folder / "raw"),
        "modalities": {
            name: {"file": file} if isinstance(file, str) else file for name, file in files.items()
        },
        **data,
    }
    return jobs.make_job(output=str(folder / "run"), seed=seed, data=section)


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
