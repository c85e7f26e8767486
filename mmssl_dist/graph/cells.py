"""Cells of items that are near each other: spherical k-means on a sample spread over the workers.

Sums of the sample's rows are integers, so they are exact in any order: the cells do not depend on how many
workers there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.graph.item_units import ItemUnits, smallest
from mmssl_dist.graph.transfer import gather, total
from mmssl_dist.kernels.splitmix import mix, salt

_CELLS = 2  # per root of the number of items
_SAMPLE = 32  # items per cell that the cells are learned from
_ROUNDS = 8
PROBED = 32  # cells an item looks into
_SPLIT = 4  # a cell with more than so many times the mean is split
_FIXED = 1 << 24  # units become integers by this factor, about as fine as float32


def number_of_cells(items: int) -> int:
    """Cells of a catalogue."""
    return max(1, int(_CELLS * items**0.5))


@dataclass(frozen=True)
class Cells:
    """Cells of items.

    Attributes:
        means: [C, F] float32 of unit length.
        exchange: over the items. total: number of items.
    """

    means: np.ndarray
    exchange: Exchange
    total: int

    def rounds(self, own: _Pairs, looked: _Pairs, rows: int) -> Rounds:
        """Share the cells out to the workers by the comparisons in them, and each worker's to rounds of about
        ``rows`` rows (collective)."""
        count = own.cells
        held = total(self.exchange, np.bincount(own.cell, minlength=count))
        looking = total(self.exchange, np.bincount(looked.cell, minlength=count))
        # Comparisons, not items: a popular cell costs its members times those who look into it.
        cost = np.cumsum(held * looking)
        workers = self.exchange.world_size
        marks = np.arange(1, workers) * (int(cost[-1]) // workers if count else 0)
        bounds = np.concatenate([[0], np.searchsorted(cost, marks), [count]])
        amount = np.cumsum(held + looking)
        before = np.concatenate([[0], amount])[bounds[:-1]]
        owner = np.searchsorted(bounds[1:], np.arange(count), side="right")
        # Counted from the owner's first cell, so that every worker's rounds are about equally full.
        round_of = (amount - before[owner] - 1) // max(1, rows)
        return Rounds(Exchange(self.exchange.group, bounds, self.exchange.rank), np.maximum(round_of, 0))


@dataclass(frozen=True)
class _Pairs:
    """(cell, row of an item at home here), sorted by both; ``cells`` is the number of cells."""

    cell: np.ndarray
    row: np.ndarray
    cells: int


@dataclass(frozen=True)
class Rounds:
    """Which cells are compared when and where. exchange: over cells. round_of: [cells]."""

    exchange: Exchange
    round_of: np.ndarray

    @property
    def count(self) -> int:
        return int(self.round_of.max(initial=-1)) + 1

    def of(self, pairs: _Pairs, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Cells and rows of round ``number``: for each worker, those of a range of its cells."""
        bounds = self.exchange.bounds.tolist()
        # Numbers of rounds ascend over a worker's cells, so a round has one range of them.
        ranges = [
            first + np.searchsorted(self.round_of[first:last], [number, number + 1])
            for first, last in pairwise(bounds)
        ]
        ends = np.searchsorted(pairs.cell, np.concatenate(ranges))
        chosen = [slice(first, last) for first, last in ends.reshape(-1, 2).tolist()]
        return (
            np.concatenate([pairs.cell[range_] for range_ in chosen]),
            np.concatenate([pairs.row[range_] for range_ in chosen]),
        )


def learn_cells(units: ItemUnits, seed: int) -> Cells:
    """Learn the cells of a catalogue (collective)."""
    exchange = units.homes.items
    cells = number_of_cells(units.total)
    hashed = mix((units.present + exchange.first).astype(np.uint64) ^ salt(seed, 5))
    sampled = units.present[hashed < min(1.0, cells * _SAMPLE / units.total) * (2.0**64 - 2**11)]
    # The first means are the items of the smallest hashes: a random choice, the same for any workers.
    first = units.present[smallest(exchange, hashed, cells)]
    means = gather(exchange, units.vectors(first))
    for _ in range(_ROUNDS):
        sums = np.zeros(means.shape, np.int64)
        for block in units.homes.blocks():
            rows = sampled[slice(*np.searchsorted(sampled, [block.start, block.stop]))]
            if len(rows):
                vectors = units.vectors(rows)
                cell = _nearest_cells(vectors, means, 1)[:, 0]
                order = np.argsort(cell, kind="stable")
                numbers, starts = np.unique(cell[order], return_index=True)
                # Sums of floats depend on their order, so on the number of workers; sums of integers do not.
                fixed = np.rint(vectors[order] * _FIXED).astype(np.int64)
                sums[numbers] += np.add.reduceat(fixed, starts, axis=0)
        means = _directions(total(exchange, sums), means)
    return Cells(means, exchange, units.total)


def assign_cells(units: ItemUnits, cells: Cells) -> tuple[_Pairs, _Pairs]:
    """The cell that each item is in, and the cells that it looks into (collective).

    A cell with many items is split, and who looks into it looks into one piece; so no item is compared with
    more than a constant number of cells of bounded size.
    """
    exchange, probes = units.homes.items, min(PROBED, len(cells.means))
    probed = np.empty((len(units.present), probes), np.int64)
    done = 0
    for block in units.homes.blocks():
        rows, vectors = units.of(block)
        if len(rows):
            probed[done : done + len(rows)] = _nearest_cells(vectors, cells.means, probes)
        done += len(rows)
    sizes = total(exchange, np.bincount(probed[:, 0], minlength=len(cells.means)))
    most = max(1, _SPLIT * units.total // len(cells.means))
    pieces = np.maximum(-(-sizes // most), 1)
    first = np.cumsum(pieces) - pieces
    # By the item's index, so that an item's piece of a split cell is the same whoever holds the item.
    draw = (mix((units.present + exchange.first).astype(np.uint64)) >> np.uint64(33)).astype(np.int64)
    probed = first[probed] + draw[:, None] % pieces[probed]
    count = int(pieces.sum())
    looked = np.repeat(units.present, probes)
    return _sorted(probed[:, 0], units.present, count), _sorted(probed.reshape(-1), looked, count)


def _sorted(cell: np.ndarray, row: np.ndarray, cells: int) -> _Pairs:
    # Stable, so that rows, which ascend, still do so within a cell.
    order = np.argsort(cell, kind="stable")
    return _Pairs(cell[order], row[order], cells)


def _nearest_cells(vectors: np.ndarray, means: np.ndarray, count: int) -> np.ndarray:
    """[n, count] numbers of the nearest cells, the nearest first."""
    import faiss

    _, cell = faiss.knn(vectors, means, count, metric=faiss.METRIC_INNER_PRODUCT)
    return np.asarray(cell, np.int64)


def _directions(sums: np.ndarray, before: np.ndarray) -> np.ndarray:
    """[C, F] float32 of unit length; a cell without rows keeps its mean."""
    length = np.linalg.norm(sums.astype(np.float64), axis=1, keepdims=True)
    # Sums are integers, so a length is 0 or at least 1.
    return np.where(length > 0, sums / np.maximum(length, 1.0), before).astype(np.float32)
