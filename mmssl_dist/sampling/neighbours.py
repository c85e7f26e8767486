"""Sampling across partitions: owners draw neighbours for whoever asks, and the neighbourhoods do not depend
on how many workers there are.

By DGL, what several workers ask for in the same hop is drawn once, per partition, from a key of seed, epoch,
step, hop and partition. By keys, a draw is a function of such a key and of the node, so it is the same
wherever, whenever and however often it is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmssl_dist.exchange.exchange import Exchange, Route
from mmssl_dist.graph.ragged import ragged_range
from mmssl_dist.kernels.edges import drawn_weights, neighbourhoods
from mmssl_dist.kernels.id_sets import union
from mmssl_dist.kernels.keyed_sample import sample_rows
from mmssl_dist.kernels.replies import pad_lists, unpad_lists
from mmssl_dist.sampling.draws import key
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.sharding.topology import Adjacency

if TYPE_CHECKING:
    from mmssl_dist.graph.sampler import DglSampler

_FULLEST = 64  # slots of a reply of fixed size, at most
_LEAST_FILLED = 0.5  # share of its slots that lists fill, on average, for a reply to be of fixed size


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
        adjacency: the local rows' lists, on the device where draws are made.
        graph: knows which partition a local row belongs to.
        exchange: over a group of its own, since sampling runs beside the training step.
        keyed: whether draws are made by keys, on any device; else by DGL, on the CPU.
    """

    def __init__(
        self, adjacency: Adjacency, graph: LocalGraph, exchange: Exchange, *, keyed: bool = False
    ) -> None:
        self.adjacency, self.exchange, self.keyed = adjacency, exchange, keyed
        self._fixed: dict[int, bool] = {}
        self._dgl: DglSampler | None = None
        if not keyed:
            # Here, so that a machine without DGL can sample by keys.
            from mmssl_dist.graph.sampler import DglSampler

            self._dgl = DglSampler(
                graph.parts,
                graph.offsets,
                indptr=adjacency.indptr,
                neighbours=adjacency.neighbours,
                num_nodes=graph.book.num_nodes,
            )

    def sample(self, route: Route, fanout: int | None, seed: int) -> Neighbours:
        """Neighbours of the nodes of ``route``, at most ``fanout`` each; all of them when it is None
        (collective)."""
        return sample_together(self.exchange, [Draw(self, route, fanout, seed)])[0]

    def fixed(self, fanout: int | None) -> bool:
        """Whether replies have ``fanout`` slots for each node, filled or not: then nobody has to be sent how
        long they are. The same on every worker (collective, once for a fanout)."""
        if fanout is None or fanout > _FULLEST:
            return False
        if fanout not in self._fixed:
            degrees = self.adjacency.indptr.diff()
            filled = torch.stack([degrees.clamp(max=fanout).sum(), (degrees > 0).sum() * fanout])
            # Over all workers, since both ends of a message have to take the same decision.
            entries, slots = self.exchange.sum(filled.to(self.exchange.device)).tolist()
            self._fixed[fanout] = entries >= _LEAST_FILLED * slots
        return self._fixed[fanout]

    def reply(self, requested: Tensor, fanout: int | None, seed: int) -> tuple[Neighbours, Tensor]:
        """The lists drawn for the local rows ``requested``, and the index of each row's list, int64."""
        if self.keyed or self.exchange.world_size == 1:
            list_indices = torch.arange(len(requested), device=requested.device)
            return self._draw(requested, fanout, seed), list_indices
        # DGL's draws depend on which rows are drawn together; their union is the same for any W.
        rows, (list_indices,) = union(self.exchange.rows, requested)
        return self._draw(rows, fanout, seed), list_indices

    def _draw(self, rows: Tensor, fanout: int | None, seed: int) -> Neighbours:
        lists = self.adjacency
        if fanout is None:
            return Neighbours(*neighbourhoods(lists.indptr, lists.neighbours, lists.weight, rows))
        if self._dgl is None:
            parts = (lists.indptr, lists.neighbours, lists.weight)
            return Neighbours(
                *sample_rows(key=seed, lists=parts, rows=rows, first_node=self.exchange.first, fanout=fanout)
            )
        drawn = self._dgl.sample(rows, fanout, lambda part: key(seed, part))
        weight = drawn_weights(
            indptr=lists.indptr, weight=lists.weight, rows=rows, counts=drawn.counts, edges=drawn.edges
        )
        return Neighbours(drawn.counts, drawn.nodes, weight)


@dataclass(frozen=True)
class Draw:
    """What ``sample_together`` makes: neighbours of the nodes of ``route`` by ``sampler``, at most ``fanout``
    each, from ``seed``."""

    sampler: NeighbourSampler
    route: Route
    fanout: int | None
    seed: int


def sample_together(exchange: Exchange, draws: Sequence[Draw]) -> list[Neighbours]:
    """All of ``draws``; replies of fixed size travel in one message (collective)."""
    replies = [draw.sampler.reply(draw.route.requested, draw.fanout, draw.seed) for draw in draws]
    if exchange.world_size == 1:
        return [drawn for drawn, _ in replies]
    # Collective at first, so decided for every draw, and in the same order on every worker.
    fixed = [draw.sampler.fixed(draw.fanout) for draw in draws]
    messages = [
        (
            pad_lists(
                drawn.counts,
                drawn.nodes,
                drawn.weight,
                lists=list_indices,
                width=draw.fanout or 0,
                wire=exchange.wire,
            ),
            draw.route.requested_counts,
            draw.route.received_counts,
        )
        for draw, (drawn, list_indices), fits in zip(draws, replies, fixed, strict=True)
        if fits
    ]
    # The others follow one by one, in the order of ``draws``: each is a collective of its own.
    received = iter(exchange.send_together(messages) if messages else ())
    return [
        Neighbours(*unpad_lists(next(received)))
        if fits
        else _ragged(exchange, draw.route, drawn, list_indices)
        for draw, (drawn, list_indices), fits in zip(draws, replies, fixed, strict=True)
    ]


def _ragged(exchange: Exchange, route: Route, drawn: Neighbours, list_indices: Tensor) -> Neighbours:
    """``drawn[list_indices]`` to the workers that requested them; a message of its own has the lengths."""
    starts = torch.cumsum(drawn.counts, 0).sub_(drawn.counts)
    counts = drawn.counts.index_select(0, list_indices)
    picked = ragged_range(starts.index_select(0, list_indices), counts)
    nodes, weight = drawn.nodes.index_select(0, picked), drawn.weight.index_select(0, picked)
    # A 64-bit id and a 32-bit weight cannot share a tensor without padding, so they travel apart.
    if exchange.wire == torch.int64:
        counts, (nodes, weight) = exchange.fetch_ragged(route, counts, [nodes, weight])
        return Neighbours(counts, nodes, weight)
    # Bits of the weights: one message.
    both = torch.stack([nodes.to(torch.int32), weight.view(torch.int32)], 1)
    counts, (both,) = exchange.fetch_ragged(route, counts, [both])
    return Neighbours(counts, both[:, 0].to(torch.int64), both[:, 1].contiguous().view(torch.float32))
