"""The index of the items: FAISS, exact or approximate, with what it finds of the exact top lists measured."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mmssl_dist.config.training_sections import Index
from mmssl_dist.serving.item_search import ExactSearch, Searchable, best_items
from mmssl_dist.serving.part_rows import mapped_tensor
from mmssl_dist.storage import FileRecord, Location
from mmssl_dist.storage.export_names import INDEX, ITEM_ROWS, USER_ROWS, embeddings_file

RECALL_AT = 20
_SAMPLED_PARTS = 8  # whose files the task downloads for it
_BLOCK = 1 << 17  # items read and added at once
TRAINED_WITH = 64  # items per cell that the cells are learned from


@dataclass(frozen=True)
class ListSample:
    """What lists are compared with exact ones by: the items that sampled users know.

    Attributes:
        known: of some users of a partition, given by their rows in it: indptr, and places of items.
        k: length of the lists.
    """

    known: Callable[[int, np.ndarray], tuple[np.ndarray, np.ndarray]]
    k: int


def build_index(
    export: Location, files: Mapping[str, FileRecord], settings: Index, lists: ListSample | None = None
) -> tuple[FileRecord, dict[str, object], dict[str, object]]:
    """Write the index of the items written below ``export``; needs the index in memory, and the items' rows
    and the index once more on the local disk.

    Args:
        export: the export artifact's folder.
        files: records of what the workers wrote there.
        lists: where lists are to be made through the index.

    Returns:
        the index's record; facts: its kind and size, how far it searches ("probes" or "search_width"),
        and under "recall" what it finds of the exact top 20; and of the ``lists`` how far they have to
        search, and under "overlap" what they have of the exact ones.

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
        chosen = _some_users(export, files, parts=parts, users=settings.recall_users, folder=folder)
        queries = np.concatenate([user_rows for _, _, user_rows in chosen])
        comparison = Comparison(rows, queries)
        searched = tune_search(index, comparison, settings)
        of_lists: dict[str, object] = {}
        if lists is not None:
            known = _joined([lists.known(part, users) for part, users, _ in chosen])
            of_lists = tune_lists(index, ListComparison(rows, queries, known, lists.k), settings)
            set_effort(index, searched)  # lookups are compared with their own figure
        facts = {"kind": kind_of(len(rows), settings), "items": len(rows), **searched}
        # To the local disk first: FAISS writes to files only, and an object store takes the bytes from there.
        faiss.write_index(index, str(folder / "index"))
        # The index may be the largest thing in memory; what follows reads it from the file.
        del index
        record = (export / INDEX).write_bytes(np.memmap(folder / "index", np.uint8, "r").data)
    return record, {**facts, "bytes": record.bytes}, of_lists


def kind_of(items: int, settings: Index) -> str:
    """flat, hnsw or ivf."""
    if settings.kind != "auto":
        return settings.kind
    return "flat" if items <= settings.exact_up_to else "ivf"


def cell_count(items: int, settings: Index) -> int:
    """How many cells an inverted file has."""
    # FAISS's own rule of thumb, 4 to 16 times the root of the number of items; never more cells than items.
    return min(int(4 * items**0.5) if settings.cells == "auto" else settings.cells, items)


def make_index(rows: np.ndarray, settings: Index) -> Any:
    """A FAISS index of ``rows`` [m, D] float32 by dot product; ``tune_search`` sets how it is searched."""
    import faiss

    index_type = kind_of(len(rows), settings)
    if index_type == "flat":
        index = faiss.IndexFlatIP(rows.shape[1])
    else:
        index = (_graph if index_type == "hnsw" else _cells)(faiss, rows, settings)
    # In the order of the item embeddings, files in order: the position is the only link to an id. Block by
    # block, since a call's temporaries grow with its rows.
    if isinstance(index, faiss.IndexIVF):
        _fill_cells(faiss, index, rows)
        return index
    for _, block in _blocks(rows):
        index.add(block)
    return index


def _fill_cells(faiss: Any, index: Any, rows: np.ndarray) -> None:
    """Add ``rows`` to lists that have their final size from the start: lists that grow take twice as much."""
    cell_of = np.empty(len(rows), np.int64)
    for start, block in _blocks(rows):
        cell_of[start : start + len(block)] = index.quantizer.search(block, 1)[1][:, 0]
    lists = faiss.downcast_InvertedLists(index.invlists)
    for cell, count in enumerate(np.bincount(cell_of, minlength=index.nlist)):
        lists.resize(cell, int(count))
        lists.resize(cell, 0)  # keeps the room
    for start, block in _blocks(rows):
        cells = np.ascontiguousarray(cell_of[start : start + len(block)])
        index.add_core(len(block), faiss.swig_ptr(block), None, faiss.swig_ptr(cells))


