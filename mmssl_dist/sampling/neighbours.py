"""Sampling across partitions: owners draw neighbours for whoever asks, once per node and hop.

What several workers ask for in the same hop is drawn once, per partition, from a key of seed, epoch, step,
hop and partition. So the sampled neighbourhoods do not depend on how many workers there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmssl_dist.exchange.exchange import Exchange, Route
from mmssl_dist.graph.ragged import ragged_range
from mmssl_dist.graph.sampler import PartitionSampler, Sample
from mmssl_dist.kernels.edges import drawn_weights, neighbourhoods
from mmssl_dist.kernels.id_sets import union
from mmssl_dist.sampling.draws import key
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.sharding.topology import Adjacency


@dataclass(frozen=True)
class Neighbours:
    """Sampled in-edges of k nodes.

    Attributes:
        counts: int64 [k]. nodes: int64 [sum(counts)] node ids, node by node.
        weight: float32 [sum(counts)], edge weight x degree / count, so that the weighted sum over a sampled
            row is an unbiased estimate of the sum over the whole row.
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
        """Neighbours of the nodes of ``route``, at most ``fanout`` each; all of them when it is None
        (collective)."""
        rows, place = route.requested, None
        if self.exchange.world_size > 1:
            rows, (place,) = union(self.exchange.rows, rows)
        counts, nodes, weight = self._draw(rows, fanout, seed)
        if place is not None:
            starts = torch.cumsum(counts, 0).sub_(counts)
            counts = counts.index_select(0, place)
            asked = ragged_range(starts.index_select(0, place), counts)
            nodes, weight = nodes.index_select(0, asked), weight.index_select(0, asked)
        if self.exchange.world_size == 1:
            return Neighbours(counts, nodes, weight)
        if self.exchange.wire == torch.int64:
            counts, (nodes, weight) = self.exchange.fetch_ragged(route, counts, [nodes, weight])
            return Neighbours(counts, nodes, weight)
        both = torch.stack(
            [nodes.to(torch.int32), weight.view(torch.int32)], 1
        )  # bits of the weights: one message
        counts, (both,) = self.exchange.fetch_ragged(route, counts, [both])
        return Neighbours(counts, both[:, 0].to(torch.int64), both[:, 1].contiguous().view(torch.float32))

    def _draw(self, rows: Tensor, fanout: int | None, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Counts, nodes and weights of what the local ``rows`` get."""
        lists = self.adjacency
        if fanout is None:
            return neighbourhoods(lists.indptr, lists.neighbours, lists.weight, rows)
        drawn = self._draw_edges(rows, fanout, seed)
        weight = drawn_weights(lists.indptr, lists.weight, rows, drawn.counts, drawn.edges)
        return drawn.counts, drawn.nodes, weight

    def _draw_edges(self, rows: Tensor, fanout: int, seed: int) -> Sample:
        if len(self._samplers) == 1:
            ((part, _, _, sampler),) = self._samplers  # one partition begins at row and edge 0
            return sampler.sample(rows, fanout, key(seed, part))
        cuts = torch.searchsorted(rows, self._offsets).tolist()
        drawn = [
            (begin, sampler.sample(rows[a:b] - first, fanout, key(seed, part)))
            for (part, first, begin, sampler), a, b in zip(self._samplers, cuts[:-1], cuts[1:], strict=True)
        ]
        return Sample(
            counts=torch.cat([of_part.counts for _, of_part in drawn]),
            edges=torch.cat([of_part.edges + begin for begin, of_part in drawn]),
            nodes=torch.cat([of_part.nodes for _, of_part in drawn]),
        )
