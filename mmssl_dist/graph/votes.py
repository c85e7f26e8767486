"""The lists of one side, ready to be asked what their neighbours say: which labels, and how often."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mmssl_dist.data.ids import mix, salt
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.graph.bipartite import Lists
from mmssl_dist.graph.transfer import id_type, tensor

SUB_ROUNDS = 32
"""Of a round, by a hash of the index. Loads are brought up to date between them, and who moves together does
not depend on how many workers there are."""
_CHUNK_EDGES = 1 << 22  # looked at together; bounds memory
_WEIGHT_BITS = 8


@dataclass(frozen=True)
class Votes:
    """What rows hear: ``total`` [n] int64 for ``label`` [n] int64 in ``row`` [n] int64, by row and label."""

    row: np.ndarray
    label: np.ndarray
    total: np.ndarray


class VotingSide:
    """The rows of one side at home here, sub-round by sub-round (collective).

    Args:
        own: exchange over the rows' indices. other: over the neighbours'.
        lists: [own.rows] neighbours' indices.

    Attributes:
        index: [rows] int64 the rows' indices, in the order of the sub-rounds; so are ``lengths``.
        bounds: [SUB_ROUNDS + 1] where each sub-round's rows begin.
    """

    def __init__(self, own: Exchange, other: Exchange, lists: Lists, seed: int, purpose: int) -> None:
        self.own, self.other = own, other
        index = np.arange(own.first, own.first + own.rows)
        draw = mix(index.astype(np.uint64) ^ salt(seed, purpose)) % np.uint64(SUB_ROUNDS)
        order = np.argsort(draw, kind="stable")
        self.index = index[order]
        self.bounds = np.searchsorted(draw[order], np.arange(SUB_ROUNDS + 1)).tolist()
        taken = lists.take(order)
        self.indptr, self.lengths = taken.indptr, taken.lengths
        nodes = np.unique(taken.values)
        self.route = other.route(tensor(nodes.astype(np.int64)))
        self.columns = np.empty(len(taken.values), id_type(len(nodes) + 1))
        for first in range(0, len(taken.values), _CHUNK_EDGES):
            piece = slice(first, first + _CHUNK_EDGES)
            self.columns[piece] = np.searchsorted(nodes, taken.values[piece])

    @property
    def rows(self) -> np.ndarray:
        """[rows] int64 the rows' places among those at home here."""
        return self.index - self.own.first

    def fetch(self, table: np.ndarray) -> np.ndarray:
        """Of each distinct neighbour its entry in a table over the other side (collective)."""
        return self.other.fetch(self.route, tensor(table).index_select(0, self.route.requested)).numpy()

    def votes(
        self, sub_round: int, labels: np.ndarray, weights: np.ndarray | None = None
    ) -> Iterator[tuple[slice, Votes]]:
        """What the rows of a sub-round hear, some rows at a time: their range, and votes with rows from 0.

        Args:
            labels: int64 of each distinct neighbour, -1 where it has no say. weights: 1 to 255 of each.
        """
        first, end = self.bounds[sub_round], self.bounds[sub_round + 1]
        while first < end:
            limit = int(self.indptr[first]) + _CHUNK_EDGES
            last = int(np.searchsorted(self.indptr, limit, side="right")) - 1
            last = max(first + 1, min(last, end, first + _CHUNK_EDGES))
            columns = self.columns[self.indptr[first] : self.indptr[last]]
            row = np.repeat(np.arange(last - first), self.lengths[first:last])
            weight = None if weights is None else weights[columns]
            yield slice(first, last), _counted(row, labels[columns], weight)
            first = last


def best_labels(votes: Votes, rows: int, names: np.ndarray | None = None) -> np.ndarray:
    """[rows] int64: the label with the largest total of each row, -1 where it hears none; of equal ones a
    hash of the label's name decides.

    Args:
        names: int64 of each label, the same on all workers; by default the labels themselves.
    """
    result = np.full(rows, -1, np.int64)
    if len(votes.row):
        named = votes.label if names is None else names[votes.label]
        hashed = (mix(named.astype(np.uint64)) >> np.uint64(32)).astype(np.int64)
        rank = (np.minimum(votes.total, 2**31 - 1) << 32) | hashed
        winner = first_largest(votes.row, rank)
        result[votes.row[winner]] = votes.label[winner]
    return result


def first_largest(row: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Positions of each row's largest value, the first of equal ones.

    Args:
        row: [n > 0] ascending. value: [n].
    """
    starts = np.flatnonzero(np.diff(row, prepend=-1))
    largest = np.maximum.reduceat(value, starts)
    equal = np.flatnonzero(value == np.repeat(largest, np.diff(np.append(starts, len(row)))))
    return equal[np.flatnonzero(np.diff(row[equal], prepend=-1))]


def _counted(row: np.ndarray, label: np.ndarray, weight: np.ndarray | None) -> Votes:
    """Votes of (row, label) pairs, by sorting them as one integer."""
    heard = label >= 0
    if not heard.all():
        row, label = row[heard], label[heard]
        weight = None if weight is None else weight[heard]
    width = int(label.max(initial=0)).bit_length()
    key = (row << (width + _WEIGHT_BITS)) | (label.astype(np.int64) << _WEIGHT_BITS)
    key |= 1 if weight is None else weight
    key.sort()
    pair = key >> _WEIGHT_BITS
    starts = np.flatnonzero(np.diff(pair, prepend=-1))
    key &= (1 << _WEIGHT_BITS) - 1
    total = np.add.reduceat(key, starts) if len(key) else key
    pair = pair[starts]
    return Votes(pair >> width, pair & ((1 << width) - 1), total)