def _blocks(rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, contiguous rows) of every block."""
    for start in range(0, len(rows), _BLOCK):
        yield start, np.ascontiguousarray(rows[start : start + _BLOCK])


def _graph(faiss: Any, rows: np.ndarray, settings: Index) -> Any:
    index = faiss.IndexHNSWFlat(rows.shape[1], settings.links, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = settings.build_width
    return index


def _cells(faiss: Any, rows: np.ndarray, settings: Index) -> Any:
    items, width = rows.shape
    cells = cell_count(items, settings)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, cells, faiss.METRIC_INNER_PRODUCT)
    # FAISS's default of 256 takes four times as long, and the recall measured below is what counts.
    index.cp.max_points_per_centroid = TRAINED_WITH
    index.cp.min_points_per_centroid = 1  # fewer are fine, and FAISS would warn of them on the terminal
    index.train(rows)
    return index


def set_effort(index: Any, searched: Mapping[str, Any]) -> None:
    """Let ``index`` search as far as facts of ``tune_search`` or ``tune_lists`` say."""
    if "probes" in searched:
        index.nprobe = searched["probes"]
    if "search_width" in searched:
        index.hnsw.efSearch = searched["search_width"]


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


class ListComparison:
    """The exact lists of some users without what they know, to count what lists of an index have of them.

    Args:
        rows: [m, D] float32, the items.
        queries: [q, D] float32, the users.
        known: indptr [q + 1], and places of the items left out, ascending within a user.
        k: length of the lists.
    """

    def __init__(
        self, rows: np.ndarray, queries: np.ndarray, known: tuple[np.ndarray, np.ndarray], k: int
    ) -> None:
        self.queries, self.known, self.k = queries, known, min(k, len(rows))
        self.items = len(rows)
        places, scores = self._lists(ExactSearch(rows))
        self.listed = (places >= 0).sum()
        # Of equals any may be in the list; an empty place is reached by nothing.
        least = np.where(places >= 0, scores, np.inf).min(1, initial=np.inf, keepdims=True)
        self.least = least - 1e-5 * np.abs(np.where(np.isfinite(least), least, 0.0))

    def recall(self, index: Searchable) -> float:
        """The share of the exact lists' items, or others that score as high, in lists through ``index``."""
        if not self.listed:
            return 1.0
        _, scores = self._lists(index)
        return float(min(1.0, (scores >= self.least).sum() / self.listed))

    def _lists(self, index: Searchable) -> tuple[np.ndarray, np.ndarray]:
        return best_items(index=index, items=self.items, rows=self.queries, known=self.known, k=self.k)


def tune_lists(index: Any, comparison: ListComparison, settings: Index) -> dict[str, object]:
    """As ``tune_search``, for lists without known items, which reach deeper than a lookup's best 20."""
    return _tuned(index, comparison, settings, "overlap")


def tune_search(index: Any, comparison: Comparison, settings: Index) -> dict[str, object]:
    """Set how far ``index`` searches, as the settings say or as far as their recall needs; returns both."""
    return _tuned(index, comparison, settings, "recall")


def _tuned(
    index: Any, comparison: Comparison | ListComparison, settings: Index, name: str
) -> dict[str, object]:
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
    share = {"value": comparison.recall(index), "at": comparison.k, "users": len(comparison.queries)}
    return {**chosen, name: share}


@dataclass(frozen=True)
class _SearchEffort:
    """How far an index searches: the setting's ``name``, what is ``wanted``, and the ``most`` that makes
    sense."""

    name: str
    wanted: int | Literal["auto"]
    most: int

    def set(self, index: Any, value: int) -> None:
        set_effort(index, {self.name: value})


def _search_effort(index: Any, settings: Index) -> _SearchEffort | None:
    import faiss

    if isinstance(index, faiss.IndexIVF):
        return _SearchEffort("probes", settings.probes, index.nlist)
    if isinstance(index, faiss.IndexHNSW):
        return _SearchEffort("search_width", settings.search_width, max(index.ntotal, 1))
    return None


def _least_effort(
    effort: _SearchEffort, index: Any, comparison: Comparison | ListComparison, recall: float
) -> int:
    """The least value that finds the share ``recall``: doubled until one does, then halved in between."""

    def enough(value: int) -> bool:
        effort.set(index, value)
        return comparison.recall(index) >= recall

    high = 1
    # Recall grows with the effort, hence a search by halves; each try searches for every sampled user.
    while high < effort.most and not enough(high):
        high = min(2 * high, effort.most)
    # The most there is was not tried: enough or not, there is nothing beyond it.
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
            rows = mapped_tensor((export / name).localize(folder, files[name]), ITEM_ROWS)
            width = rows.shape[1]
            for _, block in _blocks(rows):
                block.tofile(stream)
        size = stream.tell()
    # An empty file cannot be mapped.
    if not size:
        return np.empty((0, width), np.float32)
    return np.memmap(folder / "rows", np.float32, "r").reshape(-1, width)


def _some_users(
    export: Location, files: Mapping[str, FileRecord], *, parts: list[int], users: int, folder: Path
) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """(part, rows of its users in it, their embeddings [n, D]) of about ``users`` users in all, the first of
    some partitions; their order has nothing to do with taste."""
    # From several partitions, since a graph cut puts users of similar taste together; and not from all, whose
    # files would pass through this machine.
    sampled = parts[:: -(-len(parts) // _SAMPLED_PARTS)] if parts else []
    share, left = -(-users // max(1, len(sampled))), users
    chosen = []
    for part in sampled:
        name = embeddings_file(part)
        rows = mapped_tensor((export / name).localize(folder, files[name]), USER_ROWS)
        count = min(share, left, len(rows))
        chosen.append((part, np.arange(count), np.array(rows[:count])))
        left -= count
    return chosen


def _joined(lists: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Several (indptr, values) as one."""
    lengths = np.concatenate([np.diff(indptr) for indptr, _ in lists])
    return np.concatenate([[0], np.cumsum(lengths)]), np.concatenate([values for _, values in lists])
