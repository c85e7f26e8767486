"""The neighbour lists of the parts that a worker owns, by node id: made from interactions, or as an earlier
start published them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.graph import names
from mmssl_dist.graph.bipartite import Lists, degree_counts, offsets
from mmssl_dist.graph.homes import Homes, sorted_lists
from mmssl_dist.graph.numbering import Numbering, nodes_of
from mmssl_dist.graph.partition_book import PartitionBook
from mmssl_dist.graph.transfer import id_type, lookup, send_to_owners, total
from mmssl_dist.storage import Location, Manifest

_DEGREE_CLASSES = 64  # powers of two up to any int64: one shape on all workers, to be summed


@dataclass(frozen=True, kw_only=True)
class OwnLists:
    """Lists of the users and of the items of a worker's parts.

    Attributes:
        owner: exchange over node ids. book: the partition book.
        users, items: node ids, ascending. of_users, of_items: their neighbours' node ids.
    """

    owner: Exchange
    book: PartitionBook
    users: np.ndarray
    items: np.ndarray
    of_users: Lists
    of_items: Lists

    @property
    def parts(self) -> range:
        return self.book.worker_parts(self.owner.rank, self.owner.world_size)

    def user_rows(self, part: int) -> slice:
        """Rows of ``of_users`` of the users of ``part``."""
        return _rows(self.users, self.book.user_range(part))

    def item_rows(self, part: int) -> slice:
        """Rows of ``of_items`` of the items of ``part``."""
        return _rows(self.items, self.book.item_range(part))

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """float32 of each entry of ``of_users`` and of ``of_items``: 1 / sqrt(degree of the row * degree of
        the neighbour) (collective)."""
        # Users and items together are all of the rows, so none stays unset.
        degrees = np.empty(self.owner.rows, np.int64)
        degrees[self.users - self.owner.first] = self.of_users.lengths
        degrees[self.items - self.owner.first] = self.of_items.lengths
        of_users, of_items = (
            _weights(self.owner, degrees, lists) for lists in (self.of_users, self.of_items)
        )
        return of_users, of_items

    def facts(self) -> dict[str, object]:
        """How the graph is cut and how degrees are distributed, of all workers' parts (collective)."""
        parts = self.book.parts
        between = np.zeros((parts, parts), np.int64)
        edges = np.zeros(parts, np.int64)
        for part in self.parts:
            lists = slice_of(self.of_users, self.user_rows(part))
            # A node id says which part it is in, so no message is needed to count crossing edges.
            other = np.searchsorted(self.book.bounds, lists.values, side="right") - 1
            between[part] = np.bincount(other, minlength=parts)
            edges[part] = len(lists.values) + len(slice_of(self.of_items, self.item_rows(part)).values)
        between, edges = total(self.owner, between), total(self.owner, edges)
        interactions = int(between.sum())
        cold = total(self.owner, np.array([(self.of_items.lengths == 0).sum()]))
        by_workers = [_crossing(between, self.book, workers) for workers in range(1, parts + 1)]
        return {
            "book": {"users": list(self.book.users), "items": list(self.book.items)},
            "edges": 2 * interactions,  # each interaction is in its user's list and in its item's
            "edge_cut": by_workers[-1],
            "edge_cut_of_workers": by_workers,  # for 1, 2, ... P of them
            "degrees": {
                "users": self._degree_counts(self.of_users),
                "items": self._degree_counts(self.of_items),
            },
            "balance": {  # largest part over the mean part
                "users": unevenness(np.asarray(self.book.users)),
                "items": unevenness(np.asarray(self.book.items)),
                "edges": unevenness(edges),
            },
            "cold_items": int(cold[0]),
        }

    def _degree_counts(self, lists: Lists) -> list[list[int]]:
        table = np.zeros((_DEGREE_CLASSES, 2), np.int64)
        counts = degree_counts(lists.lengths)
        table[: len(counts)] = counts or np.zeros((0, 2), np.int64)
        table = total(self.owner, table)
        return [
            [int(n), int(sum_)] for n, sum_ in table[: int(np.flatnonzero(table[:, 0]).max(initial=-1)) + 1]
        ]


