"""Where nodes are before they belong to a part: the home of a user or item is a worker with a contiguous
range of dataset indices, much as prepare's buckets numbered them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.exchange.worker import Worker
from mmssl_dist.graph.bipartite import Lists, offsets
from mmssl_dist.graph.transfer import gather, id_type, send_to_owners

_BLOCK_ITEMS = 4096
_LEAST_BLOCKS = 16  # a small catalogue is still shared out


@dataclass(frozen=True)
class Homes:
    """Exchanges over dataset indices.

    Attributes:
        users, items: of each side. block: items whose features are summed and compared together. A block is
            within one worker, and what is computed of it never depends on how many workers there are.
    """

    users: Exchange
    items: Exchange
    block: int

    def blocks(self) -> Iterator[slice]:
        """This worker's blocks, as ranges of its own items."""
        return (
            slice(first, min(first + self.block, self.items.rows))
            for first in range(0, self.items.rows, self.block)
        )


def homes(worker: Worker, users: int, items: int) -> Homes:
    """The homes of so many users and items."""
    size = worker.world_size
    # Derived from the catalogue alone: blocks are the units of summation, and must not depend on the workers.
    block = max(1, min(_BLOCK_ITEMS, -(-items // _LEAST_BLOCKS)))
    blocks = -(-items // block)
    shares = np.arange(size + 1, dtype=np.int64)
    return Homes(
        users=Exchange(worker.group, shares * users // size, worker.rank),
        items=Exchange(worker.group, np.minimum(shares * blocks // size * block, items), worker.rank),
        block=block,
    )


def lists_at_home(rows: Exchange, others: int, row: np.ndarray, value: np.ndarray) -> Lists:
    """The lists of this worker's rows, ascending and each value once, of pairs held anywhere (collective).

    Args:
        rows: exchange over the rows' indices. others: number of values. row, value: [n] of each pair.
    """
    row, value = send_to_owners(rows, row, value)
    return sorted_lists(row - rows.first, value, rows.rows, others)


def sorted_lists(row: np.ndarray, value: np.ndarray, rows: int, values: int) -> Lists:
    """Lists of ``rows`` rows from pairs in any order, of which each counts once.

    Args:
        row: [n] below ``rows``. value: [n] below ``values``, which is at most 2^32.
    """
    assert values <= 2**32
    # Row and value in one integer: one sort of int64 is several times as fast as a lexsort of two arrays.
    key = row.astype(np.int64) << 32
    key |= value
    key.sort()
    if len(key):
        fresh = np.empty(len(key), bool)
        fresh[0] = True
        np.not_equal(key[1:], key[:-1], out=fresh[1:])
        if not fresh.all():
            key = key[fresh]
    lengths = np.bincount(key >> 32, minlength=rows)
    key &= 0xFFFFFFFF
    return Lists(offsets(lengths), key.astype(id_type(values)))


def sum_over_blocks(exchange: Exchange, of_blocks: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """The float64 sum of what the workers' blocks come to, block after block whoever holds them
    (collective).

    Args:
        of_blocks: float64 ``shape`` of each of this worker's blocks.
    """
    own = np.stack(of_blocks) if of_blocks else np.zeros((0, *shape))
    # Gathered first and summed in block order: an all-reduce of floats would depend on who holds which.
    return np.asarray(gather(exchange, own).sum(0))


def interactions_of(homes: Homes, of_item: Lists) -> tuple[np.ndarray, np.ndarray]:
    """User and item of each entry of the lists of the items at home here, by dataset index."""
    first, items = homes.items.first, int(homes.items.bounds[-1])
    own = np.arange(first, first + homes.items.rows, dtype=id_type(items))
    return of_item.values, np.repeat(own, of_item.lengths)
