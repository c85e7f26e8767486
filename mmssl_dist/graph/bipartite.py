"""The training interactions as neighbour lists, of users and of items, by dataset index."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp


@dataclass(frozen=True)
class Lists:
    """Ragged rows: row r holds values[indptr[r]:indptr[r + 1]], ascending and each once. indptr is int64."""

    indptr: np.ndarray
    values: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """[rows] int64."""
        return np.diff(self.indptr)

    def take(self, rows: np.ndarray) -> Lists:
        """The rows asked for, in that order."""
        lengths = self.lengths[rows]
        indptr = offsets(lengths)
        # All entries in one gather: for each row the distance from its place in the result to its place here.
        positions = np.arange(indptr[-1]) + np.repeat(self.indptr[rows] - indptr[:-1], lengths)
        return Lists(indptr, self.values[positions])


@dataclass(frozen=True)
class Bipartite:
    """Neighbours of each user (items) and of each item (users)."""

    of_user: Lists
    of_item: Lists

    @property
    def users(self) -> int:
        """Number of users."""
        return len(self.of_user.indptr) - 1

    @property
    def items(self) -> int:
        """Number of items."""
        return len(self.of_item.indptr) - 1

    @property
    def interactions(self) -> int:
        """Number of interactions."""
        return len(self.of_user.values)

    @property
    def degrees(self) -> np.ndarray:
        """[users + items] int64: users first."""
        return np.concatenate([self.of_user.lengths, self.of_item.lengths])


def degree_counts(degrees: np.ndarray) -> list[list[int]]:
    """How degrees are distributed: [number of nodes, sum of their degrees] of those below 1, 2, 4, 8, ..."""
    bucket = np.frexp(degrees.astype(np.float64))[1]  # 0 for 0, b for 2^(b-1) <= degree < 2^b
    nodes = np.bincount(bucket)
    return [[int(n), int(total)] for n, total in zip(nodes, np.bincount(bucket, degrees), strict=True)]


def offsets(lengths: np.ndarray) -> np.ndarray:
    """[rows + 1] int64 row starts, then the total."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def lists(rows: np.ndarray, values: np.ndarray, shape: tuple[int, int]) -> Lists:
    """Ragged rows from pairs in any order; pairs given twice count once."""
    return _from_matrix(_matrix(rows, values, shape))


def bipartite(users: np.ndarray, items: np.ndarray, shape: tuple[int, int]) -> Bipartite:
    """The graph of ``users[k]`` with ``items[k]``; ``shape`` is (number of users, number of items)."""
    matrix = _matrix(users, items, shape)
    return Bipartite(_from_matrix(matrix), _from_matrix(sp.csr_array(matrix.T)))


def _matrix(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> sp.csr_array:
    # The conversion adds up duplicates; the values are never read, so the smallest type is enough.
    return sp.csr_array(sp.coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=shape))


def _from_matrix(matrix: sp.csr_array) -> Lists:
    # scipy leaves a row's columns in the order of the pairs, and lists promise ascending ones.
    matrix.sort_indices()
    return Lists(matrix.indptr.astype(np.int64), matrix.indices)
