"""The index of the items: FAISS, exact or approximate, with what it finds of the exact top lists measured."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy

from mmssl_dist.config.tree import Index
from mmssl_dist.data.columns import VECTOR
from mmssl_dist.export.names import INDEX, ITEM_ROWS, USER_EMBEDDINGS, embeddings_file, parquet_file
from mmssl_dist.storage import FileRecord, Location

RECALL_AT = 20
_TRAINED_WITH = 64  # items per cell that the cells are learned from


def build_index(
    export: Location, files: Mapping[str, FileRecord], settings: Index
) -> tuple[FileRecord, dict[str, object]]:
    """Write the index of the items written below ``export``; needs their rows and the index in memory.

    Args:
        export: the export artifact's folder.
        files: records of what the workers wrote there.

    Returns:
        the index's record, and facts: its kind, its size, and under "recall" what it finds of the exact top 20.

    Raises:
        ArtifactError: a file is not what its record says.
    """
    import faiss

    parts = [part for part in range(len(files)) if embeddings_file(part) in files]
    with tempfile.TemporaryDirectory(prefix="index-") as name:
        rows = np.concatenate([_item_rows(export, files, part, Path(name)) for part in parts])
    index = make_index(rows, settings)
    recall = measure(index, rows, _some_users(export, parts, settings.recall_users))
    content = faiss.serialize_index(index)
    record = (export / INDEX).write_bytes(pa.py_buffer(content))
    return record, {"kind": kind_of(len(rows), settings), "items": len(rows), "bytes": record.bytes, "recall": recall}


def kind_of(items: int, settings: Index) -> str:
    """flat, hnsw or ivf."""
    if settings.kind != "auto":
        return settings.kind
    return "flat" if items <= settings.exact_up_to else "ivf"


def make_index(rows: np.ndarray, settings: Index):  # type: ignore[no-untyped-def]
    """A FAISS index of ``rows`` [m, D] float32 by dot product; it holds how it is to be searched."""
    import faiss

    kind = kind_of(len(rows), settings)
    if kind == "flat":
        index = faiss.IndexFlatIP(rows.shape[1])
    else:
        index = (_graph if kind == "hnsw" else _cells)(faiss, rows, settings)
    index.add(rows)
    return index


def _graph(faiss, rows: np.ndarray, settings: Index):  # type: ignore[no-untyped-def]
    index = faiss.IndexHNSWFlat(rows.shape[1], settings.links, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = settings.build_width, settings.search_width
    return index


def _cells(faiss, rows: np.ndarray, settings: Index):  # type: ignore[no-untyped-def]
    items, width = rows.shape
    cells = min(int(4 * items**0.5) if settings.cells == "auto" else settings.cells, items)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.max_points_per_centroid = _TRAINED_WITH
    index.cp.min_points_per_centroid = 1  # fewer are fine, and FAISS would warn of them on the terminal
    index.nprobe = min(settings.probes, cells)
    index.train(rows)
    return index


def measure(index, rows: np.ndarray, queries: np.ndarray) -> dict[str, object]:  # type: ignore[no-untyped-def]
    """What ``index`` finds of the exact top 20 of ``queries`` [q, D]: the mean share over them.

    An item that scores as high as the 20th counts as found, whichever of equals the exact list holds.
    """
    import faiss

    k = min(RECALL_AT, len(rows))
    exact, _ = faiss.knn(queries, rows, k, faiss.METRIC_INNER_PRODUCT)
    _, found = index.search(queries, k)
    scores = np.where(found >= 0, np.einsum("qd,qkd->qk", queries, rows[found]), -np.inf)
    tolerance = 1e-5 * np.abs(exact[:, -1:])
    share = (scores >= exact[:, -1:] - tolerance).mean() if len(queries) else 1.0
    return {"value": float(share), "at": k, "users": len(queries)}


def _item_rows(export: Location, files: Mapping[str, FileRecord], part: int, cache: Path) -> np.ndarray:
    name = embeddings_file(part)
    rows: np.ndarray = safetensors.numpy.load_file((export / name).localize(cache, files[name]))[ITEM_ROWS]
    return rows


def _some_users(export: Location, parts: list[int], users: int) -> np.ndarray:
    """Rows [about ``users``, D] of the first users of each partition; their order has nothing to do with taste."""
    share = -(-users // len(parts))
    found = []
    for part in parts:
        location = export / parquet_file(USER_EMBEDDINGS, part)
        with location.filesystem.open_input_file(location.path) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(share, columns=[VECTOR]):
                column = batch.column(0)
                found.append(column.flatten().to_numpy().reshape(len(batch), column.type.list_size))
                break
    return np.concatenate(found)[:users]
