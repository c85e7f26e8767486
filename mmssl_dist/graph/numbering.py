"""Node ids: part after part, users before items, and within each in the order of the dataset."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.exchange.worker import Worker
from mmssl_dist.graph.homes import Homes
from mmssl_dist.graph.partition_book import PartitionBook
from mmssl_dist.graph.transfer import gather, id_type, send_to_owners


@dataclass(frozen=True)
class Numbering:
    """Both numberings of this worker's nodes.

    Attributes:
        book: the partition book. owner: exchange over node ids.
        of_users, of_items: node ids of the users and items at home here, by dataset index.
    """

    book: PartitionBook
    owner: Exchange
    of_users: np.ndarray
    of_items: np.ndarray

    @property
    def parts(self) -> range:
        """The parts this worker owns."""
        return self.book.worker_parts(self.owner.rank, self.owner.world_size)


def number_nodes(
    worker: Worker, homes: Homes, of_users: np.ndarray, of_items: np.ndarray, parts: int
) -> Numbering:
    """Number the nodes by counts of each part and their prefix sums (collective).

    Args:
        of_users, of_items: the part of each user and item at home here.
    """
    sides = [(homes.users, of_users), (homes.items, of_items)]
    counts = [gather(side, np.bincount(part, minlength=parts)[None]) for side, part in sides]  # [W, P]
    book = PartitionBook(*(tuple(count.sum(0).tolist()) for count in counts))
    starts = (book.bounds[:-1], book.bounds[:-1] + np.asarray(book.users, np.int64))
    nodes = []
    for (side, part), count, start in zip(sides, counts, starts, strict=True):
        # This worker's nodes of a part follow those of the workers before it, in the dataset's order.
        first = start + count[: side.rank].sum(0)
        # Stable: nodes of a part keep the order of the dataset.
        order = np.argsort(part, kind="stable")
        own = count[side.rank]
        node = np.empty(len(part), id_type(book.num_nodes))
        node[order] = np.arange(len(part)) + np.repeat(first - (np.cumsum(own) - own), own)
        nodes.append(node)
    return Numbering(book, owner_exchange(worker, book), *nodes)


def owner_exchange(worker: Worker, book: PartitionBook) -> Exchange:
    """The exchange over node ids between the owners of the parts."""
    return Exchange(worker.group, book.worker_bounds(worker.world_size), worker.rank)


def numbering_of_items(
    worker: Worker, homes: Homes, book: PartitionBook, nodes: np.ndarray, items: np.ndarray
) -> Numbering:
    """The numbering as an earlier start left it, without users (collective).

    Args:
        nodes: [n] node ids of this worker's items. items: [n] their dataset indices.
    """
    index, node = send_to_owners(homes.items, items, nodes)
    of_items = np.empty(homes.items.rows, id_type(book.num_nodes))
    of_items[index - homes.items.first] = node
    return Numbering(book, owner_exchange(worker, book), np.empty(0, of_items.dtype), of_items)


def nodes_of(book: PartitionBook, parts: range) -> tuple[np.ndarray, np.ndarray]:
    """Node ids of the users and of the items of ``parts``, each ascending."""
    empty = [np.empty(0, np.int64)]
    users = np.concatenate(empty + [np.arange(*book.user_range(part)) for part in parts])
    items = np.concatenate(empty + [np.arange(*book.item_range(part)) for part in parts])
    return users, items
