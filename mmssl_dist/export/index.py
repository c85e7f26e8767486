"""The index of the items: FAISS, exact or approximate, with what it finds of the exact top lists measured."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
import safetensors

from mmssl_dist.config.training_sections import Index
from mmssl_dist.data.columns import VECTOR
from mmssl_dist.storage import FileRecord, Location
from mmssl_dist.storage.export_names import INDEX, ITEM_ROWS, USER_EMBEDDINGS, embeddings_file, parquet_file

RECALL_AT = 20
_TRAINED_WITH = 64  # items per cell that the cells are learned from


def build_index(
    export: Location, files: Mapping[str, FileRecord], settings: Index
) -> tuple[FileRecord, dict[str, object]]:
    """Write the index of the items written below ``export``; needs the index in memory, and the items' rows
    and the index once more on the local disk.

    Args:
        export: the export artifact's folder.
        files: records of what the workers wrote there.

    Returns:
        the index's record, and facts: its kind and size, how far it searches ("probes" or "search_width"),
        and under "recall" what it finds of the exact top 20.

    Raises:
        ArtifactError: a file is not what its record says.
    """
    import faiss

    # A partition has several files, so their number is a bound; the parts themselves are numbered from 0.
    parts = [part for part in range(len(files)) if embeddings_file(part) in files]
    with tempfile.TemporaryDirectory(prefix="index-") as name:
        folder = Path(name)
        rows = _item_rows(export, files, parts, folder)
        index = make_index(rows, settings)
        comparison = Comparison(rows, _some_users(export, parts, settings.recall_users))
        searched = tune(index, comparison, settings)
        facts = {"kind": kind_of(len(rows), settings), "items": len(rows), **searched}
        # To the local disk first: FAISS writes to files only, and an object store takes the bytes from there.
        faiss.write_index(index, str(folder / "index"))
        # The index may be the largest thing in memory; what follows reads it from the file.
        del index
        record = (export / INDEX).write_bytes(np.memmap(folder / "index", np.uint8, "r").data)
    return record, {**facts, "bytes": record.bytes}


def kind_of(items: int, settings: Index) -> str:
    """flat, hnsw or ivf."""
    if settings.kind != "auto":
        return settings.kind
    return "flat" if items <= settings.exact_up_to else "ivf"


def make_index(rows: np.ndarray, settings: Index) -> Any:
    """A FAISS index of ``rows`` [m, D] float32 by dot product; ``tune`` sets how it is searched."""
    import faiss

    index_type = kind_of(len(rows), settings)
    if index_type == "flat":
        index = faiss.IndexFlatIP(rows.shape[1])
    else:
        index = (_graph if index_type == "hnsw" else _cells)(faiss, rows, settings)
    # In the order of the item embeddings, files in order: the position is the only link to an id.
    index.add(rows)
    return index


def _graph(faiss: Any, rows: np.ndarray, settings: Index) -> Any:
    index = faiss.IndexHNSWFlat(rows.shape[1], settings.links, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = settings.build_width
    return index


def _cells(faiss: Any, rows: np.ndarray, settings: Index) -> Any:
    items, width = rows.shape
    # FAISS's own rule of thumb, 4 to 16 times the root of the number of items; never more cells than items.
    cells = min(int(4 * items**0.5) if settings.cells == "auto" else settings.cells, items)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, cells, faiss.METRIC_INNER_PRODUCT)
    # FAISS's default of 256 takes four times as long, and the recall measured below is what counts.
    index.cp.max_points_per_centroid = _TRAINED_WITH
    index.cp.min_points_per_centroid = 1  # fewer are fine, and FAISS would warn of them on the terminal
    index.train(rows)
    return index


class Comparison:
    """The exact top 20 of some users, to count what an index finds of it.

    Args:
        rows: [m, D] float32, the items.
        queries: [q, D] float32, the users.
    """

    def __init__(self, rows: np.ndarray, queries: np.ndarray) -> None:
        import faiss

        self.rows, self.queries, self.k = rows, queries, min(RECALL_AT, len(rows))
        exact, _ = faiss.knn(queries, rows, self.k, faiss.METRIC_INNER_PRODUCT)
        # A tolerance, as the index may sum a dot product in another order than the exact search.
        self.least = exact[:, -1:] - 1e-5 * np.abs(exact[:, -1:])  # [q, 1]: of equals any may be in the list

    def recall(self, index: Any) -> float:
        """The share of the exact top 20 that ``index`` finds, the mean over the users.

        An item that scores as high as the 20th counts as found, whichever of equals the exact list holds.
        """
        if not len(self.queries):
            return 1.0
        # Fewer than k where the cells looked into hold fewer items; FAISS fills up with -1.
        _, neighbours = index.search(self.queries, self.k)
        scores = np.where(
            neighbours >= 0, np.einsum("qd,qkd->qk", self.queries, self.rows[neighbours]), -np.inf
        )
        return float((scores >= self.least).mean())


def tune(index: Any, comparison: Comparison, settings: Index) -> dict[str, object]:
    """Set how far ``index`` searches, as the settings say or as far as their recall needs; returns both."""
    effort = _search_effort(index, settings)
    chosen: dict[str, object] = {}
    if effort is not None:
        wanted = (
            _least_effort(effort, index, comparison, settings.recall)
            if effort.wanted == "auto"
            else effort.wanted
        )
        value = min(wanted, effort.most)
        effort.set(index, value)
        chosen[effort.name] = value
    recall = {"value": comparison.recall(index), "at": comparison.k, "users": len(comparison.queries)}
    return {**chosen, "recall": recall}


@dataclass(frozen=True)
class _SearchEffort:
    """How far an index searches: the setting's ``name``, what is ``wanted``, and the ``most`` that makes
    sense."""

    name: str
    wanted: int | Literal["auto"]
    most: int

    def set(self, index: Any, value: int) -> None:
        if self.name == "probes":
            index.nprobe = value
        else:
            index.hnsw.efSearch = value


def _search_effort(index: Any, settings: Index) -> _SearchEffort | None:
    import faiss

    if isinstance(index, faiss.IndexIVF):
        return _SearchEffort("probes", settings.probes, index.nlist)
    if isinstance(index, faiss.IndexHNSW):
        return _SearchEffort("search_width", settings.search_width, max(index.ntotal, 1))
    return None


def _least_effort(effort: _SearchEffort, index: Any, comparison: Comparison, recall: float) -> int:
    """The least value that finds the share ``recall``: doubled until one does, then halved in between."""

    def enough(value: int) -> bool:
        effort.set(index, value)
        return comparison.recall(index) >= recall

    high = 1
    # Recall grows with the effort, hence a search by halves; each try searches for every sampled user.
    while high < effort.most and not enough(high):
        high = min(2 * high, effort.most)
    low = high // 2  # too little, or nothing
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _item_rows(
    export: Location, files: Mapping[str, FileRecord], parts: list[int], folder: Path
) -> np.ndarray:
    """[m, D] float32 of all items, mapped from a file in ``folder``; users' rows are not read."""
    width = 0
    with (folder / "rows").open("wb") as stream:
        for part in parts:
            name = embeddings_file(part)
            with safetensors.safe_open((export / name).localize(folder, files[name]), "np") as file:
                rows = np.ascontiguousarray(file.get_tensor(ITEM_ROWS), np.float32)
            width = rows.shape[1]
            rows.tofile(stream)
        size = stream.tell()
    if not size:
        return np.empty((0, width), np.float32)
    return np.memmap(folder / "rows", np.float32, "r").reshape(-1, width)


def _some_users(export: Location, parts: list[int], users: int) -> np.ndarray:
    """Rows [about ``users``, D] of the first users of each partition; their order has nothing to do with
    taste."""
    # From every partition, since a graph cut puts users of similar taste together.
    share = -(-users // len(parts))
    batches = []
    for part in parts:
        location = export / parquet_file(USER_EMBEDDINGS, part)
        with location.filesystem.open_input_file(location.path) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(share, columns=[VECTOR]):
                column = batch.column(0)
                batches.append(column.flatten().to_numpy().reshape(len(batch), column.type.list_size))
                break
    return np.concatenate(batches)[:users]
