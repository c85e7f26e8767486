"""The item-item graph of a modality: each item's K nearest items by the cosine of their features, found with FAISS.

LATTICE's and FREEDOM's observation: what items have in common is worth more as a graph over their ID rows than as
features projected into them.
"""

from __future__ import annotations

import numpy as np

from mmssl_dist.graph.bipartite import Lists, offsets

_EXACT = 100_000  # items up to which every pair is compared; beyond, an inverted file finds most of the same
_TRAINED_WITH = 64  # items per cell that the inverted file's cells are learned from
_PROBED = 16, 1 / 64  # cells looked into: at least so many, and this share of them
_QUERIES = 4096  # searched at once; bounds memory
_SHORTEST = 1e-6  # feature rows not longer than this have no direction


def nearest_items(features: np.ndarray, size: int, exact_up_to: int = _EXACT) -> Lists:
    """Each item's ``size`` nearest other items by cosine.

    Args:
        features: [I, F] float32; items without the modality are zero rows. They have no neighbours and are nobody's.
        size: K; fewer where there are no more items.
        exact_up_to: items up to which the search is exact.

    Returns:
        [I] rows of item indices, ascending.
    """
    import faiss

    length = np.linalg.norm(features, axis=1)
    present = np.flatnonzero(length > _SHORTEST)
    size = min(size, len(present) - 1)
    lengths = np.zeros(len(features), np.int64)
    if size < 1:
        return Lists(offsets(lengths), np.empty(0, np.int64))
    units = features[present] / length[present, None]
    index = _index(faiss, units, exact_up_to)
    found = np.empty((len(present), size), np.int64)
    for start in range(0, len(present), _QUERIES):
        stop = min(start + _QUERIES, len(present))
        _, nearest = index.search(units[start:stop], size + 1)
        found[start:stop] = _without_self(nearest, np.arange(start, stop))
    kept = found >= 0  # an inverted file may find fewer than it was asked for
    lengths[present] = kept.sum(1)
    found = np.sort(np.where(kept, found, len(present)), 1)
    return Lists(offsets(lengths), present[found[found < len(present)]])


def symmetric_weights(graph: Lists) -> np.ndarray:
    """[E] float32: 1 / sqrt(length of the row * rows that list the item), so that hubs count less."""
    listed = np.bincount(graph.values, minlength=len(graph.lengths))
    weight = 1.0 / np.sqrt(np.repeat(graph.lengths, graph.lengths) * listed[graph.values])
    return np.asarray(weight, np.float32)


def _index(faiss, units: np.ndarray, exact_up_to: int):  # type: ignore[no-untyped-def]
    count, width = units.shape
    if count <= exact_up_to:
        index = faiss.IndexFlatIP(width)
    else:
        cells = int(4 * count**0.5)
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, cells, faiss.METRIC_INNER_PRODUCT)
        index.cp.max_points_per_centroid = _TRAINED_WITH
        index.nprobe = max(_PROBED[0], int(cells * _PROBED[1]))
        index.train(units)
    index.add(units)
    return index


def _without_self(nearest: np.ndarray, own: np.ndarray) -> np.ndarray:
    """[n, K + 1] nearest rows -> [n, K] without the row itself, or without the last where others are as near."""
    is_self = nearest == own[:, None]
    is_self[~is_self.any(1), -1] = True
    others: np.ndarray = nearest[~is_self].reshape(len(nearest), -1)
    return others
