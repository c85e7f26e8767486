"""Who interacted with what, by the places of the export: mapped from the partitions, so that only the lists
that are looked at are read into memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from mmssl_dist.config.training_sections import Excluded
from mmssl_dist.data.columns import HELD_OUT
from mmssl_dist.graph import names
from mmssl_dist.graph.partition_book import PartitionBook
from mmssl_dist.graph.partition_files import read_book
from mmssl_dist.serving.artifact import Artifact
from mmssl_dist.serving.item_search import lists_of


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


class KnownItems:
    """Items of each user in several splits together.

    Args:
        splits: of one partitions artifact. places: of its items.
    """

    def __init__(self, splits: Sequence[SeenItems], places: ItemPlaces) -> None:
        self._splits, self._places = splits, places

    def of(self, user: int) -> np.ndarray:
        """Places of the items of the user at a place, ascending."""
        items = [split.of(user) for split in self._splits]
        return items[0] if len(items) == 1 else np.unique(np.concatenate(items))

    def of_users(self, part: int, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(indptr [n + 1], places of items, ascending within a user) of some users of a partition, given by
        their rows in it."""
        lists = [lists_of(split.of_part(part), users) for split in self._splits]
        nodes = np.concatenate([nodes for _, nodes in lists])
        owners = np.concatenate([np.repeat(np.arange(len(users)), np.diff(indptr)) for indptr, _ in lists])
        # Places ascend with nodes.
        return np.sum([indptr for indptr, _ in lists], 0), self._places.of(nodes[np.lexsort((nodes, owners))])

    def open_part(self, part: int) -> None:
        """Open the files of a partition, which are otherwise opened when first needed."""
        for split in self._splits:
            split.of_part(part)


def read_known(partitions: Artifact, exclude: Excluded, training: SeenItems | None = None) -> KnownItems:
    """What lists leave out by ``export.exclude``.

    Args:
        training: ``read_seen`` of the same partitions, where it is open already.
    """
    seen = read_seen(partitions) if training is None else training
    held_out = [read_held_out(partitions, split) for split in HELD_OUT] if exclude == "known" else []
    return KnownItems([seen, *held_out], ItemPlaces(read_book(partitions.manifest)))


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
