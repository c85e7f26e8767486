"""Blocks: the sampled graph of one batch as index tensors, and the weighted sum over a block's edges with its
gradient. Plain data on any device; who sampled it and from where is not known here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmssl_dist.kernels.edges import transpose


@dataclass(frozen=True, kw_only=True)
class Block:
    """One bipartite aggregation: row d of the result is the sum of weight * x[source] over the edges of d.

    indptr [n_dst + 1] int32, source [E] int32 positions in the source set, weight [E] float32: CSR by
    destination. keep [n_dst] int64: positions of the destination set's nodes within the source set; empty
    where they are not in it. t_indptr [num_source + 1], t_source [E] positions in the destination set,
    t_weight [E]: the same edges by source.
    """

    indptr: Tensor
    source: Tensor
    weight: Tensor
    num_source: int
    keep: Tensor
    t_indptr: Tensor
    t_source: Tensor
    t_weight: Tensor

    @property
    def num_destination(self) -> int:
        """Number of destination rows."""
        return self.indptr.shape[0] - 1

    def to(self, device: torch.device | str) -> Block:
        """The block on ``device``; copies are asynchronous where the tensors are pinned."""
        return Block(
            indptr=_move(self.indptr, device),
            source=_move(self.source, device),
            weight=_move(self.weight, device),
            num_source=self.num_source,
            keep=_move(self.keep, device),
            t_indptr=_move(self.t_indptr, device),
            t_source=_move(self.t_source, device),
            t_weight=_move(self.t_weight, device),
        )


@dataclass(frozen=True)
class SampledItemGraph:
    """The item-item graph around the seeds. T: the items among them and those sampled for their users.

    lists: per modality, S_{L+1} to T. gather: T to S_0; an item seed takes its own row, a user the mean of
        its items'.
    """

    lists: Mapping[str, Block]
    gather: Block

    def to(self, device: torch.device | str) -> SampledItemGraph:
        """The graph on ``device``."""
        return SampledItemGraph(
            {m: block.to(device) for m, block in self.lists.items()}, self.gather.to(device)
        )


@dataclass(frozen=True, kw_only=True)
class SampledGraph:
    """Everything one batch aggregates over, from the outermost set of nodes S_{L+1} to the seeds S_0.

    layers: outermost first, S_L to S_{L-1}, ..., S_1 to S_0.
    views: per modality, S_{L+1} to S_L; empty when the modality graph is off.
    similar: None when the item-item graph is off.
    start_keep [|S_L|]: positions of S_L in S_{L+1}; without views the two sets are one, and what the
    item-item graph takes is part of it.
    seeds [|S_0|]: positions of S_0 in S_L. seeds_source [|S_0|]: positions of S_0 in S_{L+1}.
    """

    layers: tuple[Block, ...]
    views: Mapping[str, Block]
    similar: SampledItemGraph | None
    start_keep: Tensor
    seeds: Tensor
    seeds_source: Tensor

    @property
    def num_edges(self) -> int:
        """Edges of all blocks."""
        blocks = [*self.layers, *self.views.values()]
        if self.similar is not None:
            blocks += [*self.similar.lists.values(), self.similar.gather]
        return sum(len(block.source) for block in blocks)

    def to(self, device: torch.device | str) -> SampledGraph:
        """The graph on ``device``."""
        return SampledGraph(
            layers=tuple(block.to(device) for block in self.layers),
            views={modality: block.to(device) for modality, block in self.views.items()},
            similar=None if self.similar is None else self.similar.to(device),
            start_keep=_move(self.start_keep, device),
            seeds=_move(self.seeds, device),
            seeds_source=_move(self.seeds_source, device),
        )


def make_block(indptr: Tensor, source: Tensor, weight: Tensor, num_source: int, keep: Tensor) -> Block:
    """A block with its transposed CSR; edges of one source stay in the order of their destinations."""
    # Half the bytes to move and read; ``row_ends`` refuses blocks of more edges than fit.
    indptr, source = indptr.to(torch.int32), source.to(torch.int32)
    t_indptr, t_source, t_weight = transpose(indptr, source, weight, num_source)
    return Block(
        indptr=indptr,
        source=source,
        weight=weight,
        num_source=num_source,
        keep=keep,
        t_indptr=t_indptr,
        t_source=t_source,
        t_weight=t_weight,
    )


def aggregate(block: Block, x: Tensor) -> Tensor:
    """x [num_source, D] float32 -> [n_dst, D] float32, the weighted sum over each destination's edges.

    Differentiable in x, not in the weights; a destination without edges gets a zero row.
    """
    return aggregate_and_pick(block, x, block.keep.new_empty(0))[0]


def aggregate_and_pick(block: Block, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """``aggregate``, and the rows x[positions] beside it. positions: int64 [k], each once.

    Picked on its own, a few rows' gradient would be spread over all of x once more.
    """
    aggregated, picked = _Aggregate.apply(x, block, positions)  # type: ignore[no-untyped-call]
    return aggregated, picked


class _Aggregate(torch.autograd.Function):
    """The sparse product, whose gradient is the product with the transposed matrix made beforehand."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, block: Block, positions: Tensor) -> tuple[Tensor, Tensor]:
        # The sum is linear in x: backward needs the block alone, and x is not kept for it.
        ctx.block, ctx.positions = block, positions
        product = csr_product(
            indptr=block.indptr, column=block.source, weight=block.weight, columns=block.num_source, x=x
        )
        return product, x.index_select(0, positions)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, picked: Tensor) -> tuple[Tensor, None, None]:
        block: Block = ctx.block
        grad = grad.contiguous()
        of_x = csr_product(
            indptr=block.t_indptr,
            column=block.t_source,
            weight=block.t_weight,
            columns=block.num_destination,
            x=grad,
        )
        # Every position is there once, so no order of additions can change the sum on a GPU.
        return of_x.index_add_(0, ctx.positions, picked), None, None


def csr_product(indptr: Tensor, column: Tensor, weight: Tensor, columns: int, x: Tensor) -> Tensor:
    """CSR matrix [len(indptr) - 1, columns] times x [columns, D]; on one device, not differentiable.

    indptr and column: both int32 or both int64.
    """
    if len(x) != columns:
        raise RuntimeError(f"a matrix with {columns} columns times {len(x)} rows")
    # ``embedding_bag`` refuses a matrix without entries.
    if len(column) == 0:
        return x.new_zeros(len(indptr) - 1, x.shape[1])
    # several times as fast on a CPU as torch's sparse product, which is MKL's
    bags = torch.nn.functional.embedding_bag
    result: Tensor = bags(column, x, indptr, mode="sum", per_sample_weights=weight, include_last_offset=True)
    return result


def _move(tensor: Tensor, device: torch.device | str) -> Tensor:
    return tensor.to(device, non_blocking=True)
