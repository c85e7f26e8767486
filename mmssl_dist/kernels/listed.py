"""Whether rows list nodes: a binary search for each pair."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mmssl_dist.kernels.bits import ONE
from mmssl_dist.kernels.compiling import kernel, run_in_pieces

_LEAST_PAIRS = 1 << 12  # of a thread


def listed(indptr: Tensor, neighbours: Tensor, rows: Tensor, nodes: Tensor) -> Tensor:
    """bool [k], whether each of ``nodes`` is among the neighbours of the row beside it.

    Args:
        indptr: int64 [n + 1]. neighbours: int64 or int32 [E], sorted within a row. rows, nodes: int64 [k].
    """
    if rows.device.type != "cpu":
        return listed_plain(indptr, neighbours, rows, nodes)
    out = torch.empty(len(rows), dtype=torch.bool)
    arrays = [x.contiguous().numpy() for x in (indptr, neighbours, rows, nodes, out)]
    run_in_pieces(len(rows), _LEAST_PAIRS, lambda a, b: _search(*arrays, a, b))
    return out


def listed_plain(indptr: Tensor, neighbours: Tensor, rows: Tensor, nodes: Tensor) -> Tensor:
    """``listed`` in torch: a step of all searches at once."""
    low, high = indptr[rows], indptr[rows + 1]
    end, last = high, max(len(neighbours) - 1, 0)
    if len(neighbours) == 0:
        return torch.zeros_like(nodes, dtype=torch.bool)
    for _ in range(int((high - low).max()).bit_length() if len(rows) else 0):
        middle = (low + high) // 2
        right = (neighbours[middle.clamp(max=last)] < nodes) & (low < high)
        low, high = torch.where(right, middle + 1, low), torch.where(right, high, middle)
    return (low < end) & (neighbours[low.clamp(max=last)] == nodes)


_SEARCH = "void(int64[::1], {}[::1], int64[::1], int64[::1], boolean[::1], int64, int64)"


@kernel(_SEARCH.format("int64"), _SEARCH.format("int32"))
def _search(
    indptr: np.ndarray,
    neighbours: np.ndarray,
    rows: np.ndarray,
    nodes: np.ndarray,
    out: np.ndarray,
    first: int,
    last: int,
) -> None:
    for i in range(first, last):
        node = nodes[i]
        low, end = np.uint64(indptr[rows[i]]), np.uint64(indptr[rows[i] + 1])
        high = end
        while low < high:
            middle = (low + high) >> ONE
            if neighbours[middle] < node:
                low = middle + ONE
            else:
                high = middle
        out[i] = low < end and neighbours[low] == node
