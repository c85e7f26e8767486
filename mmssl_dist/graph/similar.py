"""The item-item graph of a modality: each item's K nearest items by the cosine of their features, found with
FAISS.

LATTICE's and FREEDOM's observation: what items have in common is worth more as a graph over their ID rows
than as features projected into them.
"""

from __future__ import annotations

import numpy as np

from mmssl_dist.graph.bipartite import Lists, offsets

_EXACT = (
    100_000  # items up to which every pair is compared; beyond, cells of near items find most of the same
)
_CELLS = 2  # per root of the number of items
_TRAINED_WITH = 64  # items per cell that the cells are learned from
_ROUNDS = 10  # of k-means
_PROBED = 16, 1 / 32  # cells looked into: at least so many, and this share of them
_QUERIES = 4096  # searched at once; bounds memory
_SHORTEST = 1e-6  # feature rows not longer than this have no direction


def nearest_items(features: np.ndarray, size: int, exact_up_to: int = _EXACT) -> Lists:
    """Each item's ``size`` nearest other items by cosine.

    Args:
        features: [I, F] float32; items without the modality are zero rows. They have no neighbours and are
            nobody's.
        size: K; fewer where there are no more items.
        exact_up_to: items up to which the search is exact.

    Returns:
        [I] rows of item indices, ascending.
    """
    length = _lengths(features)
    present = np.flatnonzero(length > _SHORTEST)
    size = min(size, len(present) - 1)
    lengths = np.zeros(len(features), np.int64)
    if size < 1:
        return Lists(offsets(lengths), np.empty(0, np.int64))
    units = features[present] / length[present, None]
    found = _among_all(units, size) if len(present) <= exact_up_to else _among_cells(units, size)
    kept = found >= 0  # near cells may hold fewer than are asked for
    lengths[present] = kept.sum(1)
    found = np.sort(np.where(kept, found, len(present)), 1)
    return Lists(offsets(lengths), present[found[found < len(present)]])


def _lengths(features: np.ndarray) -> np.ndarray:
    """[I] float32 norms of rows; squares overflow long before the rows do."""
    with np.errstate(over="ignore"):
        length: np.ndarray = np.linalg.norm(features, axis=1)
    long = ~np.isfinite(length)
    if long.any():
        exact = np.linalg.norm(features[long].astype(np.float64), axis=1)
        length[long] = np.minimum(exact, np.finfo(np.float32).max)
    return length


def symmetric_weights(graph: Lists) -> np.ndarray:
    """[E] float32: 1 / sqrt(length of the row * rows that list the item), so that hubs count less."""
    listed = np.bincount(graph.values, minlength=len(graph.lengths))
    weight = 1.0 / np.sqrt(np.repeat(graph.lengths, graph.lengths) * listed[graph.values])
    return np.asarray(weight, np.float32)


def _among_all(units: np.ndarray, size: int) -> np.ndarray:
    """[n, size] int64 rows nearest to each of ``units``, [n, F] float32."""
    import faiss

    index = faiss.IndexFlatIP(units.shape[1])
    index.add(units)
    found = np.empty((len(units), size), np.int64)
    for start in range(0, len(units), _QUERIES):
        stop = min(start + _QUERIES, len(units))
        _, nearest = index.search(units[start:stop], size + 1)
        found[start:stop] = _without_self(nearest, np.arange(start, stop))
    return found


def _among_cells(units: np.ndarray, size: int) -> np.ndarray:
    """As ``_among_all``, but of the rows in the cells that are nearest to each row; -1 where those hold
    fewer.

    It finds what FAISS's inverted file does. That scans the cells of one row after the other; here all rows
    that look into a cell are compared with it by one product of matrices, a tenth of the time.
    """
    import faiss

    cells = int(_CELLS * len(units) ** 0.5)
    means = faiss.Kmeans(
        units.shape[1], cells, niter=_ROUNDS, max_points_per_centroid=_TRAINED_WITH, spherical=True
    )
    means.train(units)
    _, probed = means.index.search(units, min(cells, max(_PROBED[0], int(cells * _PROBED[1]))))
    lookers = np.argsort(probed.reshape(-1), kind="stable") // probed.shape[1]  # by the cell they look into
    held = np.argsort(probed[:, 0], kind="stable")
    look_bounds, held_bounds = (
        np.searchsorted(np.sort(cell.reshape(-1)), np.arange(cells + 1)).tolist()
        for cell in (probed, probed[:, 0])
    )
    heap = faiss.ResultHeap(len(units), size + 1, keep_max=True)
    for number in range(cells):
        rows = held[held_bounds[number] : held_bounds[number + 1]]
        looking = lookers[look_bounds[number] : look_bounds[number + 1]]
        if len(rows):
            near, places = faiss.knn(
                units[looking], units[rows], min(size + 1, len(rows)), metric=faiss.METRIC_INNER_PRODUCT
            )
            heap.add_result_subset(looking, near, rows[places])
    heap.finalize()
    return _without_self(heap.I, np.arange(len(units)))


def _without_self(nearest: np.ndarray, own: np.ndarray) -> np.ndarray:
    """[n, K + 1] nearest rows -> [n, K] without the row itself, or without the last where others are as
    near."""
    is_self = nearest == own[:, None]
    is_self[~is_self.any(1), -1] = True
    others: np.ndarray = nearest[~is_self].reshape(len(nearest), -1)
    return others
