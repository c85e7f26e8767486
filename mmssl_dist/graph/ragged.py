"""Rows of different lengths, kept one after the other in one array."""

from __future__ import annotations

import torch
from torch import Tensor


def ragged_range(starts: Tensor, counts: Tensor) -> Tensor:
    """start, start + 1, ..., start + count - 1 of each row, one after another.

    Args:
        starts, counts: int64 [k].

    Returns:
        int64 [sum(counts)]
    """
    first = torch.cumsum(counts, 0) - counts
    total = int(counts.sum())
    shift = torch.repeat_interleave(starts - first, counts, output_size=total)
    return torch.arange(total, device=starts.device) + shift
