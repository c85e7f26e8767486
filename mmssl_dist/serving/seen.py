"""Who interacted with what in training, by the places of the export: read from the partitions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmssl_dist.graph import names
from mmssl_dist.graph.partition_book import PartitionBook
from mmssl_dist.graph.partition_files import read_book
from mmssl_dist.serving.artifact import Artifact


@dataclass(frozen=True)
class SeenItems:
    """Items of each user of one split.

    Attributes:
        indptr: int64 [U + 1], where each user's items begin in ``items``.
        items: int64 places of items, ascending within a user.
    """

    indptr: np.ndarray
    items: np.ndarray

    def of(self, user: int) -> np.ndarray:
        """Places of the items of the user at a place."""
        return self.items[self.indptr[user] : self.indptr[user + 1]]


def read_seen(partitions: Artifact) -> SeenItems:
    """The training interactions.

    Raises:
        ArtifactError: a file is not what the manifest says.
    """
    return _read(partitions, names.INDPTR, names.NEIGHBOURS)


def read_held_out(partitions: Artifact, split: str) -> SeenItems:
    """The interactions held out for "validation" or "test"; raises as ``read_seen`` does."""
    return _read(partitions, *names.held_out(split))


def _read(partitions: Artifact, indptr_name: str, items_name: str) -> SeenItems:
    book = read_book(partitions.manifest)
    lengths, nodes = [], []
    for part in range(book.parts):
        folder = names.part_folder(part)
        # Users come before items.
        indptr = _array(partitions, f"{folder}/{indptr_name}")[: book.users[part] + 1]
        # Each part's row starts begin at 0, so lengths are joined and summed up anew.
        lengths.append(np.diff(indptr))
        nodes.append(_array(partitions, f"{folder}/{items_name}")[: indptr[-1]])
    return SeenItems(
        np.concatenate([[0], np.concatenate(lengths).cumsum()]), places_of(book, np.concatenate(nodes))
    )


def _array(partitions: Artifact, name: str) -> np.ndarray:
    loaded: np.ndarray = np.load(partitions.path(name), mmap_mode="r", allow_pickle=False)
    return loaded


def places_of(book: PartitionBook, nodes: np.ndarray) -> np.ndarray:
    """Places of item nodes: their rank among the items, in node order."""
    part = np.searchsorted(book.bounds, nodes, side="right") - 1
    starts = np.concatenate([[0], np.cumsum(book.items)])
    first = book.bounds[1:] - np.asarray(book.items, np.int64)
    return np.asarray(starts[part] + nodes - first[part], np.int64)
