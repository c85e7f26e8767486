"""The best items of many users at once through an index, without those that each of them knows."""

# q users, k list length, D embedding

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any, Protocol

import numpy as np

_DEEP = 1000
"""Items to leave out from which on a user is searched for alone, past them instead of through them."""
NO_ITEM = -1


class Searchable(Protocol):
    """A FAISS index, or something that is searched like one."""

    def search(self, rows: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores and places [q, depth] of the best items, best first; -1 where there are fewer."""


class ExactSearch:
    """Compares every row of ``rows`` [m, D] float32, which may be mapped from a file."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def search(self, rows: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """As ``Searchable``."""
        import faiss

        scores, places = faiss.knn(rows, self.rows, depth, faiss.METRIC_INNER_PRODUCT)
        return scores, places


def best_items(
    index: Searchable, items: int, rows: np.ndarray, known: tuple[np.ndarray, np.ndarray], k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` best items of each user.

    Args:
        items: how many the index holds.
        rows: float32 [q, D].
        known: indptr int64 [q + 1], and the places of the items to leave out, ascending within a user.

    Returns:
        places int64 [q, k], best first, of equals the lower place first, -1 where the index finds fewer;
        scores float32 [q, k], -inf beside -1.
    """
    places = np.full((len(rows), k), NO_ITEM, np.int64)
    scores = np.full((len(rows), k), -np.inf, np.float32)
    counts = np.diff(known[0])
    for group in _of_similar_depth(counts, k):
        left_out = lists_of(known, group)
        depth = min(k + int(counts[group].max()), items)
        if _passes_over(index) and counts[group[0]] > _DEEP:
            depth = min(k, items)
            found = _search_past(index, rows[group], depth, left_out[1])
        else:
            found = index.search(rows[group], depth)
        _keep_best((places, scores), group, found=found, left_out=left_out, items=items)
    return places, scores


def _of_similar_depth(counts: np.ndarray, k: int) -> Iterator[np.ndarray]:
    """Users in groups whose searches are about equally deep; those with very many items are alone."""
    # One search has one depth: a few users with long lists would make it deep for everybody.
    level = np.ceil(np.log2(1 + counts / k)).astype(np.int64)
    for value in np.unique(level):
        yield from _split(np.flatnonzero(level == value), counts)


def _split(users: np.ndarray, counts: np.ndarray) -> Iterator[np.ndarray]:
    shallow = users[counts[users] <= _DEEP]
    if len(shallow):
        yield shallow
    yield from users[counts[users] > _DEEP][:, None]


def lists_of(known: tuple[np.ndarray, np.ndarray], users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(indptr, values) of the lists of some users."""
    indptr, values = known
    lengths = np.diff(indptr)[users]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    # Positions of a user's values: where the list begins, and one more for each that follows.
    taken = np.repeat(indptr[users] - starts[:-1], lengths) + np.arange(starts[-1])
    return starts, values[taken]


def _keep_best(
    best: tuple[np.ndarray, np.ndarray],
    group: np.ndarray,
    *,
    found: tuple[np.ndarray, np.ndarray],
    left_out: tuple[np.ndarray, np.ndarray],
    items: int,
) -> None:
    scores, places = found
    kept = places >= 0
    indptr, values = left_out
    if len(values):
        first = np.arange(len(group)) * items  # makes a number of a row and a place
        keys = np.repeat(first, np.diff(indptr)) + values  # ascending
        wanted = first[:, None] + places
        slots = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        kept &= keys[slots] != wanted
    # Of equals the lower place first, so that the index and the size of a block do not change a list.
    order = np.lexsort((places, np.where(kept, -scores, np.inf)))[:, : best[0].shape[1]]
    is_filled = np.take_along_axis(kept, order, 1)
    width = order.shape[1]
    best[0][group, :width] = np.where(is_filled, np.take_along_axis(places, order, 1), NO_ITEM)
    best[1][group, :width] = np.where(is_filled, np.take_along_axis(scores, order, 1), -np.inf)


def _passes_over(index: Any) -> bool:
    """Whether ``index`` can leave out items while it searches."""
    return not isinstance(index, ExactSearch)


def _search_past(
    index: Any, row: np.ndarray, depth: int, left_out: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Search for one user without the items ``left_out``."""
    # FAISS's own types know neither the keywords of parameters nor all of their classes.
    faiss: Any = import_module("faiss")
    # Named, since FAISS keeps pointers to both and not the objects.
    batch = faiss.IDSelectorBatch(left_out)
    selector = faiss.IDSelectorNot(batch)
    if isinstance(index, faiss.IndexIVF):
        parameters = faiss.SearchParametersIVF(sel=selector, nprobe=index.nprobe)
    elif isinstance(index, faiss.IndexHNSW):
        parameters = faiss.SearchParametersHNSW(sel=selector, efSearch=index.hnsw.efSearch)
    else:
        parameters = faiss.SearchParameters(sel=selector)
    scores, places = index.search(row, depth, params=parameters)
    return scores, places