def numbered(
    homes: Homes, numbering: Numbering, users: np.ndarray, items: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Node ids of users and items, which may be at home anywhere (collective)."""
    return (
        lookup(homes.users, numbering.of_users, users),
        lookup(homes.items, numbering.of_items, items),
    )


def own_lists(numbering: Numbering, users: np.ndarray, items: np.ndarray) -> OwnLists:
    """The lists of this worker's parts (collective).

    Args:
        users, items: node ids of interactions, those of all workers together each once.
    """
    own_users, own_items = nodes_of(numbering.book, numbering.parts)
    return OwnLists(
        owner=numbering.owner,
        book=numbering.book,
        users=own_users,
        items=own_items,
        of_users=lists_of_owned(numbering, own_users, users, items),
        of_items=lists_of_owned(numbering, own_items, items, users),
    )


def lists_of_owned(numbering: Numbering, own: np.ndarray, rows: np.ndarray, values: np.ndarray) -> Lists:
    """Lists of this worker's ``own`` nodes from pairs of node ids held anywhere (collective)."""
    rows, values = send_to_owners(numbering.owner, rows, values)
    return sorted_lists(
        row=position_of(numbering.owner, own)[rows - numbering.owner.first],
        value=values,
        rows=len(own),
        values=numbering.book.num_nodes,
    )


def load_own_lists(
    owner: Exchange, book: PartitionBook, location: Location, manifest: Manifest, cache: Path
) -> OwnLists:
    """The lists of this worker's parts as they were written.

    Args:
        manifest: with the records of the parts' files.
    """
    users, items = nodes_of(book, book.worker_parts(owner.rank, owner.world_size))
    sides: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    lengths: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for part in book.worker_parts(owner.rank, owner.world_size):
        indptr, values = (
            np.load(
                (location / name).localize(cache, manifest.files[name]), mmap_mode="r", allow_pickle=False
            )
            for name in (f"{names.part_folder(part)}/{file}" for file in (names.INDPTR, names.NEIGHBOURS))
        )
        # A part's file has the lists of its users first, then those of its items.
        middle, dtype = book.users[part], id_type(book.num_nodes)
        for side, ends in enumerate((indptr[: middle + 1], indptr[middle:])):
            sides[side].append(values[ends[0] : ends[-1]].astype(dtype))
            lengths[side].append(np.diff(ends))
    of_users, of_items = (
        Lists(offsets(np.concatenate(length)), np.concatenate(values))
        for length, values in zip(lengths, sides, strict=True)
    )
    return OwnLists(owner=owner, book=book, users=users, items=items, of_users=of_users, of_items=of_items)


def position_of(owner: Exchange, own: np.ndarray) -> np.ndarray:
    """[owner.rows] int64: position of each of this worker's nodes among its ``own``; -1 elsewhere."""
    position = np.full(owner.rows, -1, np.int64)
    position[own - owner.first] = np.arange(len(own))
    return position


def slice_of(lists: Lists, rows: slice) -> Lists:
    """Neighbouring rows of ``lists``."""
    indptr = lists.indptr[rows.start : rows.stop + 1]
    return Lists(indptr - indptr[0], lists.values[indptr[0] : indptr[-1]])


def unevenness(amounts: np.ndarray) -> float:
    """Largest over mean; 1 is even."""
    return float(amounts.max() / amounts.mean()) if amounts.sum() else 1.0


def _rows(nodes: np.ndarray, range_: tuple[int, int]) -> slice:
    first, last = np.searchsorted(nodes, range_).tolist()
    return slice(first, last)


def _weights(owner: Exchange, degrees: np.ndarray, lists: Lists) -> np.ndarray:
    root = np.sqrt(lookup(owner, degrees, lists.values))
    root *= np.repeat(np.sqrt(lists.lengths), lists.lengths)
    return np.asarray(1.0 / root, np.float32)


def _crossing(between: np.ndarray, book: PartitionBook, workers: int) -> float:
    """Fraction of the interactions whose user and item are held by different ones of ``workers``.

    Args:
        between: [P, P] interactions of users of one part with items of another.
    """
    interactions = int(between.sum())
    if not interactions:
        return 0.0
    held = [book.worker_parts(rank, workers) for rank in range(workers)]
    within = sum(int(between[own.start : own.stop, own.start : own.stop].sum()) for own in held)
    return 1.0 - within / interactions
