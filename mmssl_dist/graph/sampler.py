"""Draws neighbours within one partition, with DGL: without replacement, each neighbour of a row equally
likely, and as a pure function of seed and rows. Cost grows with the rows asked for, not with the
partition."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmssl_dist.errors import InputError
from mmssl_dist.graph.dgl_door import dgl, draw
from mmssl_dist.graph.ragged import ragged_range

# Edges of the DGL graph go from a neighbour (any node) to a row (a node of this partition).
_SOURCE, _EDGE, _ROW = "neighbour", "of", "row"


@dataclass(frozen=True)
class SampledEdges:
    """Sampled edges of k rows, row by row.

    counts: [k] int64, edges of each row. edges: [counts.sum()] int64, positions in the partition's
        ``neighbours`` and
    ``weight`` arrays. nodes: [counts.sum()] int64, the neighbours there.
    """

    counts: Tensor
    edges: Tensor
    nodes: Tensor


class PartitionSampler:
    """The neighbour lists of one partition.

    Args:
        indptr: [n + 1] int64; the neighbours of row r are neighbours[indptr[r]:indptr[r + 1]].
        neighbours: [E] int64 node ids, 0 <= id < num_nodes. Neither array is copied.
        num_nodes: nodes of the whole graph.
    """

    def __init__(self, indptr: np.ndarray | Tensor, neighbours: np.ndarray | Tensor, num_nodes: int) -> None:
        self.indptr, self.neighbours = _as_tensor(indptr), _as_tensor(neighbours)
        self.rows = len(self.indptr) - 1
        no_ids = torch.empty(0, dtype=torch.int64)  # DGL then numbers edges by position
        self._graph = dgl.heterograph(
            {(_SOURCE, _EDGE, _ROW): ("csc", (self.indptr, self.neighbours, no_ids))},
            num_nodes_dict={_SOURCE: num_nodes, _ROW: self.rows},
        )

    def sample(self, rows: Tensor, fanout: int | None, seed: int) -> SampledEdges:
        """At most ``fanout`` neighbours of each row, or all of them.

        Args:
            rows: [k] int64 local rows, sorted, each once.
            fanout: most neighbours per row, at least 1; None takes all, which needs no draw.
            seed: any integer; equal seeds and rows give equal samples in every thread and process.

        Returns:
            min(degree, fanout) edges per row. A row with more neighbours than that keeps each of them with
            probability fanout / degree.
        """
        starts = self.indptr.index_select(0, rows)
        degrees = self.indptr.index_select(0, rows + 1) - starts
        if fanout is not None and fanout < 1:
            raise InputError("fanout", fanout, "a fanout is at least 1", "Raise it, or take all neighbours.")
        # Without a choice no draw is made: whole neighbourhoods cost no call into DGL and no random numbers.
        if fanout is None or len(rows) == 0 or int(degrees.max()) <= fanout:
            edges = ragged_range(starts, degrees)
            return SampledEdges(degrees, edges, self.neighbours.index_select(0, edges))

        def call() -> SampledEdges:
            sampled = dgl.sampling.sample_neighbors(self._graph, {_ROW: rows}, fanout, copy_ndata=False)
            nodes, _ = sampled.edges()  # in the order of ``rows``, as are the edges' positions
            return SampledEdges(degrees.clamp(max=fanout), sampled.edata[dgl.EID], nodes)

        return draw(_fold(seed), call)


class DglSampler:
    """The neighbour lists of a worker's partitions, each drawn from apart.

    Args:
        parts: the partitions. offsets: [len(parts) + 1] first row of each, then the number of rows.
        indptr, neighbours: lists of all rows, as in ``PartitionSampler``.
    """

    def __init__(
        self, parts: Sequence[int], offsets: Sequence[int], indptr: Tensor, neighbours: Tensor, num_nodes: int
    ) -> None:
        self._offsets = torch.tensor(offsets)
        self._samplers: list[tuple[int, int, int, PartitionSampler]] = []
        for position, part in enumerate(parts):
            first, last = offsets[position : position + 2]
            starts = indptr[first : last + 1]
            begin, end = int(starts[0]), int(starts[-1])
            sampler = PartitionSampler(starts - begin, neighbours[begin:end], num_nodes)
            self._samplers.append((part, first, begin, sampler))

    def sample(self, rows: Tensor, fanout: int, seed_of: Callable[[int], int]) -> SampledEdges:
        """At most ``fanout`` neighbours of each row.

        Args:
            rows: [k] int64, sorted, each once. seed_of: the seed for a partition.
        """
        if len(self._samplers) == 1:
            ((part, _, _, sampler),) = self._samplers  # one partition begins at row and edge 0
            return sampler.sample(rows, fanout, seed_of(part))
        cuts = torch.searchsorted(rows, self._offsets).tolist()
        # Each partition apart and with a seed of its own, so that its draws are the same whoever owns it.
        drawn = [
            (begin, sampler.sample(rows[a:b] - first, fanout, seed_of(part)))
            for (part, first, begin, sampler), a, b in zip(self._samplers, cuts[:-1], cuts[1:], strict=True)
        ]
        return SampledEdges(
            counts=torch.cat([of_part.counts for _, of_part in drawn]),
            edges=torch.cat([of_part.edges + begin for begin, of_part in drawn]),
            nodes=torch.cat([of_part.nodes for _, of_part in drawn]),
        )


def _fold(seed: int) -> int:
    """A seed in DGL's range, 0 <= seed < 2**31; near seeds become far ones, for DGL's generator is a linear
    one."""
    return int(np.random.SeedSequence(seed % 2**64).generate_state(1)[0] >> 1)


def _as_tensor(array: np.ndarray | Tensor) -> Tensor:
    if isinstance(array, Tensor):
        return array
    with warnings.catch_warnings():  # torch warns of read-only memory maps; nothing here writes to them
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
