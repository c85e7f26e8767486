"""Sampled lists as replies of fixed size: what is asked for is known to both ends before it is drawn, so no
message has to say how long the lists are."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mmssl_dist.kernels.compiling import kernel, run_in_pieces

_LEAST_ROWS = 1 << 12  # of a thread
_NOBODY = -1  # in a slot that a short list leaves empty


def pad_lists(
    counts: Tensor, nodes: Tensor, weights: Tensor, *, lists: Tensor, width: int, wire: torch.dtype
) -> Tensor:
    """The lists ``lists`` [n] of those given, as [n, width, 2]: node ids and the bits of their weights.

    Args:
        counts: int64 [k], none above ``width``. nodes: int64, weights: float32, [sum(counts)], list by list.
        lists: int64, which lists go out, in this order.
        wire: int32 or int64, the result's type; every node id fits.
    """
    if nodes.device.type != "cpu" or wire != torch.int32:
        return pad_lists_plain(counts, nodes, weights, lists=lists, width=width, wire=wire)
    out = torch.empty(len(lists), width, 2, dtype=torch.int32)
    ends = torch.cumsum(counts, 0)
    arrays = [x.contiguous().numpy() for x in (counts, ends, nodes, weights.view(torch.int32), lists, out)]
    run_in_pieces(len(lists), _LEAST_ROWS, lambda a, b: _pad(*arrays, a, b))
    return out


def pad_lists_plain(
    counts: Tensor, nodes: Tensor, weights: Tensor, *, lists: Tensor, width: int, wire: torch.dtype
) -> Tensor:
    """``pad_lists`` in torch."""
    out = torch.full((len(counts), width, 2), _NOBODY, dtype=wire, device=nodes.device)
    filled = torch.arange(width, device=nodes.device) < counts.unsqueeze(1)
    out[filled] = torch.stack([nodes.to(wire), weights.view(torch.int32).to(wire)], 1)
    # One copy at the end: several requesters may get the same list.
    return out.index_select(0, lists)


def unpad_lists(padded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Counts int64 [n], nodes int64 and weights float32 of what ``pad_lists`` made."""
    if padded.device.type != "cpu" or padded.dtype != torch.int32:
        return unpad_lists_plain(padded)
    slots, counts = padded.contiguous().numpy(), torch.empty(len(padded), dtype=torch.int64)
    total = _count(slots, counts.numpy())
    nodes, bits = torch.empty(total, dtype=torch.int64), torch.empty(total, dtype=torch.int32)
    _unpad(slots, counts.numpy(), nodes.numpy(), bits.numpy())
    return counts, nodes, bits.view(torch.float32)


def unpad_lists_plain(padded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``unpad_lists`` in torch."""
    filled = padded[:, :, 0] != _NOBODY
    entries = padded[filled]
    bits = entries[:, 1].to(torch.int32).contiguous()
    return filled.sum(1), entries[:, 0].to(torch.int64), bits.view(torch.float32)


@kernel(
    "void(int64[::1], int64[::1], int64[::1], int32[::1], int64[::1], int32[:, :, ::1], int64, int64)",
)
def _pad(
    counts: np.ndarray,
    ends: np.ndarray,
    nodes: np.ndarray,
    bits: np.ndarray,
    lists: np.ndarray,
    out: np.ndarray,
    first: int,
    last: int,
) -> None:
    for i in range(first, last):
        count = counts[lists[i]]
        at = ends[lists[i]] - count
        for k in range(count):
            out[i, k, 0] = nodes[at + k]
            out[i, k, 1] = bits[at + k]
        for k in range(count, out.shape[1]):
            out[i, k, 0] = _NOBODY
            out[i, k, 1] = _NOBODY


@kernel("int64(int32[:, :, ::1], int64[::1])")
def _count(padded: np.ndarray, counts: np.ndarray) -> int:
    total = 0
    for i in range(len(padded)):
        count = padded.shape[1]  # lists fill their slots from the first on
        while count > 0 and padded[i, count - 1, 0] == _NOBODY:
            count -= 1
        counts[i] = count
        total += count
    return total


@kernel("void(int32[:, :, ::1], int64[::1], int64[::1], int32[::1])")
def _unpad(padded: np.ndarray, counts: np.ndarray, nodes: np.ndarray, bits: np.ndarray) -> None:
    at = 0
    for i in range(len(padded)):
        for k in range(counts[i]):
            nodes[at + k] = padded[i, k, 0]
            bits[at + k] = padded[i, k, 1]
        at += counts[i]
