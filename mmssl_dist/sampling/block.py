"""Blocks: the sampled graph of one batch as index tensors, and the weighted sum over a block's edges with its
gradient. Plain data on any device; who sampled it and from where is not known here."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Block:
    """One bipartite aggregation: row d of the result is the sum of weight * x[source] over the edges of d.

    indptr [n_dst + 1] int64, source [E] int64 positions in the source set, weight [E] float32: CSR by destination.
    keep [n_dst] int64: positions of the destination set's nodes within the source set; empty where they are not in it.
    t_indptr [num_source + 1], t_source [E] positions in the destination set, t_weight [E]: the same edges by source.
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
class SimilarItems:
    """The item-item graph around the seeds. T: the items among them and those sampled for their users.

    lists: per modality, S_{L+1} to T. gather: T to S_0; an item seed takes its own row, a user the mean of its items'.
    """

    lists: Mapping[str, Block]
    gather: Block

    def to(self, device: torch.device | str) -> SimilarItems:
        """The graph on ``device``."""
        return SimilarItems({m: block.to(device) for m, block in self.lists.items()}, self.gather.to(device))


@dataclass(frozen=True)
class SampledGraph:
    """Everything one batch aggregates over, from the outermost set of nodes S_{L+1} to the seeds S_0.

    layers: outermost first, S_L to S_{L-1}, ..., S_1 to S_0.
    views: per modality, S_{L+1} to S_L; empty when the modality graph is off.
    similar: None when the item-item graph is off. Without it and views S_{L+1} = S_L.
    start_keep [|S_L|]: positions of S_L in S_{L+1}, 0, 1, ... without views.
    seeds [|S_0|]: positions of S_0 in S_L. seeds_source [|S_0|]: positions of S_0 in S_{L+1}.
    """

    layers: tuple[Block, ...]
    views: Mapping[str, Block]
    similar: SimilarItems | None
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
    # The sort is stable: sums of gradients then always run in the same order.
    order = torch.sort(source, stable=True).indices
    destination = torch.repeat_interleave(torch.arange(indptr.shape[0] - 1, device=indptr.device), indptr.diff())
    t_indptr = torch.zeros(num_source + 1, dtype=torch.int64, device=source.device)
    torch.cumsum(torch.bincount(source, minlength=num_source), 0, out=t_indptr[1:])
    return Block(
        indptr=indptr,
        source=source,
        weight=weight,
        num_source=num_source,
        keep=keep,
        t_indptr=t_indptr,
        t_source=destination.index_select(0, order),
        t_weight=weight.index_select(0, order),
    )


def aggregate(block: Block, x: Tensor) -> Tensor:
    """x [num_source, D] float32 -> [n_dst, D] float32, the weighted sum over each destination's edges.

    Differentiable in x, not in the weights; a destination without edges gets a zero row.
    """
    result: Tensor = _Aggregate.apply(x, block)  # type: ignore[no-untyped-call]
    return result


class _Aggregate(torch.autograd.Function):
    """The sparse product, whose gradient is the product with the transposed matrix made beforehand."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, block: Block) -> Tensor:
        ctx.block = block
        return csr_product(block.indptr, block.source, block.weight, block.num_source, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        block: Block = ctx.block
        grad = grad.contiguous()
        return csr_product(block.t_indptr, block.t_source, block.t_weight, block.num_destination, grad), None


def csr_product(indptr: Tensor, column: Tensor, weight: Tensor, columns: int, x: Tensor) -> Tensor:
    """CSR matrix [len(indptr) - 1, columns] times x [columns, D]; on one device, not differentiable."""
    _announce_sparse_csr()
    size = (indptr.shape[0] - 1, columns)
    return torch.sparse_csr_tensor(indptr, column, weight, size, check_invariants=False) @ x


@cache
def _announce_sparse_csr() -> None:
    """Take torch's once-per-process "CSR is in beta state" warning here, where it can be dropped without touching the
    warning filters in every step and thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        none = torch.zeros(0, dtype=torch.int64)
        torch.sparse_csr_tensor(torch.zeros(1, dtype=torch.int64), none, torch.zeros(0), (0, 0))


def _move(tensor: Tensor, device: torch.device | str) -> Tensor:
    return tensor.to(device, non_blocking=True)
