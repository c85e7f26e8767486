"""The adjacency lists of this worker's nodes: of the interaction graph as loaded, or of any graph made
since."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmssl_dist.graph.ragged import ragged_range
from mmssl_dist.kernels.listed import listed


@dataclass(frozen=True)
class Adjacency:
    """Neighbour lists of n local nodes in compressed rows. Rows are picked by ``index_select``: indexing
    takes several times as long.

    Attributes:
        indptr: int64 [n + 1]. neighbours: int64 [E] node ids, sorted within a row; int32 where it is not on
            the CPU. weight: float32 [E].
    """

    indptr: Tensor
    neighbours: Tensor
    weight: Tensor

    def to(self, device: torch.device) -> Adjacency:
        """The same lists on ``device``; on one with a memory of its own, node ids take four bytes."""
        if device.type == "cpu":
            return self
        return Adjacency(
            self.indptr.to(device), self.neighbours.to(torch.int32).to(device), self.weight.to(device)
        )

    def degrees(self, rows: Tensor) -> Tensor:
        """int64 [k], number of neighbours of the local ``rows``."""
        return self.indptr.index_select(0, rows + 1).sub_(self.indptr.index_select(0, rows))

    def edges(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Every edge of the local ``rows``: counts int64 [k] and positions int64 in ``neighbours``, row by
        row."""
        counts = self.degrees(rows)
        return counts, ragged_range(self.indptr.index_select(0, rows), counts)

    def contains(self, rows: Tensor, nodes: Tensor) -> Tensor:
        """bool, whether each of ``nodes`` is a neighbour of the local row beside it: one binary search per
        pair."""
        return listed(self.indptr, self.neighbours, rows, nodes)


def adjacency_from_pairs(rows: Tensor, nodes: Tensor, num_rows: int) -> Adjacency:
    """Lists of ``num_rows`` rows from (row, node) pairs in any order, each edge weighing 1 / sqrt(its row's
    length)."""
    # Two stable sorts make one by row and then by node, without a combined key that could overflow.
    order = torch.argsort(nodes, stable=True)
    order = order[torch.argsort(rows[order], stable=True)]
    counts = torch.bincount(rows, minlength=num_rows)
    indptr = torch.cat([counts.new_zeros(1), torch.cumsum(counts, 0)])
    weight = counts[rows[order]].to(torch.float32).rsqrt()
    return Adjacency(indptr, nodes[order], weight)
