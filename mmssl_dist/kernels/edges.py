"""Edges of sampled rows: weights of a draw, whole neighbourhoods, and the transpose of a block."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mmssl_dist.errors import MmsslError
from mmssl_dist.kernels.bits import ONE
from mmssl_dist.kernels.compiling import kernel, run_in_pieces
from mmssl_dist.kernels.read_ahead import ROWS_AHEAD, prefetch

_LEAST_ROWS = 1 << 11  # of a thread
_MOST_EDGES = 2**31 - 1  # of a block, whose offsets are int32
_IDS_A_LINE, _WEIGHTS_A_LINE = 8, 16  # in a cache line of 64 bytes: int64 and float32
_EDGES_AHEAD = np.uint64(64)


def drawn_weights(indptr: Tensor, weight: Tensor, rows: Tensor, counts: Tensor, edges: Tensor) -> Tensor:
    """float32 [E], the weight of each of ``edges`` times its row's degree / count.

    Args:
        indptr: int64 [n + 1]. weight: float32, of all edges. rows: int64 [k], the drawn rows.
        counts: int64 [k], edges drawn of each row. edges: int64 [sum(counts)], row by row.
    """
    if rows.device.type != "cpu":
        return drawn_weights_plain(indptr=indptr, weight=weight, rows=rows, counts=counts, edges=edges)
    out = torch.empty(len(edges), dtype=torch.float32)
    _scale(*(x.contiguous().numpy() for x in (indptr, weight, rows, counts, edges, out)))
    return out


def drawn_weights_plain(
    indptr: Tensor, weight: Tensor, rows: Tensor, counts: Tensor, edges: Tensor
) -> Tensor:
    """``drawn_weights`` in torch."""
    degrees = indptr.index_select(0, rows + 1) - indptr.index_select(0, rows)
    # Rows without an edge have count 0; nothing is scaled by theirs, but 0 / 0 would be NaN.
    scale = degrees.to(torch.float32).div_(counts.clamp(min=1))
    return weight.index_select(0, edges) * torch.repeat_interleave(scale, counts, output_size=len(edges))


def neighbourhoods(
    indptr: Tensor, neighbours: Tensor, weight: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Every edge of the rows [k]: counts int64 [k], nodes int64 and weights float32 [sum(counts)]."""
    if rows.device.type != "cpu":
        return neighbourhoods_plain(indptr, neighbours, weight, rows)
    starts = indptr.index_select(0, rows)
    counts = indptr.index_select(0, rows + 1).sub_(starts)
    ends = torch.cumsum(counts, 0)
    total = int(ends[-1]) if len(ends) else 0
    nodes, weights = torch.empty(total, dtype=torch.int64), torch.empty(total)
    arrays = [x.numpy() for x in (starts, counts, ends, neighbours, weight, nodes, weights)]
    run_in_pieces(len(rows), _LEAST_ROWS, lambda a, b: _copy_lists(*arrays, a, b))
    return counts, nodes, weights


