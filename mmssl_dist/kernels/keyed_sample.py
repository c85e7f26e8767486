"""Fanout without replacement as a function of (key, node): in equal bits on any device and for any number of
workers.

Floyd's algorithm (Bentley and Floyd, A Sample of Brilliance, CACM 1987) for k of d neighbours: slot j draws t
from 0 .. d - k + j, and takes d - k + j itself where an earlier slot has t. Every set of k neighbours is as
likely as any other, but for d / 2^32 by which a draw from 32 bits is uneven.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmssl_dist.kernels import splitmix
from mmssl_dist.kernels.bits import GOLDEN, ONE, splitmix64
from mmssl_dist.kernels.compiling import helper, kernel, run_in_pieces
from mmssl_dist.kernels.keyed import mix_words, shift_right, signed
from mmssl_dist.kernels.read_ahead import prefetch
from mmssl_dist.kernels.splitmix import WORD

_LEAST_ROWS = 1 << 10  # of a thread
_GOLDEN = signed(splitmix.GOLDEN)
_S32, _LOW6 = np.uint64(32), np.uint64(63)
_ROWS_AT_ONCE = np.uint64(32)  # whose draws are made before the first of their edges is read


def sample_rows(
    key: int, lists: tuple[Tensor, Tensor, Tensor], rows: Tensor, first_node: int, fanout: int
) -> tuple[Tensor, Tensor, Tensor]:
    """At most ``fanout`` neighbours of each of the rows [k].

    Args:
        key: of 63 bits.
        lists: indptr int64 [n + 1], neighbours int64 or int32 [E], weights float32 [E].
        rows: int64 [k], in any order; equal rows draw alike.
        first_node: node id of row 0. fanout: at least 1.

    Returns:
        counts int64 [k]; nodes int64 and weights float32 [sum(counts)], an edge's weight times its row's
        degree / count.
    """
    if rows.device.type != "cpu":
        return sample_rows_plain(key=key, lists=lists, rows=rows, first_node=first_node, fanout=fanout)
    indptr, neighbours, weight = lists
    starts = indptr.index_select(0, rows)
    degrees = indptr.index_select(0, rows + 1).sub_(starts)
    counts = degrees.clamp(max=fanout)
    ends = torch.cumsum(counts, 0)
    total = int(ends[-1]) if len(ends) else 0
    nodes, weights = torch.empty(total, dtype=torch.int64), torch.empty(total)
    arrays = [x.contiguous().numpy() for x in (starts, degrees, ends, neighbours, weight, rows)]
    out = nodes.numpy(), weights.numpy()
    word = np.uint64(key & WORD)
    run_in_pieces(len(rows), _LEAST_ROWS, lambda a, b: _draw(word, *arrays, first_node, fanout, *out, a, b))
    return counts, nodes, weights


def sample_rows_plain(
    key: int, lists: tuple[Tensor, Tensor, Tensor], rows: Tensor, first_node: int, fanout: int
) -> tuple[Tensor, Tensor, Tensor]:
    """``sample_rows`` in torch: slots side by side, so a comparison for every two slots and no sort."""
    indptr, neighbours, weight = lists
    starts = indptr.index_select(0, rows)
    degrees = indptr.index_select(0, rows + 1) - starts
    counts = degrees.clamp(max=fanout)
    slots = torch.arange(fanout, device=rows.device).unsqueeze(1)
    # By node id, not by local row: a node draws alike whichever worker owns it.
    state = mix_words(((rows + first_node) * _GOLDEN).bitwise_xor_(signed(key)))
    bits = shift_right(mix_words(((slots + 1) * _GOLDEN).bitwise_xor(state)), 32)  # [fanout, k]
    top = (degrees - fanout) + slots
    drawn = shift_right(bits * (top + 1).clamp(min=0), 32)
    # In order: a slot is compared with what earlier slots ended up with, replacements included.
    for slot in range(1, fanout):
        taken = (drawn[:slot] == drawn[slot]).any(0)
        drawn[slot] = torch.where(taken, top[slot], drawn[slot])
    chosen = torch.where(degrees <= fanout, slots, drawn).add_(starts)
    edges = chosen.T[slots.T < counts.unsqueeze(1)]
    scale = degrees.to(torch.float32).div_(counts.clamp(min=1))
    weights = weight.index_select(0, edges)
    weights.mul_(torch.repeat_interleave(scale, counts, output_size=len(edges)))
    return counts, neighbours.index_select(0, edges).to(torch.int64), weights


@helper
def _choose(state: Any, degree: Any, chosen: np.ndarray) -> None:
    """Fill ``chosen`` with distinct numbers below ``degree``, of which there are more than it has slots."""
    width = np.uint64(len(chosen))
    lowest = degree - width
    for j in range(width):
        bits = splitmix64(state ^ ((np.uint64(j) + ONE) * GOLDEN)) >> _S32
        chosen[j] = (bits * (lowest + np.uint64(j) + ONE)) >> _S32
    seen = np.uint64(0)  # the last six bits of what earlier slots have: these separate most draws
    for j in range(width):
        if seen & (ONE << (chosen[j] & _LOW6)):
            for k in range(j):
                if chosen[k] == chosen[j]:
                    chosen[j] = lowest + np.uint64(j)
                    break
        seen |= ONE << (chosen[j] & _LOW6)


_DRAW = (
    "void(uint64, int64[::1], int64[::1], int64[::1], {}[::1], float32[::1], int64[::1], int64, int64, "
    "int64[::1], float32[::1], int64, int64)"
)


@kernel(_DRAW.format("int64"), _DRAW.format("int32"))
def _draw(
    key: np.uint64,
    starts: np.ndarray,
    degrees: np.ndarray,
    ends: np.ndarray,
    neighbours: np.ndarray,
    weight: np.ndarray,
    rows: np.ndarray,
    first_node: int,
    fanout: int,
    nodes: np.ndarray,
    weights: np.ndarray,
    begin: int,
    end: int,
) -> None:
    if begin == end:
        return
    # unsigned indices, so that loops need not look for negative ones
    width, final = np.uint64(fanout), np.uint64(end)
    edges = np.empty(_ROWS_AT_ONCE * width, np.uint64)
    at = np.uint64(ends[begin] - min(degrees[begin], fanout))
    for first in range(np.uint64(begin), final, _ROWS_AT_ONCE):
        last = min(first + _ROWS_AT_ONCE, final)
        for i in range(first, last):
            chosen = edges[(i - first) * width : (i - first + ONE) * width]
            start, degree = np.uint64(starts[i]), np.uint64(degrees[i])
            if degree > width:
                state = splitmix64((np.uint64(rows[i] + first_node) * GOLDEN) ^ key)
                _choose(state, degree, chosen)
            else:
                for j in range(degree):
                    chosen[j] = j
            for j in range(min(degree, width)):
                chosen[j] += start
                prefetch(neighbours, chosen[j])
                prefetch(weight, chosen[j])
        for i in range(first, last):
            chosen = edges[(i - first) * width : (i - first + ONE) * width]
            count = min(np.uint64(degrees[i]), width)
            scale = np.float32(degrees[i]) / np.float32(max(count, ONE))
            for j in range(count):
                nodes[at + j] = neighbours[chosen[j]]
            for j in range(count):
                weights[at + j] = weight[chosen[j]] * scale
            at += count
