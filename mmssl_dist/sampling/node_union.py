"""Sets of node ids put together: one sort gives the union and where everything stands in it."""

from __future__ import annotations

import torch
from torch import Tensor

_INT32 = 2**31


def merge(*ids: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The union of node ids, and the position in it of every given id.

    Args:
        ids: int64 tensors, at least one, in any order and with repetitions; no id is negative.

    Returns:
        int64, sorted, each id once; and for each of ``ids`` int64 positions of its length.
    """
    everything = torch.cat(ids)
    if len(everything) == 0:
        return everything, list(ids)
    if int(everything.max()) < _INT32:
        everything = everything.to(torch.int32)  # half the bytes to sort
    # looking every id up in the sorted union takes several times as long as sorting
    values, order = torch.sort(everything)
    first = torch.ones(len(values), dtype=torch.bool)
    torch.ne(values[1:], values[:-1], out=first[1:])
    rank = torch.cumsum(first, 0).sub_(1)
    place = torch.empty_like(rank).index_copy_(0, order, rank)
    return values[first].to(torch.int64), list(torch.split(place, [len(each) for each in ids]))
