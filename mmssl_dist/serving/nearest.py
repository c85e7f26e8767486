"""Exact search for the rows with the highest dot product, among all rows or some."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


def nearest(
    queries: np.ndarray, rows: np.ndarray, k: int, mask: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` rows with the highest dot product with each query.

    Args:
        queries: float32 [q, D].
        rows: float32 [n, D].
        mask: bool [n], the rows that count; all by default.

    Returns:
        scores [q, k] float32 and places [q, k] int64, best first; the place is -1 where there are fewer.
    """
    import faiss

    if mask is None:
        scores, places = faiss.knn(queries, rows, k, faiss.METRIC_INNER_PRODUCT)
        return scores, places
    queries, rows = (np.ascontiguousarray(array, np.float32) for array in (queries, rows))
    scores, places = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    bits = np.packbits(mask, bitorder="little")
    # knn takes no selector. This is what it calls; it skips rows without computing their products.
    selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
    pointer = faiss.swig_ptr
    faiss.knn_inner_product(
        pointer(queries),
        pointer(rows),
        rows.shape[1],
        len(queries),
        len(rows),
        k,
        pointer(scores),
        pointer(places),
        selector,
    )
    return scores, places


def nearest_in_blocks(
    queries: np.ndarray, blocks: Iterable[tuple[int, np.ndarray]], k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The same of rows that come in ``blocks`` of (first place, rows): one block at a time is in memory.

    Of equal scores the first place comes first. ``k`` is at most the number of all rows.
    """
    results = [
        (first, *nearest(queries, np.asarray(rows), min(k, len(rows)))) for first, rows in blocks if len(rows)
    ]
    scores = np.concatenate([scores for _, scores, _ in results], 1)
    places = np.concatenate([first + places for first, _, places in results], 1)
    order = np.lexsort((places, -scores))[:, :k]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(places, order, 1)


def best(
    scores: np.ndarray, neighbours: np.ndarray, left_out: Sequence[np.ndarray], k: int, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ``k`` best of each query's results [q, n], without the places in its ``left_out``.

    Args:
        neighbours: places below ``count``, or -1 for none.

    Returns:
        places and scores of all lists one after the other, and the length of each list [q].
    """
    # FAISS fills up with -1 where it found fewer.
    kept = neighbours >= 0
    if any(map(len, left_out)):
        first = np.arange(len(neighbours)) * count  # makes a number of a row and a place
        left = np.repeat(first, [len(items) for items in left_out]) + np.concatenate(left_out)
        kept &= ~np.isin(first[:, None] + neighbours, left)
    # Equal scores are ordered by place, so that every index and batch size gives the same list.
    order = np.lexsort((neighbours, np.where(kept, -scores, np.inf)))[:, :k]
    lengths = np.minimum(kept.sum(1), k)
    is_filled = np.arange(order.shape[1]) < lengths[:, None]
    positions = np.take_along_axis(neighbours, order, 1)[is_filled]
    values = np.take_along_axis(scores, order, 1)[is_filled]
    return positions, values, lengths
