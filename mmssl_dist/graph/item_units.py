"""Directions of the items' features, in blocks that belong to one worker whole."""

from __future__ import annotations

import numpy as np

from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.graph.homes import Homes
from mmssl_dist.graph.transfer import gather, total
from mmssl_dist.kernels.unit_rows import scaled_rows

_SHORTEST = 1e-6  # feature rows not longer than this have no direction


class ItemUnits:
    """Feature rows of the items at home here, brought to unit length when they are used (collective).

    Args:
        features: [own items, F] float32.

    Attributes:
        present: [n] rows of the items that have a direction, ascending.
        total: how many items have one, of all workers.
    """

    def __init__(self, homes: Homes, features: np.ndarray) -> None:
        self.homes, self.features = homes, features
        length = np.empty(len(features), np.float32)
        # By blocks, since the squares of a norm take as much memory as the rows.
        for block in homes.blocks():
            length[block] = _lengths(features[block])
        self.present = np.flatnonzero(length > _SHORTEST)
        self.scale = np.zeros(len(features))  # float64: one over the longest rows is below float32's range
        self.scale[self.present] = 1.0 / length[self.present].astype(np.float64)
        self.total = int(total(homes.items, np.array([len(self.present)]))[0])

    @property
    def width(self) -> int:
        return int(self.features.shape[1])

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """[n, F] float32, of unit length."""
        return scaled_rows(self.features, rows, self.scale)

    def of(self, block: slice) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the items of a block that have a direction, and their vectors."""
        first, last = np.searchsorted(self.present, [block.start, block.stop])
        rows = self.present[first:last]
        return rows, self.vectors(rows)


def _lengths(features: np.ndarray) -> np.ndarray:
    """[n] float32 norms of rows; squares overflow long before the rows do."""
    with np.errstate(over="ignore"):
        length: np.ndarray = np.linalg.norm(features, axis=1)
    long = ~np.isfinite(length)
    if long.any():
        exact = np.linalg.norm(features[long].astype(np.float64), axis=1)
        length[long] = np.minimum(exact, np.finfo(np.float32).max)
    return length


def smallest(exchange: Exchange, hashes: np.ndarray, count: int) -> np.ndarray:
    """Positions of those of this worker's uint64 ``hashes`` that are among the ``count`` smallest of all
    workers' (collective)."""
    # At most ``count`` of the smallest can be here, so no worker sends more.
    candidates = np.sort(hashes)[:count]
    # They travel as int64: collectives take no uint64.
    everywhere = np.sort(gather(exchange, candidates.view(np.int64)).view(np.uint64))
    if len(everywhere) == 0:
        return np.empty(0, np.int64)
    return np.flatnonzero(hashes <= everywhere[min(count, len(everywhere)) - 1])
