"""The lists of one side, ready to be asked what their neighbours say: which labels, and how often."""

from __future__ import annotations

import numpy as np

from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.graph.bipartite import Lists
from mmssl_dist.graph.distinct import distinct_ids
from mmssl_dist.graph.transfer import tensor
from mmssl_dist.kernels.splitmix import mix, salt
from mmssl_dist.kernels.votes import best_labels, wishes

SUB_ROUNDS = 32
"""Of a round, by a hash of the index. Loads are brought up to date between them, and who moves together does
not depend on how many workers there are."""


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
        # Stable, so that rows of one sub-round stay in the order of their indices.
        order = np.argsort(draw, kind="stable")
        self.index = index[order]
        self.bounds = np.searchsorted(draw[order], np.arange(SUB_ROUNDS + 1)).tolist()
        taken = lists.take(order)
        self.indptr, self.lengths = taken.indptr, taken.lengths
        # Asked for once and for all rounds: only what neighbours say changes, never who they are.
        nodes, self.columns = distinct_ids(taken.values, int(other.bounds[-1]))
        self.route = other.route(tensor(nodes))

    @property
    def rows(self) -> np.ndarray:
        """[rows] int64 the rows' places among those at home here."""
        return self.index - self.own.first

    def fetch(self, table: np.ndarray) -> np.ndarray:
        """Of each distinct neighbour its entry in a table over the other side (collective)."""
        return self.other.fetch(self.route, tensor(table).index_select(0, self.route.requested)).numpy()

    def best_labels(
        self, sub_round: int, labels: np.ndarray, names: np.ndarray, weights: np.ndarray | None = None
    ) -> np.ndarray:
        """[n] int64: the label that most neighbours of each row of a sub-round have, -1 where it hears none;
        of equal ones a hash of the label's name decides.

        Args:
            labels: int64 of each distinct neighbour, a position in ``names``, or -1 where it has no say.
            names: int64 of each label, the same on all workers.
            weights: int64 of each distinct neighbour, above 0.
        """
        first, last = self.bounds[sub_round], self.bounds[sub_round + 1]
        chosen = np.empty(last - first, np.int64)
        # The kernel packs a total and a rank into one int64 to compare both at once, hence 32 bits.
        ranks = (mix(names.astype(np.uint64)) >> np.uint64(32)).view(np.int64)
        weights = np.empty(0, np.int64) if weights is None else weights
        totals = np.zeros(len(names), np.int64)
        best_labels(self.indptr, self.columns, labels, weights, ranks, first, last, totals, chosen)
        return chosen

    def wishes(
        self, sub_round: int, parts: np.ndarray, now: np.ndarray, room: np.ndarray, least: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """The part that each row of a sub-round wants, and by how much, from 0 to 1; of parts among its
        neighbours, its own, and the one with most room.

        Args:
            parts: int64 of each distinct neighbour. now: [n] int64 the rows' own. room: [P] float64 share of
                each part that is free. least: neighbours that every part counts for at least.
        """
        first, last = self.bounds[sub_round], self.bounds[sub_round + 1]
        preferred, gain = np.empty(last - first, np.int64), np.empty(last - first)
        widest = int(room.argmax())
        wishes(self.indptr, self.columns, parts, now, room, first, last, least, widest, preferred, gain)
        return preferred, gain
