"""Partition book: which ids are whose. Nodes are numbered partition by partition, users before items, so a
partition, and a worker with several neighbouring partitions, owns one contiguous range of node ids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PartitionBook:
    """Users and items of each of P partitions.

    Node id n belongs to partition p when bounds[p] <= n < bounds[p + 1]; it is a user when
    n - bounds[p] < users[p], else an item.
    """

    users: tuple[int, ...]
    items: tuple[int, ...]

    @property
    def parts(self) -> int:
        """P."""
        return len(self.users)

    @property
    def bounds(self) -> np.ndarray:
        """[P + 1] int64, first node id of each partition, then the number of nodes."""
        sizes = np.asarray(self.users, np.int64) + np.asarray(self.items, np.int64)
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    @property
    def num_users(self) -> int:
        """U."""
        return sum(self.users)

    @property
    def num_items(self) -> int:
        """I."""
        return sum(self.items)

    @property
    def num_nodes(self) -> int:
        """U + I."""
        return self.num_users + self.num_items

    def user_range(self, part: int) -> tuple[int, int]:
        """Node ids [first, last) of the users of ``part``."""
        first = int(self.bounds[part])
        return first, first + self.users[part]

    def item_range(self, part: int) -> tuple[int, int]:
        """Node ids [first, last) of the items of ``part``."""
        last = int(self.bounds[part + 1])
        return last - self.items[part], last

    def is_item(self, nodes: np.ndarray) -> np.ndarray:
        """Whether each of the node ids is an item's: bool, of their shape."""
        part = np.searchsorted(self.bounds, nodes, side="right") - 1
        return np.asarray(nodes - self.bounds[part] >= np.asarray(self.users, np.int64)[part], bool)

    def item_nodes(self, ranks: np.ndarray) -> np.ndarray:
        """Node ids of items given by their rank 0..num_items - 1 in node order; makes a uniform draw of
        items."""
        starts = np.concatenate([[0], np.cumsum(self.items)]).astype(np.int64)
        part = np.searchsorted(starts, ranks, side="right") - 1
        first = self.bounds[1:] - np.asarray(self.items, np.int64)
        return np.asarray(first[part] + (ranks - starts[part]), np.int64)

    def worker_parts(self, rank: int, world_size: int) -> range:
        """Partitions of worker ``rank`` of ``world_size``: neighbouring ones, as even in number as can be."""
        return range(rank * self.parts // world_size, (rank + 1) * self.parts // world_size)

    def worker_bounds(self, world_size: int) -> np.ndarray:
        """[W + 1] int64, first node id of each worker, then the number of nodes."""
        starts = [rank * self.parts // world_size for rank in range(world_size + 1)]
        return np.asarray(self.bounds[starts], np.int64)
