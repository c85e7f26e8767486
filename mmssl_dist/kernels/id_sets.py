"""Sets of node ids: the union of several tensors with every position in it, and which pairs are known."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mmssl_dist.errors import MmsslError
from mmssl_dist.kernels import bits as sets
from mmssl_dist.kernels.bits import contains, rank
from mmssl_dist.kernels.compiling import kernel, run_in_pieces

_NODES_PER_ID = 2048  # from here on sorting the ids is cheaper than going through a bit or flag per node
_PAIRS_AT_ONCE = 1 << 12


def union(num_nodes: int, *ids: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The union of node ids, and the position in it of every given id.

    Args:
        num_nodes: every id is below it and at least 0.
        ids: int64 or int32 tensors on one device, at least one, in any order and with repetitions.

    Returns:
        int64, sorted, each id once; and for each of ``ids`` int64 positions of its length.

    Raises:
        MmsslError: an id is out of range.
    """
    if ids[0].device.type != "cpu" or num_nodes > _NODES_PER_ID * sum(map(len, ids)):
        return union_plain(num_nodes, *ids)
    # A bit per node is read through in less time than ids are sorted, unless nodes far outnumber them.
    bits = np.zeros((num_nodes >> 6) + 1, np.uint64)
    arrays = [part.contiguous().numpy() for part in ids]
    outside = sum(sets.add(bits, num_nodes, array) for array in arrays)
    if outside:
        raise _out_of_range(outside, num_nodes)
    before = np.empty(len(bits), np.int64)
    nodes = torch.empty(sets.count_before(bits, before), dtype=torch.int64)
    sets.members(bits, nodes.numpy())
    positions = [torch.empty(len(array), dtype=torch.int64) for array in arrays]
    for array, out in zip(arrays, positions, strict=True):
        sets.ranks(bits, before, array, out.numpy())
    return nodes, positions


def union_plain(num_nodes: int, *ids: Tensor) -> tuple[Tensor, list[Tensor]]:
    """``union`` in torch: a flag per node and a table of ranks, or a sort where nodes far outnumber ids."""
    everything = torch.cat([part.to(torch.int64) for part in ids])
    lengths = [len(part) for part in ids]
    if len(everything) == 0:
        return everything, list(torch.split(everything, lengths))
    outside = int(((everything < 0) | (everything >= num_nodes)).sum())
    if outside:
        raise _out_of_range(outside, num_nodes)
    if num_nodes > _NODES_PER_ID * len(everything):
        nodes, positions = torch.unique(everything, return_inverse=True)
        return nodes, list(torch.split(positions, lengths))
    device = everything.device
    # A flag a node spares the sort that torch.unique would make of all ids.
    flags = torch.zeros(num_nodes, dtype=torch.bool, device=device).index_fill_(0, everything, True)
    nodes = flags.nonzero().flatten()
    ranks = torch.empty(num_nodes, dtype=torch.int64, device=device)
    ranks.index_copy_(0, nodes, torch.arange(len(nodes), device=device))
    return nodes, list(torch.split(ranks.index_select(0, everything), lengths))


def known_pairs(
    num_nodes: int, indptr: Tensor, neighbours: Tensor, rows: Tensor, candidates: Tensor
) -> Tensor:
    """bool [B, C], whether row ``rows[b]`` lists the node ``candidates[c]``.

    Args:
        num_nodes: every neighbour and candidate is below it.
        indptr: int64 [n + 1]. neighbours: int64 or int32 [E]. rows: int64 [B].
        candidates: int64 [C], sorted and unique.
    """
    if rows.device.type != "cpu":
        return known_pairs_plain(
            num_nodes=num_nodes, indptr=indptr, neighbours=neighbours, rows=rows, candidates=candidates
        )
    known = torch.zeros(len(rows), len(candidates), dtype=torch.bool)
    bits = np.zeros((num_nodes >> 6) + 1, np.uint64)
    outside = sets.add(bits, num_nodes, candidates.numpy())
    if outside:
        raise _out_of_range(outside, num_nodes)
    before = np.empty(len(bits), np.int64)
    sets.count_before(bits, before)
    arrays = indptr.numpy(), neighbours.numpy(), rows.contiguous().numpy(), known.numpy()
    run_in_pieces(len(rows), _PAIRS_AT_ONCE, lambda a, b: _mark_known(bits, before, *arrays, a, b))
    return known


def known_pairs_plain(
    num_nodes: int, indptr: Tensor, neighbours: Tensor, rows: Tensor, candidates: Tensor
) -> Tensor:
    """``known_pairs`` in torch."""
    device = rows.device
    known = torch.zeros(len(rows), len(candidates), dtype=torch.bool, device=device)
    starts = indptr.index_select(0, rows)
    counts = indptr.index_select(0, rows + 1) - starts
    total = int(counts.sum())
    if total == 0 or len(candidates) == 0:
        return known
    first = torch.cumsum(counts, 0) - counts
    edges = torch.arange(total, device=device) + torch.repeat_interleave(
        starts - first, counts, output_size=total
    )
    # -1 for nodes that are no candidates, so that one look-up answers both whether and where.
    ranks = torch.full((num_nodes,), -1, dtype=torch.int64, device=device)
    ranks.index_copy_(0, candidates, torch.arange(len(candidates), device=device))
    column = ranks.index_select(0, neighbours.index_select(0, edges).to(torch.int64))
    row = torch.repeat_interleave(torch.arange(len(rows), device=device), counts, output_size=total)
    hit = (column >= 0).nonzero().flatten()
    known[row.index_select(0, hit), column.index_select(0, hit)] = True
    return known


_KNOWN = "void(uint64[::1], int64[::1], int64[::1], {}[::1], int64[::1], boolean[:, ::1], int64, int64)"


@kernel(_KNOWN.format("int64"), _KNOWN.format("int32"))
def _mark_known(
    bits: np.ndarray,
    before: np.ndarray,
    indptr: np.ndarray,
    neighbours: np.ndarray,
    rows: np.ndarray,
    known: np.ndarray,
    first: int,
    last: int,
) -> None:
    for i in range(first, last):
        for edge in range(indptr[rows[i]], indptr[rows[i] + 1]):
            node = np.int64(neighbours[edge])
            if contains(bits, node):
                known[i, rank(bits, before, node)] = True


def _out_of_range(outside: int, num_nodes: int) -> MmsslError:
    return MmsslError(
        f"{outside} sampled node ids are outside of 0 to {num_nodes - 1}: the partitions do not belong "
        "together. Re-run mmssl-dist partition."
    )
