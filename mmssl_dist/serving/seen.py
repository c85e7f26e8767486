"""Who interacted with what in training, by the places of the export: mapped from the partitions, so that only
the lists that are looked at are read into memory."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from mmssl_dist.graph import names
from mmssl_dist.graph.partition_book import PartitionBook
from mmssl_dist.graph.partition_files import read_book
from mmssl_dist.serving.artifact import Artifact


class SeenItems:
    """Items of each user of one split.

    Args:
        partitions: the artifact. indptr, items: names of the arrays in each partition's folder.
    """

    def __init__(self, partitions: Artifact, indptr: str, items: str) -> None:
        self._partitions, self._names = partitions, (indptr, items)
        self._book = read_book(partitions.manifest)
        self._places = ItemPlaces(self._book)
        self._starts = np.concatenate([[0], np.cumsum(self._book.users)]).astype(np.int64)
        self._opened: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def of(self, user: int) -> np.ndarray:
        """Places of the items of the user at a place, ascending."""
        part = int(np.searchsorted(self._starts, user, side="right")) - 1
        indptr, nodes = self._part(part)
        row = user - int(self._starts[part])
        return self._places.of(np.asarray(nodes[indptr[row] : indptr[row + 1]]))

    def of_part(self, part: int) -> tuple[np.ndarray, np.ndarray]:
        """(indptr [users + 1] int64, node ids [...] of items) of a partition's users, mapped."""
        indptr, nodes = self._part(part)
        return indptr[: self._book.users[part] + 1], nodes

    @cached_property
    def user_degrees(self) -> np.ndarray:
        """int64 [U], items of each user."""
        return np.concatenate([np.diff(self.of_part(part)[0]) for part in range(self._book.parts)])

    @cached_property
    def item_degrees(self) -> np.ndarray:
        """int64 [I], users of each item, by place: of training alone, whose partitions list both sides."""
        # Items come after users.
        return np.concatenate(
            [np.diff(self._part(part)[0][self._book.users[part] :]) for part in range(self._book.parts)]
        )

    def _part(self, part: int) -> tuple[np.ndarray, np.ndarray]:
        if part not in self._opened:
            indptr, items = (
                _array(self._partitions, f"{names.part_folder(part)}/{name}") for name in self._names
            )
            self._opened[part] = indptr, items
        return self._opened[part]


def read_seen(partitions: Artifact) -> SeenItems:
    """The training interactions; files are opened, and checked against the manifest, when first needed."""
    return SeenItems(partitions, names.INDPTR, names.NEIGHBOURS)


def read_held_out(partitions: Artifact, split: str) -> SeenItems:
    """The interactions held out for "validation" or "test"."""
    return SeenItems(partitions, *names.held_out(split))


class ItemPlaces:
    """Places of item nodes: their rank among the items, in node order."""

    def __init__(self, book: PartitionBook) -> None:
        self._bounds = book.bounds
        items = np.asarray(book.items, np.int64)
        # Items of earlier partitions, less the node id of the first item of this one.
        self._offsets = np.cumsum(items) - items - (self._bounds[1:] - items)

    def of(self, nodes: np.ndarray) -> np.ndarray:
        """int64, of the shape of ``nodes``."""
        part = np.searchsorted(self._bounds, nodes, side="right") - 1
        return np.asarray(nodes + self._offsets[part], np.int64)


def places_of(book: PartitionBook, nodes: np.ndarray) -> np.ndarray:
    """As ``ItemPlaces``, once."""
    return ItemPlaces(book).of(nodes)


def _array(partitions: Artifact, name: str) -> np.ndarray:
    loaded: np.ndarray = np.load(partitions.path(name), mmap_mode="r", allow_pickle=False)
    return loaded
