"""Sampling across partitions: owners draw neighbours for whoever asks, once per node and hop.

What several workers ask for in the same hop is drawn once, per partition, from a key of seed, epoch, step, hop and
partition. So the sampled neighbourhoods do not depend on how many workers there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmssl_dist.graph.ragged import ragged_range
from mmssl_dist.graph.sampler import PartitionSampler
from mmssl_dist.sampling.draws import key
from mmssl_dist.sharding.exchange import Exchange, Route
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.sharding.topology import Adjacency


@dataclass(frozen=True)
class Neighbours:
    """Sampled in-edges of k nodes.

    Attributes:
        counts: int64 [k]. nodes: int64 [sum(counts)] node ids, node by node.
        weight: float32 [sum(counts)], edge weight x degree / count, so that the weighted sum over a sampled row is an
            unbiased estimate of the sum over the whole row.
    """

    counts: Tensor
    nodes: Tensor
    weight: Tensor


class NeighbourSampler:
    """Samples from one graph whose rows are spread over the workers.

    Args:
        adjacency: the local rows' lists.
        graph: tells which partition a local row belongs to.
        exchange: over a group of its own, since sampling runs beside the training step.
    """

    def __init__(self, adjacency: Adjacency, graph: LocalGraph, exchange: Exchange) -> None:
        self.adjacency, self.exchange = adjacency, exchange
        self._offsets = torch.tensor(graph.offsets)
        self._samplers: list[tuple[int, int, int, PartitionSampler]] = []
        for position, part in enumerate(graph.parts):
            first, last = graph.offsets[position : position + 2]
            indptr = adjacency.indptr[first : last + 1]
            begin, end = int(indptr[0]), int(indptr[-1])
            sampler = PartitionSampler(indptr - begin, adjacency.neighbours[begin:end], graph.book.num_nodes)
            self._samplers.append((part, first, begin, sampler))

    def sample(self, route: Route, fanout: int | None, seed: int) -> Neighbours:
        """Neighbours of the nodes of ``route``, at most ``fanout`` each; all of them when it is None (collective)."""
        rows, place = route.requested, None
        if self.exchange.world_size > 1:
            rows, place = torch.unique(rows, return_inverse=True)
        counts, edges = self._draw(rows, fanout, seed)
        degrees = self.adjacency.degrees(rows)
        scale = degrees.to(torch.float32) / counts.clamp(min=1)
        if place is not None:
            starts = torch.cumsum(counts, 0).sub_(counts)
            counts, scale = counts.index_select(0, place), scale.index_select(0, place)
            edges = edges.index_select(0, ragged_range(starts.index_select(0, place), counts))
        weight = torch.repeat_interleave(scale, counts, output_size=len(edges))
        weight.mul_(self.adjacency.weight.index_select(0, edges))
        nodes = self.adjacency.neighbours.index_select(0, edges)
        counts, (nodes, weight) = self.exchange.fetch_ragged(route, counts, [nodes, weight])
        return Neighbours(counts, nodes, weight)

    def _draw(self, rows: Tensor, fanout: int | None, seed: int) -> tuple[Tensor, Tensor]:
        if fanout is None:
            return self.adjacency.edges(rows)
        if len(self._samplers) == 1:
            ((part, _, _, sampler),) = self._samplers  # one partition begins at row and edge 0
            drawn = sampler.sample(rows, fanout, key(seed, part))
            return drawn.counts, drawn.edges
        cuts = torch.searchsorted(rows, self._offsets).tolist()
        counts, edges = [], []
        for (part, first, begin, sampler), a, b in zip(self._samplers, cuts[:-1], cuts[1:], strict=True):
            drawn = sampler.sample(rows[a:b] - first, fanout, key(seed, part))
            counts.append(drawn.counts)
            edges.append(drawn.edges + begin)
        return torch.cat(counts), torch.cat(edges)