def neighbourhoods_plain(
    indptr: Tensor, neighbours: Tensor, weight: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """``neighbourhoods`` in torch."""
    starts = indptr.index_select(0, rows)
    counts = indptr.index_select(0, rows + 1) - starts
    total = int(counts.sum())
    first = torch.cumsum(counts, 0) - counts
    shift = torch.repeat_interleave(starts - first, counts, output_size=total)
    edges = torch.arange(total, device=rows.device) + shift
    return counts, neighbours.index_select(0, edges).to(torch.int64), weight.index_select(0, edges)


def transpose(
    indptr: Tensor, source: Tensor, weight: Tensor, num_source: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The CSR matrix [n, num_source] by columns: indptr int32 [num_source + 1], rows int32 [E], weights [E].

    Edges of one column stay in the order of their rows, so that sums over them always run alike.

    Args:
        indptr: int32 [n + 1]. source: int32 [E]. weight: float32 [E].
    """
    if source.device.type != "cpu":
        return transpose_plain(indptr, source, weight, num_source)
    ends = torch.empty(num_source + 1, dtype=torch.int32)
    rows, weights = torch.empty_like(source), torch.empty_like(weight)
    arrays = [x.contiguous().numpy() for x in (indptr, source, weight)]
    # Checked inside the kernel: a position out of range would write beyond the arrays.
    if _turn(*arrays, ends.numpy(), rows.numpy(), weights.numpy()):
        raise MmsslError(f"A block's source position is outside of 0 to {num_source - 1}.")
    return ends, rows, weights


def transpose_plain(
    indptr: Tensor, source: Tensor, weight: Tensor, num_source: int
) -> tuple[Tensor, Tensor, Tensor]:
    """``transpose`` in torch: a stable sort by column."""
    # Stable, so that edges of one column stay in the order of their rows, as the compiled one leaves them.
    columns, order = torch.sort(source, stable=True)
    device, count = source.device, len(indptr) - 1
    rows = torch.repeat_interleave(
        torch.arange(count, dtype=torch.int32, device=device), indptr.diff(), output_size=len(source)
    )
    ends = torch.searchsorted(
        columns, torch.arange(num_source + 1, dtype=torch.int32, device=device), out_int32=True
    )
    return ends, rows.index_select(0, order), weight.index_select(0, order)


def row_ends(counts: Tensor) -> Tensor:
    """int32 [k + 1], 0 and the running sum of ``counts``, an indptr.

    Raises:
        MmsslError: there are more edges than a block may have.
    """
    ends = torch.cumsum(counts, 0)
    if len(counts) and counts.device.type == "cpu" and int(ends[-1]) > _MOST_EDGES:
        raise MmsslError(
            f"A batch has a block of {int(ends[-1])} edges; at most {_MOST_EDGES} are possible. "
            "Lower training.batch_size or training.fanout, or use more workers."
        )
    return torch.nn.functional.pad(ends.to(torch.int32), (1, 0))


@kernel("void(int64[::1], float32[::1], int64[::1], int64[::1], int64[::1], float32[::1])")
def _scale(
    indptr: np.ndarray,
    weight: np.ndarray,
    rows: np.ndarray,
    counts: np.ndarray,
    edges: np.ndarray,
    out: np.ndarray,
) -> None:
    edge, drawn = np.uint64(0), np.uint64(len(edges))
    for i in range(len(rows)):
        degree, count = indptr[rows[i] + 1] - indptr[rows[i]], counts[i]
        scale = np.float32(degree) / np.float32(max(count, 1))
        last = min(edge + np.uint64(count), drawn)
        while edge < last:
            prefetch(weight, edges[min(edge + _EDGES_AHEAD, drawn - ONE)])
            out[edge] = weight[np.uint64(edges[edge])] * scale
            edge += ONE


_COPY = (
    "void(int64[::1], int64[::1], int64[::1], {}[::1], float32[::1], int64[::1], float32[::1], int64, int64)"
)


@kernel(_COPY.format("int64"), _COPY.format("int32"))
def _copy_lists(
    starts: np.ndarray,
    counts: np.ndarray,
    ends: np.ndarray,
    neighbours: np.ndarray,
    weight: np.ndarray,
    nodes: np.ndarray,
    weights: np.ndarray,
    first: int,
    last: int,
) -> None:
    if first == last:
        return
    # unsigned indices, so that loops need not look for negative ones
    at = np.uint64(ends[first] - counts[first])
    for i in range(first, last):
        ahead = min(i + ROWS_AHEAD, last - 1)
        for k in range(0, counts[ahead], _IDS_A_LINE):
            prefetch(neighbours, starts[ahead] + k)
        for k in range(0, counts[ahead], _WEIGHTS_A_LINE):
            prefetch(weight, starts[ahead] + k)
        start, count = np.uint64(starts[i]), np.uint64(counts[i])
        for k in range(count):
            nodes[at + k] = neighbours[start + k]
        for k in range(count):
            weights[at + k] = weight[start + k]
        at += count


@kernel("boolean(int32[::1], int32[::1], float32[::1], int32[::1], int32[::1], float32[::1])")
def _turn(
    indptr: np.ndarray,
    source: np.ndarray,
    weight: np.ndarray,
    ends: np.ndarray,
    rows: np.ndarray,
    weights: np.ndarray,
) -> bool:
    # unsigned indices, so that loops need not look for negative ones
    columns, edges = np.uint64(len(ends) - 1), np.uint64(len(source))
    largest = np.uint32(0)
    for edge in range(edges):
        largest = max(largest, np.uint32(source[edge]))
    if edges > 0 and largest >= columns:
        return True
    ends[:] = 0
    for edge in range(edges):
        ends[np.uint64(np.uint32(source[edge])) + ONE] += 1
    total = 0
    for i in range(columns):
        total += ends[i + ONE]
        ends[i + ONE] = total
    # Filled row by row, so edges of a column end up in the order of their rows.
    at = ends[:-1].copy()
    position = np.uint64(0)
    for row in range(np.uint64(len(indptr) - 1)):
        last = np.uint64(indptr[row + ONE])
        while position < last:
            column = np.uint64(np.uint32(source[position]))
            slot = np.uint64(np.uint32(at[column]))
            at[column] = slot + ONE
            rows[slot] = row
            weights[slot] = weight[position]
            position += ONE
    return False
